"""A file from the network; what came of it before a cut, a stop or a kill is gone on with."""

from __future__ import annotations

import hashlib
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

Received = Callable[[int, int], None]

TRIES = 4
"""Tries in a row that bring nothing new before the download is given up."""
PAUSE = 0.5
"""Seconds before the second of them; each later pause is twice as long."""
TIMEOUT = 10
"""Seconds of silence after which a connection counts as cut."""
_CHUNK = 1 << 20
_READ = 1 << 16


class DownloadError(OSError):
    """The features could not be fetched or kept; the message is a sentence for users."""


class _CutError(Exception):
    """A connection ended early or was not made; there may be more to come on the next."""

    def __init__(self, reason: str, total: int = 0) -> None:
        super().__init__(reason)
        self.total = total


def is_safe(url: str) -> bool:
    """Tell whether an address may be asked: https, or this machine."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and loopback))


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to safe addresses only: urllib goes from https to http without a word."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if not is_safe(newurl):
            raise DownloadError(
                f"{urlsplit(req.full_url).hostname} redirects to {newurl}, which is not an https address."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Part:
    """What has come so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = 0
        self.digest = hashlib.sha256()
        if path.is_file():
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    self._count(chunk)

    def _count(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.done += len(chunk)

    def begin_anew(self) -> None:
        self.path.unlink(missing_ok=True)
        self.done, self.digest = 0, hashlib.sha256()

    def take(self, chunks: Iterator[bytes], total: int, received: Received | None) -> None:
        with self.path.open("ab") as file:
            for chunk in chunks:
                file.write(chunk)
                self._count(chunk)
                if received is not None:
                    received(self.done, total)


def fetch(url: str, path: Path, received: Received | None = None) -> str:
    """Write what an address holds to a file, behind what is there of it already.

    Parameters
    ----------
    url : str
        A safe address.
    path : Path
        Stays where it is when this fails, so that the next call goes on, except on a full disk.
    received : callable, optional
        Called with the bytes received and expected (0 if unknown) after every piece and while nothing comes; what it
        raises ends the download.

    Returns
    -------
    str
        SHA-256 of the whole file.

    Raises
    ------
    DownloadError
        If the network or the server fails; the message says which.
    OSError
        If the file cannot be written.
    """
    host = urlsplit(url).hostname
    part, came, fruitless = _Part(path), False, 0
    most = part.done
    while True:
        try:
            _receive(url, part, received)
            return part.digest.hexdigest()
        except HTTPError as error:
            if error.code != 416 or not part.done:
                raise DownloadError(f"{host} answered {error.code} {error.reason}. Try again later.") from error
            if error.headers.get("Content-Range") == f"bytes */{part.done}":
                return part.digest.hexdigest()  # nothing is left to fetch
            part.begin_anew()  # there is more than the server has
        except _CutError as error:
            fruitless = 0 if part.done > most else fruitless + 1
            came, most = came or part.done > most, max(most, part.done)
            if fruitless >= TRIES or not came:
                raise DownloadError(_sentence(str(host), part.done, error)) from error
            _rest(fruitless, received, part.done, error.total)


def _receive(url: str, part: _Part, received: Received | None) -> None:
    """Take what one connection brings, to the end of the file."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={part.done}-"} if part.done else {})
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        response: HTTPResponse = opener.open(request, timeout=TIMEOUT)
    except (HTTPError, DownloadError):
        raise
    except (URLError, HTTPException, OSError) as error:
        raise _CutError(str(getattr(error, "reason", None) or error)) from error
    with response:
        goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {part.done}-")
        if part.done and not goes_on:
            part.begin_anew()
        length = response.headers.get("Content-Length") or ""
        total = part.done + int(length) if length.isdigit() else 0
        part.take(_chunks(response, total), total, received)
    if total and part.done < total:
        raise _CutError("", total)


def _chunks(response: HTTPResponse, total: int) -> Iterator[bytes]:
    """Yield what comes as it comes, so that a stop is heard on a slow connection too."""
    while True:
        try:
            chunk = response.read1(_READ)
        except (HTTPException, OSError) as error:
            raise _CutError(str(error), total) from error
        if not chunk:
            return
        yield chunk


def _rest(fruitless: int, received: Received | None, done: int, total: int) -> None:
    """Wait before another try, and hear a stop meanwhile."""
    end = time.monotonic() + (PAUSE * 2 ** (fruitless - 1) if fruitless else 0)
    while True:
        if received is not None:
            received(done, total)
        if time.monotonic() >= end:
            return
        time.sleep(0.1)


def _sentence(host: str, done: int, error: _CutError) -> str:
    kept = "Try again: it goes on from there" if done else "Check the network and try again"
    if error.total:
        words = f"The connection to {host} was cut after {done:,} of {error.total:,} bytes"
        return f"{words}{f' ({error})' if str(error) else ''}. {kept}."
    return f"The download from {host} failed ({error}). {kept}; self-taught features need none."
