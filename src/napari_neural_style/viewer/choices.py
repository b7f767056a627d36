"""What there is to choose from on this machine, told without importing torch."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_neural_style.cache import pretrained_path


def features_choices(widget: Any = None) -> list[tuple[str, str]]:
    """Return (label, value) of the feature sources, with what is on disk."""
    on_disk = pretrained_path().is_file()
    now = "pretrained" if on_disk else "self-taught"
    return [
        (f"auto ({now})", "auto"),
        (f"pretrained ({'on disk' if on_disk else 'missing'})", "pretrained"),
        ("self-taught", "self-taught"),
        ("file…", "file"),
    ]


def device_choices(widget: Any = None) -> list[tuple[str, str]]:
    """Return (label, value) of the devices, with why one cannot be used."""
    found = [("auto", "auto"), ("cpu", "cpu")]
    reasons = {device: why_not(device) for device in ("cuda", "mps")}
    known = _known() or {}
    reasons |= {name: known[name] for name in known if name.startswith("cuda:") and name != "cuda:0"}
    return found + [(f"{name} ({reason})" if reason else name, name) for name, reason in reasons.items()]


def offered(device: str) -> str:
    """Return the device of the choices that serves for any: the first GPU for another that is not there, else auto."""
    if device in (value for _, value in device_choices()):
        return device
    kind = device.partition(":")[0]
    return kind if kind == "cuda" and not why_not(kind) else "auto"


def why_not(device: str) -> str:
    """Return why a device cannot be used, or nothing; once the engine is loaded, what torch says."""
    found = _known()
    if found is None:
        return _probed(device)
    return min((reason for name, reason in found.items() if name.partition(":")[0] == device), default="not there")


def _known() -> dict[str, str] | None:
    """Return what torch says of the devices, None before the engine is loaded."""
    # Its functions are there only when torch's import, perhaps on another thread, is over.
    available = getattr(sys.modules.get("napari_neural_style.engine.devices"), "available_devices", None)
    found: dict[str, str] | None = None if available is None else available()
    return found


@cache
def _probed(device: str) -> str:
    """Return why a device cannot be used, as far as can be told without torch."""
    if device == "mps":
        apple = sys.platform == "darwin" and platform.machine() == "arm64"
        return "" if apple else "Apple GPUs only"
    if device == "cuda":
        if not _built_with_cuda():
            return "this PyTorch was built without CUDA"
        try:
            ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        except OSError:
            return "no NVIDIA driver found"
    return ""


def _built_with_cuda() -> bool:
    """Tell what PyTorch's own file says: by the package's version pip's on Windows would have CUDA too."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None:
        return False
    said = Path(torch.origin).with_name("version.py").read_text(encoding="utf-8")
    return re.search("^cuda.*= '", said, re.MULTILINE) is not None
