"""PyTorch's shared libraries, loaded so that the window does not stand still meanwhile."""

from __future__ import annotations

import ctypes
import sys
from importlib.util import find_spec
from os import RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW
from pathlib import Path

_MODES = {"libtorch_global_deps": RTLD_GLOBAL, "libtorch": RTLD_LOCAL}
"""Of what ``import torch`` loads, in its order and ways, all that knows nothing of Python; others come with them."""


def load_libraries() -> None:
    """Load what ``import torch`` is about to, without holding up other threads.

    Python holds its lock for the fifth of a second that it takes to load a module's libraries. A function of the system
    is called without it, and what is loaded already takes no time. Where anything is missing, the import says so.
    """
    torch = find_spec("torch")
    if torch is None or torch.origin is None:
        return
    suffix = "dylib" if sys.platform == "darwin" else "so"
    load = ctypes.CDLL(None).dlopen
    load.restype = ctypes.c_void_p
    for name, mode in _MODES.items():
        path = Path(torch.origin).with_name("lib") / f"{name}.{suffix}"
        if path.is_file():
            load(bytes(path), RTLD_NOW | mode)
