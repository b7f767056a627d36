from __future__ import annotations

import threading

import psutil
import pytest

from napari_neural_style.engine.allocator import _glibc, kept_memory

resource = pytest.importorskip("resource", reason="Windows counts no page faults")
PAGES = 40 * 2**20 // resource.getpagesize()


@pytest.mark.skipif(_glibc() is None, reason="only glibc is told to keep memory")
@pytest.mark.parametrize("threaded", [False, True])
def test_freed_blocks_stay_while_a_run_lasts_and_go_back_after_it(threaded):
    faults, bytes_held = [], []
    resident = psutil.Process().memory_info

    def run() -> None:
        with kept_memory():
            for _ in range(5):
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                blocks = [bytearray(b"1") * (40 * 2**20) for _ in range(3)]
                del blocks
                faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
            bytes_held.append(resident().rss)
        bytes_held.append(resident().rss)

    if threaded:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        run()
    assert max(faults[1:]) < PAGES / 10
    during, after = bytes_held
    assert after < during - 30 * 2**20
