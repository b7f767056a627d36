"""Files of numbers, written whole or not at all."""

from __future__ import annotations

import errno
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from napari_neural_style.whole import FULL, part_of, rename

_FULL_ON_WINDOWS = {39, 112}
"""Windows' own numbers, ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous tensors that share no memory, as safetensors; the folder is made if it is not there.

    One writer at a time for a path.

    Raises
    ------
    OSError
        If they cannot be written, with the system's number for a full disk.
    """
    # safetensors writes to a file of its own beside the one it is given, and leaves it there when it is killed.
    folder = part_of(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        save_file(dict(tensors), folder / path.name, dict(metadata))
        rename(folder / path.name, path)
    except SafetensorError as error:
        # It says in words only what the system said: "(os error 28)", in older versions "code: 28".
        codes = [int(code) for code in re.findall(r"(?:os error|code:) (\d+)", str(error))]
        full = not (_FULL_ON_WINDOWS if sys.platform == "win32" else FULL).isdisjoint(codes)
        raise OSError(errno.ENOSPC if full else errno.EIO, f"{path} cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
