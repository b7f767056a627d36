"""An objective recorded as a CUDA graph: launching its few hundred kernels one by one can take longer than they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.objective import Objective
from napari_neural_style.engine.recovery import is_out_of_memory, warned

_WARM_UPS = 3


class _Recording(NamedTuple):
    """A graph, where its work reads the image, and where it writes; the stream it was captured on must not go."""

    graph: torch.cuda.CUDAGraph
    image: Tensor
    values: Tensor
    gradient: Tensor
    stream: torch.cuda.Stream


class Recorded:
    """An objective on a CUDA device whose work is recorded at the first call and replayed after.

    α, β and γ are read from the device, so they can be changed between two calls; only when γ becomes or stops
    being 0 is the work recorded again. Work that cannot be recorded, whatever the driver's reason, is done unrecorded.

    Parameters
    ----------
    objective : Objective
        What to record.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._recording: _Recording | None = None
        self._records = True
        self._varies = objective.varies

    def weigh(self, content: float, style: float, variation: float) -> None:
        """Change α, β and γ."""
        self._objective.weigh(content, style, variation)

    def __call__(self, image: Tensor) -> tuple[Losses, Tensor, Tensor]:
        """Return the losses at an image, their total and the total's gradient; nothing waits for the GPU."""
        if self._records and (self._recording is None or self._varies != self._objective.varies):
            self._recording = None  # there may be no room for two
            self._varies = self._objective.varies
            try:
                self._recording = self._record(image.detach().clone())
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self._records = False
                # Behind the error that ends the recording is that of what cannot be recorded.
                reason = str(error.__context__ or error).partition("\n")[0]
                warned(f"The GPU's work could not be recorded, so that steps may take longer: {reason}")
        if self._recording is None:
            return self._objective(image)
        self._recording.image.copy_(image)
        self._recording.graph.replay()
        values, gradient = self._recording.values.clone(), self._recording.gradient.clone()
        return Losses(self._objective.names, values), values.sum(), gradient

    def _record(self, image: Tensor) -> _Recording:
        # A graph is captured on the current device, which need not be the image's.
        with torch.cuda.device(image.device), fastest_convolutions():
            beside = torch.cuda.Stream(image.device)  # type: ignore[no-untyped-call]
            beside.wait_stream(torch.cuda.current_stream(image.device))
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    self._objective.evaluate(image)
            torch.cuda.current_stream(image.device).wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            # On a stream of its own: PyTorch's is one for all graphs, on the device of the first. Threads of other
            # plugins may go on using the GPU meanwhile.
            # Where it fails, PyTorch's own context leaves the stream that it captured on the current one.
            with (
                torch.cuda.stream(beside),
                torch.cuda.graph(graph, stream=beside, capture_error_mode="thread_local"),
            ):
                values, gradient = self._objective.evaluate(image)
        return _Recording(graph, image, values, gradient, beside)


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """Let cuDNN try which of its ways to convolve is fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
