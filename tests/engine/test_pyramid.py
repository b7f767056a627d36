from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_neural_style.engine.pyramid import enlarge, schedule

_SIDES = st.integers(32, 2000)


@given(_SIDES, _SIDES, _SIDES, st.integers(1, 8), st.integers(1, 2000))
def test_schedule_ends_at_the_working_size_and_uses_every_step(height, width, style, scales, steps):
    found = schedule((height, width), scales, steps, 32, [(style, 2000)])
    assert found[-1].size == (height, width)
    assert sum(scale.steps for scale in found) == steps
    assert all(scale.steps in (steps // len(found), -(-steps // len(found)), 100) for scale in found[:-1])
    assert all(0 < scale.steps <= 100 for scale in found[:-1])
    assert found[-1].steps > 0
    assert all(min(scale.size) >= 32 for scale in found)
    assert all(round(style * scale.fraction) >= 32 for scale in found)
    assert [scale.fraction for scale in found] == sorted(scale.fraction for scale in found)


def test_enlarging_the_shrunk_start_gives_the_start():
    start = torch.rand(1, 3, 50, 34)
    small = torch.nn.functional.interpolate(start, (25, 17), mode="bilinear", antialias=True)
    torch.testing.assert_close(enlarge(small, start), start)


def test_detail_added_back_lowers_the_loss_on_entering(pair, quick):
    """Without the content's lost detail, the finer scale starts several times higher."""
    import dataclasses

    from napari_neural_style import stylize
    from napari_neural_style.engine import position

    settings = dataclasses.replace(quick, size=96, scales=2, steps=40, style_weight=1.0)
    entering = {}
    for name, way in (("with", enlarge), ("without", lambda image, start: _blurred(image, start))):
        position.enlarge, kept = way, position.enlarge
        try:
            steps = list(stylize(*pair, settings))
        finally:
            position.enlarge = kept
        entering[name] = next(step.losses.total for step in steps if step.scale == 2)
    assert entering["with"] < entering["without"] / 1.5


def _blurred(image: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(image, start.shape[-2:], mode="bilinear", antialias=True)
