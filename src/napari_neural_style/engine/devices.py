"""Which devices there are and what they can do."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import torch

from napari_neural_style.engine.quantized import has_int8_products


def available_devices() -> dict[str, str]:
    """Return every device that could be named, with an empty string or the reason why it cannot be used.

    Which generation a GPU is of is known once PyTorch uses GPUs; until then all count as usable.
    """
    found = {}
    if torch.cuda.is_available():
        known = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        found.update({f"cuda:{i}": _why_not(i) if known else "" for i in range(torch.cuda.device_count())})
    elif torch.version.cuda is None and torch.version.hip is None:
        found["cuda"] = "this PyTorch was built without CUDA"
    else:
        found["cuda"] = "no GPU or driver was found"
    if torch.backends.mps.is_available():
        found["mps"] = ""
    elif not torch.backends.mps.is_built():
        found["mps"] = "this PyTorch was built without Apple's MPS"
    else:
        found["mps"] = "this macOS or machine has no MPS"
    found["cpu"] = ""
    return found


def resolve_device(name: str) -> torch.device:
    """Return the device that a setting means; ``"auto"`` is cuda, then mps, then cpu.

    Raises
    ------
    ValueError
        If there is no such device here; the message says why.
    """
    if name.startswith(("auto", "cuda")) and torch.cuda.is_available():
        torch.cuda.init()  # type: ignore[no-untyped-call]
    found = available_devices()
    usable = [device for device, reason in found.items() if not reason]
    if name == "auto":
        return torch.device(usable[0])
    wanted = next((device for device in usable if name == "cuda" and device.startswith("cuda:")), name)
    if wanted in usable:
        return torch.device(wanted)
    kind = name.partition(":")[0]
    reason = found.get(name) or found.get(kind) or (found.get("cuda:0", "") if name == "cuda" else "")
    because = f": {reason}" if reason else ""
    raise ValueError(f"Device {name!r} cannot be used{because}. Choose auto or one of {', '.join(usable)}.")


def _why_not(gpu: int) -> str:
    """Return why this PyTorch cannot use a GPU, or nothing; the newest no longer hold code for old ones."""
    codes = torch.cuda.get_arch_list()
    if torch.version.hip is not None or not codes:
        return ""
    major, minor = torch.cuda.get_device_capability(gpu)
    for code in codes:
        kind, _, number = code.partition("_")
        version = int("".join(filter(str.isdigit, number)))
        # Machine code is for one generation and what came later in it, PTX for all that came later.
        if kind == "compute" and version <= 10 * major + minor:
            return ""
        if kind == "sm" and version // 10 == major and version % 10 <= minor:
            return ""
    return f"this PyTorch is not built for its generation, sm_{major}{minor}"


def layout_of(device: torch.device) -> torch.memory_format:
    """Return how maps lie in memory where convolutions are fast."""
    # On Apple's GPUs channels last is slow, and wrong with older versions of PyTorch.
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the arithmetic of the convolutions that a setting means on a device.

    Raises
    ------
    ValueError
        If it is ``"int8"`` and convolutions of 8-bit integers are not to be had there.
    """
    if precision == "int8" and not _fast_int8(device):
        where = (
            "this processor and PyTorch do not multiply 8-bit integers" if device.type == "cpu" else "it is for CPUs"
        )
        raise ValueError(
            f"Precision int8 cannot be used on {device}: {where}. Choose auto, bfloat16 or float32; "
            "a recorded picture then comes out a little different."
        )
    if precision == "auto":
        precision = "bfloat16" if _fast_bfloat16(device) else "int8" if _fast_int8(device) else "float32"
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def cpu_bfloat16() -> tuple[bool, bool]:
    """Return whether bfloat16 is multiplied in the processor's vector units, and in its matrix units."""
    # Private names, the only ones there are; without them float32 is the safe answer.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    vector, matrix = (bool(getattr(torch.cpu, name, lambda: False)()) for name in names)
    # oneDNN may have been told not to, and then takes hundreds of times as long; on Apple's processors it is missing.
    may = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)()
    return vector and may, matrix and may


def float32_products_lag() -> bool:
    """Tell whether matrix products of float32 run at half the rate of convolutions.

    PyTorch leaves them to MKL, which uses half of what AMD's processors with AVX-512 can do.
    """
    return cpu_bfloat16() == (True, False) and not made_by_intel()


@functools.cache
def made_by_intel() -> bool:
    """Tell whether the processor is Intel's, as MKL is, which multiplies matrices for PyTorch on the CPU."""
    if platform.system() == "Windows":
        return "GenuineIntel" in platform.processor()  # "Intel64 Family 6 Model 186 Stepping 2, GenuineIntel"
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False


def _fast_int8(device: torch.device) -> bool:
    return device.type == "cpu" and has_int8_products()


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    vector, matrix = cpu_bfloat16()
    # In the vector units of Intel's processors bfloat16 has half the rate of float32, of AMD's twice.
    return device.type == "cpu" and (matrix or (vector and not made_by_intel()))
