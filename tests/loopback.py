"""A server on loopback that stands for the host of the pretrained features."""

from __future__ import annotations

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


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """Serve its `files`; of an address that ends in ?cut only the first half comes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, _, fault = self.path[1:].partition("?")
            body = self.server.files.get(name)
            if body is None:
                self.send_error(404, "Not Found")
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files = {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def address(server: ThreadingHTTPServer, body: bytes, digest: str | None = None) -> str:
    name = f"vgg19-{digest or hashlib.sha256(body).hexdigest()[:8]}.pth"
    server.files[name] = body
    return f"http://127.0.0.1:{server.server_port}/{name}"
