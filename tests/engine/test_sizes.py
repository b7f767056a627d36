from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_neural_style import StyleSettings
from napari_neural_style.engine.sizes import fit, level_for, style_size, working_size

SIDES = st.integers(1, 5000)


def pyramid(shape, count=8):
    return [(max(1, shape[0] >> k), max(1, shape[1] >> k)) for k in range(count)]


@given(st.tuples(SIDES, SIDES), st.integers(1, 2000))
def test_fit_keeps_the_aspect(shape, side):
    height, width = fit(shape, side)
    assert max(height, width) == side
    assert abs(height * shape[1] - width * shape[0]) <= max(shape)


@given(st.tuples(SIDES, SIDES), st.integers(32, 2000) | st.tuples(st.integers(32, 999), st.integers(32, 999)))
def test_a_level_is_large_enough_and_used_at_the_same_size(shape, size):
    used = partial(working_size, settings=StyleSettings(size=size))
    levels = pyramid(shape)
    number = level_for(levels, used)
    wanted = used(shape)
    if number:
        assert used(levels[number]) == wanted
        assert all(n >= w for n, w in zip(levels[number], wanted, strict=True))
        assert all(2 * w <= n for n, w in zip(shape, wanted, strict=True))
    for coarser in levels[number + 1 :] if 2 * wanted[0] <= shape[0] and 2 * wanted[1] <= shape[1] else ():
        assert used(coarser) != wanted or any(n < w for n, w in zip(coarser, wanted, strict=True))


@pytest.mark.parametrize(
    ("shape", "size", "number"),
    [
        ((4096, 4096), 4096, 0),
        ((4096, 4096), 2049, 0),
        ((4096, 4096), 2048, 1),
        ((4096, 4096), 512, 3),
        ((4096, 4096), 511, 3),
        ((4096, 3000), 512, 3),
        ((100, 80), 512, 0),
        ((10000, 2031), 512, 3),  # the next would be worked on at 512 × 103, the whole at 512 × 104
    ],
)
def test_coarse_levels_for_small_sizes(shape, size, number):
    assert level_for(pyramid(shape), partial(working_size, settings=StyleSettings(size=size))) == number


def test_a_style_that_is_made_larger_takes_a_finer_level():
    def level(scale):
        return level_for(
            pyramid((4096, 4096)), partial(style_size, settings=StyleSettings(size=512, style_scale=scale))
        )

    # At scale 0.5 a level of 256 would do, but from that the style would be made half as large once more.
    assert [level(scale) for scale in (0.5, 1, 2)] == [3, 3, 2]
