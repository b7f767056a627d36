"""An objective recorded as a CUDA graph: launching its few hundred kernels one by one can take longer than they do."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_neural_style.engine.losses import Losses
from napari_neural_style.engine.objective import Objective

_WARM_UPS = 3


class Recorded:
    """An objective on a CUDA device whose work is recorded at the first call and replayed after.

    α, β and γ are read from the device, so they can be changed between two calls; only when γ becomes or stops
    being 0 is the work recorded again.

    Parameters
    ----------
    objective : Objective
        What to record.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._graph: torch.cuda.CUDAGraph | None = None
        self._varies = objective.varies

    def weigh(self, content: float, style: float, variation: float) -> None:
        """Change α, β and γ."""
        self._objective.weigh(content, style, variation)

    def __call__(self, image: Tensor) -> tuple[Losses, Tensor, Tensor]:
        """Return the losses at an image, their total and the total's gradient; nothing waits for the GPU."""
        if self._graph is None or self._varies != self._objective.varies:
            self._record(image)
        assert self._graph is not None
        self._image.copy_(image)
        self._graph.replay()
        values, gradient = self._values.clone(), self._gradient.clone()
        return Losses(self._objective.names, values), values.sum(), gradient

    def _record(self, image: Tensor) -> None:
        self._varies = self._objective.varies
        self._image = image.detach().clone()
        # A graph is captured on the current device, which need not be the image's.
        on = torch.cuda.device(image.device)
        with on, torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
            beside = torch.cuda.Stream(image.device)  # type: ignore[no-untyped-call]
            beside.wait_stream(torch.cuda.current_stream(image.device))
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    self._objective.evaluate(self._image)
            torch.cuda.current_stream(image.device).wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            # Threads of other plugins may go on using the GPU meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._values, self._gradient = self._objective.evaluate(self._image)
