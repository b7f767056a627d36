from __future__ import annotations

import dataclasses

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_neural_style import StyleSettings, stylize
from napari_neural_style.engine.images import UnusedRangeWarning, to_uint8
from napari_neural_style.planes import Planes, planes_of
from napari_neural_style.shared import share
from napari_neural_style.stack import before, result_size, stylize_stack
from napari_neural_style.stack_cluster import stylize_stack_on
from napari_neural_style.workers import Here

pytestmark = pytest.mark.usefixtures("learned")


@pytest.fixture
def small(quick) -> StyleSettings:
    return dataclasses.replace(quick, size=32, steps=3)


@pytest.fixture(scope="module")
def movie(pair) -> np.ndarray:
    """Four planes of smooth motion, (T, H, W, 3)."""
    return np.stack([pair[0][20:52, 10 + t : 50 + t] for t in range(4)])


def blank(planes, settings):
    return np.zeros((*planes.shape, *result_size(planes, settings), 3), np.uint8)


def over(steps):
    return {step.index: step for step in steps if step.over}


def test_only_the_plane_asked_for_is_read():
    read = []

    def block(numbers, block_info):
        read.append(block_info[0]["chunk-location"][:2])
        return numbers

    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    lazy = da.from_array(values, chunks=(1, 1, 4, 5)).map_blocks(block, dtype=values.dtype, meta=values)
    planes = planes_of(lazy, (0, 1))
    assert (planes.shape, planes.size) == ((2, 3), (4, 5))
    assert read == []
    np.testing.assert_array_equal(planes.read((1, 2)), values[1, 2])
    assert read == [(1, 2)]


def test_planes_that_are_seen_in_other_places_share_features(pair, small):
    """A picture with a band of every plane would be transparent everywhere."""
    stack = np.zeros((2, 32, 32, 4), np.uint8)
    stack[..., :3] = pair[0][20:52, 10:42]
    stack[0, 16:, :, 3] = stack[1, :16, :, 3] = 255
    shared = share(planes_of(stack, (0,), channels=True), pair[1], small)
    assert shared.features.source == "self-taught"


def test_features_are_learned_from_all_planes(pair, movie, small):
    """Whichever plane is another, they are others."""
    stacks = [movie] + [movie.copy() for _ in movie]
    for number, stack in enumerate(stacks[1:]):
        stack[number] = stack[number, ::-1]
    prints = {share(planes_of(s, (0,), channels=True), pair[1], small).features.fingerprint for s in stacks}
    assert len(prints) == len(stacks)


def test_a_stack_can_be_stopped_while_its_sample_is_read(pair, small):
    said = []

    def stop(message, done):
        said.append(message)
        if len(said) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        share(planes_of(np.zeros((9, 32, 32), np.uint8), (0,)), pair[1], small, progress=stop)
    assert said == ["Reading plane 1 of 5…", "Reading plane 2 of 5…", "Reading plane 3 of 5…"]


def test_any_axes_are_planes():
    values = np.arange(2 * 3 * 4 * 5 * 3).reshape(2, 3, 4, 5, 3)
    planes = planes_of(values, (3, 0), channels=True, shown=(2, 1))
    assert (planes.shape, planes.size) == ((5, 2), (4, 3))
    np.testing.assert_array_equal(planes.read((4, 1)), values[1, :, :, 4].swapaxes(0, 1))
    assert planes.indices()[:3] == [(0, 0), (0, 1), (1, 0)]
    for axes, shown in [((0, 0), None), ((4,), None), ((0,), (0, 1)), ((-1,), None)]:
        with pytest.raises(ValueError, match="cannot be stacked"):
            planes_of(values, axes, channels=True, shown=shown)


def test_a_stack_of_one_plane_is_that_image(pair, movie, small):
    planes = planes_of(movie[:1], (0,), channels=True)
    out = blank(planes, small)
    steps = list(stylize_stack(planes, pair[1], small, out))
    *_, alone = stylize(movie[0], pair[1], small)
    np.testing.assert_array_equal(out[0], to_uint8(alone.image))
    np.testing.assert_array_equal(steps[-1].picture, out[0])
    assert [(s.done, s.total, s.step.index) for s in steps] == [(0, 1, 1), (0, 1, 2), (1, 1, 3)]
    assert [s.share_done for s in steps] == pytest.approx([1 / 3, 2 / 3, 1])


def test_planes_agree_and_start_from_the_one_before(pair, movie, small):
    planes = planes_of(movie, (0,), channels=True)
    chained, alone = blank(planes, small), blank(planes, small)
    ends = over(stylize_stack(planes, pair[1], small, chained))
    assert len({end.step.fingerprint for end in ends.values()}) == 1
    assert ends[0,].seconds_left > 0
    assert ends[3,].seconds_left == 0
    list(stylize_stack(planes, pair[1], small, alone, chain=None))
    np.testing.assert_array_equal(chained[0], alone[0])
    assert (chained[1:] != alone[1:]).any((1, 2, 3)).all()


