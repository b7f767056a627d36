"""PyTorch, loaded so that the window does not stand still meanwhile."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from napari_neural_style.viewer.garbage import lasting

if TYPE_CHECKING:
    from napari_neural_style.viewer.worker import Report


def load_pytorch(report: Report) -> None:
    """Import it, if it is not there."""
    report("Loading PyTorch…", 0.0)
    if "torch" not in sys.modules:
        with lasting():
            import napari_neural_style.engine  # says how threads wait, which is read when libraries are loaded

            load_libraries()
            import napari_neural_style.engine.transfer  # noqa: F401


def load_libraries() -> None:
    """Load what ``import torch`` is about to, but for what knows of Python, without holding up other threads.

    Python holds its lock for the fifth of a second that it takes to load a module's libraries. A function of the system
    is called without it, and what is loaded already takes no time. Where anything is missing, the import says so.
    Windows has no such function: nothing is loaded there.
    """
    torch = find_spec("torch")
    if sys.platform == "win32" or torch is None or torch.origin is None:
        return
    suffix = "dylib" if sys.platform == "darwin" else "so"
    load = ctypes.CDLL(None).dlopen
    load.restype = ctypes.c_void_p
    # In the order and the ways of the import; all others come with these two.
    for name, mode in (("libtorch_global_deps", os.RTLD_GLOBAL), ("libtorch", os.RTLD_LOCAL)):
        path = Path(torch.origin).with_name("lib") / f"{name}.{suffix}"
        if path.is_file():
            load(bytes(path), os.RTLD_NOW | mode)
