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


# With Qt comes a C++ library of Microsoft's, with PyQt6 before 6.11 often one of 2020; a process has one for all, and
# PyTorch from 2.9 on needs one of 2024 or later.
_ON_WINDOWS = (
    " Usually the C++ library that came with Qt or Windows is too old for it. Update both, with `pip install --upgrade "
    "PyQt6 PyQt6-Qt6` (or PySide6) and https://aka.ms/vs/17/release/vc_redist.x64.exe, and start napari again."
    if sys.platform == "win32"
    else ""
)


def load_pytorch(report: Report) -> None:
    """Import it, if it is not there."""
    report("Loading PyTorch…", 0.0)
    if "torch" not in sys.modules:
        with lasting():
            import napari_neural_style.engine  # says how threads wait, which is read when libraries are loaded

            load_libraries()
            try:
                import napari_neural_style.engine.transfer  # noqa: F401
            except OSError as error:
                raise ImportError(f"PyTorch cannot be loaded: {error}{_ON_WINDOWS}") from error


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
