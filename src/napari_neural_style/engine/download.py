"""Fetch the pretrained VGG-19 once, check it, and keep its convolutions."""

from __future__ import annotations

import errno
import hashlib
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from safetensors.torch import save_file

from napari_neural_style.cache import pretrained_path
from napari_neural_style.engine.weights import (
    TORCHVISION_INDEX,
    features_from_file,
    hash_in,
    torchvision_url,
)
from napari_neural_style.settings import LAYERS

Received = Callable[[int, int], None]

_CHUNK = 1 << 20
_TIMEOUT = 60


class DownloadError(OSError):
    """The features could not be fetched or kept; the message is a sentence for users."""


def download_pretrained(received: Received | None = None, url: str | None = None) -> Path:
    """Download torchvision's VGG-19 and keep its sixteen convolutions in the cache folder.

    Parameters
    ----------
    received : callable, optional
        Called with the bytes received and expected (0 if unknown) after every piece; an exception that it
        raises cancels the download and leaves nothing behind.
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
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not expected or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise DownloadError(f"{url} is no https address of a file whose name carries its hash.")
    target = pretrained_path()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=target.parent) as folder:
            whole = Path(folder) / "vgg19.pth"
            digest = _fetch(url, whole, received)
            if not digest.startswith(expected):
                raise DownloadError(
                    f"What came from {parts.hostname} is not the expected file (its SHA-256 begins with "
                    f"{digest[: len(expected)]}, not {expected}); it was removed. Try again later."
                )
            kept = Path(folder) / target.name
            _keep_convolutions(whole, kept, digest)
            kept.replace(target)
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(_sentence(error, target.parent)) from error
    return target


def _fetch(url: str, path: Path, received: Received | None) -> str:
    """Write what an address holds to a file and return its SHA-256."""
    digest = hashlib.sha256()
    host = urlsplit(url).hostname
    try:
        response: HTTPResponse
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, path.open("wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            done = 0
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if received is not None:
                    received(done, total)
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{host} answered {error.code} {error.reason}. Try again later.") from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"The download from {host} failed ({reason}). Check the network and try again; self-taught features need "
            "none."
        ) from error
    if total and done < total:
        raise DownloadError(
            f"The connection to {host} was cut after {done:,} of {total:,} bytes. Check the network and try again."
        )
    return digest.hexdigest()


def _keep_convolutions(whole: Path, kept: Path, digest: str) -> None:
    try:
        features = features_from_file(whole, LAYERS, "torchvision")
    except ValueError as error:
        raise DownloadError(str(error)) from error
    numbers = {}
    for layer, (weight, bias) in features.convolutions.items():
        stem = f"features.{TORCHVISION_INDEX[layer]}"
        numbers[f"{stem}.weight"], numbers[f"{stem}.bias"] = weight.contiguous(), bias.contiguous()
    save_file(numbers, kept, {"convention": "torchvision", "sha256-of-source": digest})


def _sentence(error: OSError, folder: Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"The disk of {folder} is full: the download needs 630 MB for a moment, 80 MB afterwards."
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"{folder} cannot be written to. Set NAPARI_NEURAL_STYLE_CACHE to a folder that can."
    return f"The features could not be kept in {folder}: {error}."