def test_a_chain_does_not_flicker(pair, small):
    """A still picture with noise in it: its planes differ less than those that are stylised alone."""
    noise = np.random.default_rng(0).normal(0, 8, (5, 48, 48, 3))
    stack = (pair[0][10:58, 10:58] + noise).clip(0, 255).astype(np.uint8)
    planes = planes_of(stack, (0,), channels=True)
    settings = dataclasses.replace(small, size=48, steps=20)
    shared = share(planes, pair[1], settings)
    flicker = []
    for chain in (0, None):
        out = blank(planes, settings)
        list(stylize_stack(planes, pair[1], settings, out, chain=chain, shared=shared))
        flicker.append(np.abs(np.diff(out.astype(float), axis=0)).mean())
    assert flicker[0] < 0.9 * flicker[1]


def test_only_the_chained_axis_is_a_chain(pair, movie, small):
    planes = planes_of(movie[:4].reshape(2, 2, *movie.shape[1:]), (0, 1), channels=True)
    out, other = blank(planes, small), blank(planes, small)
    shared = share(planes, pair[1], small)
    list(stylize_stack(planes, pair[1], small, out, chain=0, shared=shared))
    list(stylize_stack(planes, pair[1], small, other, chain=0, shared=shared, finished=[(0, 0), (1, 0)]))
    np.testing.assert_array_equal(out[:, 1], other[:, 1])
    assert not other[:, 0].any()


def test_a_chain_takes_each_regions_own_palette(pair, movie, small):
    """A still picture whose first plane is hardly painted: the second starts as that did."""
    labels = np.ones(movie.shape[1:3], int)
    labels[:, 20:] = 2
    style = np.full((64, 64, 3), (200, 40, 30), np.uint8)
    style[32:] = (30, 60, 210)
    regions = {"content_regions": labels, "style_regions": np.array([1, 2]).repeat(32)[:, None].repeat(64, 1)}
    planes = planes_of(movie[[0, 0]], (0,), channels=True)
    out = blank(planes, small)
    list(stylize_stack(planes, style, dataclasses.replace(small, color="style", learning_rate=1e-6), out, **regions))
    np.testing.assert_allclose(out[1].astype(int), out[0], atol=1)


@pytest.mark.parametrize("after", [1, 5])
def test_going_on_after_a_stop_gives_the_same_stack(pair, movie, small, after, tmp_path):
    planes = planes_of(da.from_array(movie, chunks=(1, -1, -1, -1)), (0,), channels=True)
    whole = blank(planes, small)
    list(stylize_stack(planes, pair[1], small, whole))
    out = zarr.create_array(tmp_path / "out.zarr", shape=whole.shape, dtype="uint8", chunks=(1, *whole.shape[1:]))
    steps = stylize_stack(planes, pair[1], small, out)
    finished = {step.index for step, _ in zip(steps, range(after), strict=False) if step.over}
    steps.close()
    assert len(finished) == after // 3
    rest = over(stylize_stack(planes, pair[1], small, out, finished=finished))
    assert set(rest) | finished == set(planes.indices())
    np.testing.assert_array_equal(out[:], whole)
    assert list(stylize_stack(planes, pair[1], small, out, finished=planes.indices())) == []


def test_a_plane_that_fails_stops_no_other_and_can_be_done_again(pair, movie, small):
    stack = movie / 255
    stack[1] = np.nan
    good = planes_of(stack, (0,), channels=True)

    def read(index):
        if index == (2,):
            raise OSError("the chunk is damaged")
        return good.read(index)

    planes = dataclasses.replace(good, read=read)
    out = blank(planes, small)
    ends = over(stylize_stack(planes, pair[1], small, out))
    failures = {index: end.failure for index, end in ends.items() if end.failure}
    assert set(failures) == {(1,), (2,)}
    assert "NaN" in failures[1,]
    assert "the chunk is damaged" in failures[2,]
    assert ends[3,].done == ends[3,].total == 4
    assert out[0].any()
    assert out[3].any()
    assert not out[1:3].any()
    before = out.copy()
    again = over(stylize_stack(good, pair[1], small, out, finished=[(0,), (3,)]))
    assert again.keys() == {(1,), (2,)}
    assert again[2,].picture.any()
    np.testing.assert_array_equal(out[[0, 1, 3]], before[[0, 1, 3]])

    with pytest.raises(ValueError, match=r"No plane of the stack can be used: .*NaN"):
        share(planes_of(np.full((3, 32, 32), np.nan), (0,)), pair[1], small)


