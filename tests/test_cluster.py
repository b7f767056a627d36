from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from unittest.mock import patch

import numpy as np
import psutil
import pytest
import tifffile
import torch
from PIL import Image

pytest.importorskip("distributed")
from distributed import Client, LocalCluster

from napari_neural_style import cluster
from napari_neural_style.batch import Batch
from napari_neural_style.cli import main
from napari_neural_style.cluster import cluster_at, gpu_of, local_cluster
from napari_neural_style.ledger import NAME
from napari_neural_style.workers import Here, WorkersError
from test_batch_cli import QUICK, made_in

pytestmark = pytest.mark.usefixtures("one_thread", "learned")


@pytest.fixture(autouse=True)
def environment():
    """Dask leaves its workers' environment, with their number of threads, in this process too."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="module", autouse=True)
def another_dask():
    """The port that Dask's dashboard takes is taken already."""
    with socket.socket() as port:
        with contextlib.suppress(OSError):
            port.bind(("", 8787))
            port.listen()
        yield


@pytest.fixture
def files(tmp_path, pair, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        Image.fromarray(pair[0][number * 8 : number * 8 + 40, :48]).save(tmp_path / f"{number}.png")
    Image.fromarray(pair[1]).save(tmp_path / "oil.png")
    stack = np.stack([pair[0][20:52, 10 + t : 50 + t] for t in range(4)]).reshape(2, 2, 32, 40, 3)[..., 0]
    tifffile.imwrite(tmp_path / "movie.tif", stack, imagej=True, photometric="minisblack", metadata={"axes": "TZYX"})
    return tmp_path


@pytest.fixture
def tiny(quick):
    return dataclasses.replace(quick, size=32, steps=4)


def begun(files, settings, name):
    folder = files / name
    folder.mkdir()
    batch = Batch([files / "oil.png"], settings)
    batch.plan([files / "0.png", files / "movie.tif", files / "1.png", files / "2.png"], folder)
    return batch


def serial(files, settings):
    outcomes = list(begun(files, settings, "serial").run(Here()))
    assert not any(outcome.failure for outcome in outcomes)
    return made_in(files / "serial")


def test_two_workers_give_the_same_files_as_none_and_tell_what_fails(files, tiny):
    expected = serial(files, tiny)
    batch = begun(files, tiny, "out")
    with local_cluster(2, [0, 1]) as workers:
        # Each has a GPU and half the cores of its own.
        assert sorted(workers._client.run(os.getenv, "CUDA_VISIBLE_DEVICES").values()) == ["0", "1"]
        assert set(workers._client.run(torch.get_num_threads).values()) == {max(1, os.cpu_count() // 2)}
        workers._client.run(torch.set_num_threads, 1)
        outcomes = list(batch.run(workers))
        (files / "1.png").write_bytes(b"broken")
        failures = [outcome.failure for outcome in begun(files, tiny, "again").run(workers) if outcome.failure]
    assert [outcome.failure for outcome in outcomes] == [""] * 7
    assert made_in(files / "out") == expected
    assert len(failures) == 1
    assert "1.png" in failures[0]


def test_a_worker_that_is_killed_loses_nothing(files, tiny):
    batch = begun(files, tiny, "out")
    with local_cluster(1, []) as workers:
        (before,) = workers._client.run(os.getpid).values()
        outcomes = []
        for outcome in batch.run(workers):
            outcomes.append(outcome)
            if len(outcomes) == 2:
                psutil.Process(before).kill()
        (after,) = workers._client.run(os.getpid).values()
    assert after != before
    assert [outcome.failure for outcome in outcomes] == [""] * 7
    torch.set_num_threads(os.cpu_count() or 1)
    assert made_in(files / "out") == serial(files, tiny)


@pytest.fixture
def scheduler():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as found:
        yield found.scheduler_address


from_another_process = pytest.mark.skipif(sys.platform == "win32", reason="no other process can press Ctrl-C there")


@from_another_process
def test_ctrl_c_stops_what_the_cluster_does(files, scheduler):
    command = [sys.executable, "-m", "napari_neural_style", "batch", "0.png", "1.png", "2.png", "--style", "oil.png",
               "-o", "out", "--scheduler", scheduler, *QUICK, "--steps", "1000000"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with Client(scheduler, set_as_default=False) as client:

        def executing() -> int:
            return sum(client.run(lambda dask_worker: len(dask_worker.state.executing)).values())

        deadline = time.monotonic() + 100
        while not executing() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        assert process.returncode in (130, -signal.SIGINT), error
        assert b"Traceback" not in error
        while executing() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not executing()
        assert not any(client.processing().values())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("sys.modules['napari_neural_style'] = None", "cannot import napari_neural_style .* on every worker"),
        ("import napari_neural_style; napari_neural_style.__version__ = '0.0.1'", r"has napari-neural-style 0\.0\.1"),
    ],
)
def test_a_worker_without_this_package_gets_a_sentence(fault, words):
    with LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as found:
        code = f"import sys; {fault}; from distributed.cli.dask_worker import main; main()"
        worker = subprocess.Popen(
            [sys.executable, "-c", code, found.scheduler_address, "--no-nanny", "--no-dashboard", "--nthreads", "1"],
            stderr=subprocess.PIPE,
        )
        try:
            with Client(found, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)
            with pytest.raises(WorkersError, match=words), cluster_at(found.scheduler_address):
                pass
        finally:
            worker.terminate()
            worker.communicate(timeout=30)


def test_no_scheduler_and_no_distributed_get_a_sentence(files, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    arguments = ["batch", "0.png", "--style", "oil.png", "-o", "out", *QUICK]
    assert main([*arguments, "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "No Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert main([*arguments, "--scheduler", "tcp://127.0.0.1:9", "--workers", "2"]) == 2
    assert "cannot be combined with" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main([*arguments, "--workers", "2"]) == 2
    assert 'pip install "napari-neural-style[cluster]"' in capsys.readouterr().err


@from_another_process
def test_ctrl_c_in_a_terminal_ends_the_workers_too(files):
    """There the workers get the signal as well."""
    command = [sys.executable, "-m", "napari_neural_style", "batch", "0.png", "1.png", "--style", "oil.png",
               "-o", "out", "--workers", "2", *QUICK, "--steps", "1000000"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    while not (files / "out" / NAME).is_file() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(2)
    group = os.getpgid(process.pid)
    os.killpg(group, signal.SIGINT)
    try:
        _, error = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(group, signal.SIGKILL)
        raise
    assert process.returncode in (130, -signal.SIGINT), error
    assert b"Traceback" not in error
    deadline = time.monotonic() + 30
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.1)


def test_which_gpu_a_worker_has():
    assert [gpu_of(number, [0, 1], None) for number in range(4)] == ["0", "1", "0", "1"]
    assert [gpu_of(number, [0, 1], "3,5") for number in range(3)] == ["3", "5", "3"]
    assert [gpu_of(number, [1, 2], "3,5,7") for number in range(3)] == ["5", "7", "5"]  # the first is too old
