"""A server on loopback that stands for the host of the pretrained features."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from napari_neural_style.settings import LAYERS

INDEX = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)


@pytest.fixture(scope="session")
def whole_file(tmp_path_factory) -> bytes:
    """Torchvision's file, all shapes true, but every tensor is one number repeated: 20 kB instead of 548 MB."""
    numbers, before = {}, 3
    for number, (index, filters) in enumerate(zip(INDEX, LAYERS.values(), strict=True)):
        value = torch.full((1,), (number + 1) / 1000)
        numbers[f"features.{index}.weight"] = value.expand(filters, before, 3, 3)
        numbers[f"features.{index}.bias"] = value.expand(filters)
        before = filters
    numbers["classifier.0.weight"] = torch.zeros(1).expand(4096, 25088)
    path = tmp_path_factory.mktemp("server") / "vgg19.pth"
    torch.save(numbers, path)
    return path.read_bytes()


class Handler(BaseHTTPRequestHandler):
    """Serves its server's `files`, by ranges too, with the fault that an address names behind a question mark.

    cut: half of what is left to send. cut=N: N bytes of it. norange: whole, whatever is asked for. slow: in 40 pieces
    with pauses. stall: half, then nothing. length: says more than it sends. redirect=URL: sends on.
    """

    def do_GET(self) -> None:
        # A proxy is asked for whole addresses.
        path, _, query = self.path.partition("?")
        name = path.rpartition("/")[2]
        fault, _, value = query.partition("=")
        body = self.server.files.get(name)
        self.server.asked.append((self.path, self.headers.get("Range")))
        if fault == "redirect":
            self.send_response(302)
            self.send_header("Location", value)
            self.end_headers()
            return
        if body is None:
            self.send_error(404, "Not Found")
            return
        begin = 0 if fault == "norange" else int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if begin and begin >= len(body):
            self.send_response(416, "Range Not Satisfiable")
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        rest = body[begin:]
        self.send_header("Content-Length", str(len(rest) + (10 if fault == "length" else 0)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.send_body(rest, fault, value)

    def send_body(self, rest: bytes, fault: str, value: str) -> None:
        if fault == "cut":
            self.wfile.write(rest[: int(value) if value else len(rest) // 2])
        elif fault == "stall":
            self.wfile.write(rest[: len(rest) // 2])
            self.server.released.wait(60)
        elif fault == "slow":
            piece = len(rest) // 40 + 1
            for start in range(0, len(rest), piece):
                self.wfile.write(rest[start : start + piece])
                self.server.released.wait(0.05)
        else:
            self.wfile.write(rest)

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.released = threading.Event()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def address(server: Server, body: bytes, digest: str | None = None) -> str:
    name = f"vgg19-{digest or hashlib.sha256(body).hexdigest()[:8]}.pth"
    server.files[name] = body
    return f"http://127.0.0.1:{server.server_port}/{name}"
