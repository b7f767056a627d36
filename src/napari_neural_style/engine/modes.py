"""PyTorch's modes, which a caller may have turned for work of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def usual_modes() -> Iterator[None]:
    """Compute as if the caller were not in inference mode or autocast, and had no default device of its own."""
    with ExitStack() as turned:
        if torch.is_inference_mode_enabled():
            turned.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                turned.enter_context(torch.autocast(kind, enabled=False))
        if torch.empty(0).device.type != "cpu":  # with PyTorch 2.5 get_default_device does not see a context's
            turned.enter_context(torch.device("cpu"))
        yield


def in_usual_modes(steps: Generator[T]) -> Generator[T]:
    """Yield what a generator does, each made in :func:`usual_modes`: who asks may be in others every time."""
    with closing(steps):
        while True:
            with usual_modes():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step
            del step  # its picture is not to be held during the next one
