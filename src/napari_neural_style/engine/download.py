"""Fetch the pretrained VGG-19 once, check it, and keep its convolutions."""

from __future__ import annotations

import contextlib
import errno
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from napari_neural_style.cache import pretrained_path
from napari_neural_style.engine.fetch import DownloadError, Received, fetch, is_safe
from napari_neural_style.engine.tensors import write_tensors
from napari_neural_style.engine.vgg import fingerprint_of
from napari_neural_style.engine.weights import TORCHVISION_INDEX, features_from_file, is_whole
from napari_neural_style.settings import LAYERS
from napari_neural_style.whole import FULL

__all__ = ["DownloadError", "download_pretrained"]

LOCK = ".download.lock"


def download_pretrained(received: Received | None = None, url: str | None = None) -> Path:
    """Download torchvision's VGG-19 and keep its sixteen convolutions in the cache folder, unless they are there.

    One process downloads at a time; the others wait and find the file there. What was received before a cut, a stop or
    a kill is kept in a hidden file, and the next call goes on from it.

    Parameters
    ----------
    received : callable, optional
        Called with the bytes received and expected (0 if unknown) after every piece; what it raises ends the
        download.
    url : str, optional
        Another address of the same file; its name ends in the first digits of its SHA-256, as torch.hub's do.

    Returns
    -------
    Path
        The safetensors file. It appears under this name whole or not at all.

    Raises
    ------
    DownloadError
        If the network, the server, the disk or the file's hash fails; the message says which.
    """
    url = url or torchvision_url()
    expected = hash_in(url)
    if not expected or not is_safe(url):
        raise DownloadError(
            f"{url} must be an https address of a file whose name contains its hash, such as vgg19-dcbb9e9d.pth."
        )
    target = pretrained_path()
    part = target.with_name(f".vgg19-{expected}.pth.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.open("ab").close()  # where no file can be made, the lock waits for ever
        with _alone(target.parent, received):
            try:
                part.touch()  # whoever was waited for may have removed it
                if not target.is_file() or not is_whole(target):
                    digest = _fetched(url, expected, part, received)
                    _keep_convolutions(part, target, digest)
                part.unlink(missing_ok=True)
            finally:
                with contextlib.suppress(OSError):
                    if not part.stat().st_size:
                        part.unlink()
    except DownloadError:
        raise
    except OSError as error:
        if error.errno in FULL:
            part.unlink(missing_ok=True)  # what came must not be what fills the disk
        raise DownloadError(_sentence(error, target.parent)) from error
    return target


@contextlib.contextmanager
def _alone(folder: Path, received: Received | None) -> Iterator[None]:
    """Wait until no other process downloads; the hold ends with the process, however that ends."""
    lock = FileLock(folder / LOCK)
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            if received is not None:
                received(0, 0)
    try:
        yield
    finally:
        lock.release()


def _fetched(url: str, expected: str, part: Path, received: Received | None) -> str:
    """Fetch the file and return its SHA-256; where an earlier part of it was no good, it is fetched anew."""
    tries = 2 if part.stat().st_size else 1
    for _ in range(tries):
        digest = fetch(url, part, received)
        if digest.startswith(expected):
            return digest
        part.unlink()
    raise DownloadError(
        f"What came from {urlsplit(url).hostname} is not the expected file (its SHA-256 begins with "
        f"{digest[: len(expected)]}, not {expected}); it was removed. Try again later."
    )


def _keep_convolutions(part: Path, target: Path, digest: str) -> None:
    try:
        features = features_from_file(part, LAYERS, "torchvision")
    except ValueError as error:
        part.unlink()
        raise DownloadError(str(error)) from error
    numbers = {}
    metadata = {"convention": "torchvision", "sha256-of-source": digest}
    for layer, (weight, bias) in features.convolutions.items():
        stem = f"features.{TORCHVISION_INDEX[layer]}"
        numbers[f"{stem}.weight"], numbers[f"{stem}.bias"] = weight.contiguous(), bias.contiguous()
        metadata[layer] = fingerprint_of({layer: (weight, bias)})
    write_tensors(target, numbers, metadata)


def _sentence(error: OSError, folder: Path) -> str:
    if error.errno in FULL:
        return f"The disk of {folder} is full: the download needs 630 MB for a moment and 80 MB afterwards."
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.ENOENT):
        return f"{folder} cannot be written to. Set NAPARI_NEURAL_STYLE_CACHE to a folder that can."
    return f"The features could not be kept in {folder}: {error}."


def torchvision_url() -> str:
    """Return the address that torchvision gives for its pretrained VGG-19.

    A process of its own asks: torchvision brings in Triton, whose LLVM crashes beside that of Mesa's software OpenGL,
    which may draw napari's canvas.

    Raises
    ------
    ImportError
        If torchvision does not fit torch; the message says what to do.
    """
    question = "from torchvision.models import VGG19_Weights; print(VGG19_Weights.IMAGENET1K_V1.url)"
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=False)
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise ImportError(
            f"torchvision cannot be loaded ({reason}). It and torch must come from the same build: reinstall both with "
            "`pip install --force-reinstall torch torchvision`."
        )
    return answer.stdout.strip()


def hash_in(url: str) -> str:
    """Return the first digits of the SHA-256 that a file's name carries, as torch.hub's names do."""
    found = re.search(r"-([a-f0-9]{8,})\.", url)
    return found.group(1) if found else ""