def test_a_plane_that_has_another_size_meanwhile_is_not_stretched(pair, movie, small):
    good = planes_of(movie, (0,), channels=True)
    planes = dataclasses.replace(good, read=lambda index: good.read(index)[: 20 if index == (2,) else None])
    out = blank(planes, small)
    ends = over(stylize_stack(planes, pair[1], small, out))
    assert {index for index, end in ends.items() if end.failure} == {(2,)}
    assert ends[2,].failure.startswith("It has shape (20, ")
    assert not out[2].any()


def test_a_plane_whose_run_fails_stops_no_other(pair, movie, small, monkeypatch):
    from napari_neural_style import stack
    from napari_neural_style.engine.recovery import DivergedError

    def stylize_or_fail(plane, *arguments, **options):
        for step in stylize(plane, *arguments, **options):
            if step.index == 2 and np.array_equal(plane, movie[1]):
                raise DivergedError("Numbers went wrong.")
            yield step

    monkeypatch.setattr(stack, "stylize", stylize_or_fail)
    planes = planes_of(movie, (0,), channels=True)
    ends = over(stylize_stack(planes, pair[1], small, blank(planes, small)))
    assert {index: end.failure for index, end in ends.items() if end.failure} == {(1,): "Numbers went wrong."}
    assert set(ends) == set(planes.indices())


def test_all_planes_have_one_range(pair, small):
    ramp = np.linspace(0, 100, 32 * 32, dtype=np.float32).reshape(32, 32)
    planes = planes_of(np.stack([ramp, ramp / 2, ramp / 4]), (0,))
    with pytest.warns(UnusedRangeWarning, match="from 0 to 100 in 3 of its planes"):
        shared = share(planes, pair[1], small)
    assert shared.value_range == (0, 100)
    clear = np.stack([ramp + 10, ramp + 10, ramp + 10, np.ones_like(ramp)], -1)[None]
    with pytest.warns(UnusedRangeWarning, match="from 10 to 110"):
        assert share(planes_of(clear, (0,), channels=True), pair[1], small).value_range == (10, 110)
    assert share(planes, pair[1], small, value_range=(0, 50)).value_range == (0, 50)
    assert share(planes_of(np.zeros((2, 32, 32), np.uint8), (0,)), pair[1], small).value_range == (0, 255)
    dim = planes_of(np.stack([ramp, ramp * 0]).astype(np.uint16), (0,))
    with pytest.warns(UnusedRangeWarning, match="stack, in 2 of its planes, run from 0 to 100, a small part .* uint16"):
        assert share(dim, pair[1], small).value_range == (0, 65535)


def test_the_range_is_that_of_planes_that_can_be_read(pair, small):
    ramp = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)

    def read(index):
        if index == (0,):
            raise OSError("The chunk is damaged.")
        return ramp + index[0]

    with pytest.warns(UnusedRangeWarning, match="from 1 to 9 in 5 of its planes"):
        assert share(Planes((9,), (32, 32), read), pair[1], small).value_range == (1, 9)


def test_a_plane_starts_from_the_nearest_one_before_it_that_is_finished():
    have = {(0, 1), (2, 1), (3, 0), (5, 1)}
    assert before((4, 1), have, 0) == (2, 1)
    assert before((2, 0), have, 0) is None


def test_what_cannot_run_gets_a_sentence(pair, movie, small):
    planes = planes_of(movie, (0,), channels=True)
    with pytest.raises(ValueError, match="has shape"):
        list(stylize_stack(planes, pair[1], small, np.zeros((4, 8, 8, 3), np.uint8)))
    with pytest.raises(ValueError, match="an axis of the stack, 0 to 0, not 1"):
        list(stylize_stack(planes, pair[1], small, np.zeros((4, 8, 8, 3), np.uint8), chain=1))
    with pytest.raises(ValueError, match="no use for a stack"):
        share(planes, pair[1], dataclasses.replace(small, mode="texture"))
    with pytest.raises(ValueError, match="an image is needed"):
        share(planes, None, small)
    features = share(planes, pair[1], small).features
    deeper = dataclasses.replace(small, style_layers={"conv2_2": 1})
    with pytest.raises(ValueError, match="have no conv2_2"):
        list(stylize(movie[0], pair[1], deeper, features=features))


class Near(Here):
    """A cluster that is this process."""

    threads = 1
    send = Here.keep

    def first_done(self, tasks, seconds=None):
        return tasks[0]


def test_a_cluster_paints_what_is_painted_here_though_values_have_many_digits(movie, small, pair):
    array = 1e8 + movie[:2].mean(-1) / 255
    planes = planes_of(array, (0,))
    out = [blank(planes, small), blank(planes, small)]
    shared = share(planes, pair[1], small, value_range=(1e8, 1e8 + 1))
    list(stylize_stack(planes, pair[1], small, out[0], shared=shared))
    list(stylize_stack_on(Near(), planes, pair[1], small, out[1], shared=shared))
    np.testing.assert_array_equal(*out)
