from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from functools import partialmethod

import dask.array as da
import numpy as np
import pytest
import zarr
from qtpy.QtCore import Qt

from napari_neural_style import stack
from napari_neural_style.stack_store import StackStore
from napari_neural_style.viewer.layers import pixels_reader_of, shown_plane
from napari_neural_style.viewer.stack_array import StackArray
from napari_neural_style.viewer.stacks import Stack, chain_of, stacks_folder
from napari_neural_style.viewer.widget import StyleTransferWidget
from window import KEY, endless, opened, press, run_to_the_end, wait_until

SIDE = 32
COUNT = 20


class Movie:
    """A dask stack that counts what is read, and whose planes can be made to fail."""

    def __init__(self, picture: np.ndarray, count: int = COUNT) -> None:
        self.frames = np.stack([picture[t : t + SIDE, t : t + SIDE + 8] for t in range(count)])
        self.read: Counter[int] = Counter()
        self.damaged: set[int] = set()
        self.go = threading.Event()
        self.go.set()
        self.held_at = -1  # not 0, 5, 10, 14 or 19: what is shared by all planes is taken from those
        blocks = da.from_array(self.frames, chunks=(1, -1, -1, -1))
        self.lazy = blocks.map_blocks(self._block, dtype=np.uint8, meta=np.zeros((0,) * 4, np.uint8))

    def _block(self, pixels: np.ndarray, block_info=None) -> np.ndarray:
        t = block_info[0]["chunk-location"][0]
        self.read[t] += 1
        if t == self.held_at:
            assert self.go.wait(60)
        if t in self.damaged:
            raise OSError("the chunk is damaged")
        return pixels


@pytest.fixture
def movie(pair) -> Movie:
    return Movie(pair[0][:, :, :])


@pytest.fixture
def small(quick):
    return dataclasses.replace(quick, size=SIDE, steps=3, save_every=3)


@pytest.fixture
def dock(viewer, widget, small):
    widget.settings = small
    return widget


def add(viewer, widget, movie, **keywords):
    keywords = {"axis_labels": ("t", "y", "x"), **keywords}
    layer = viewer.add_image(movie.lazy, name="movie", rgb=True, **keywords)
    widget.content.value = layer
    widget.planes.value = (0,)
    return layer


def by_hand(layer, viewer, style, settings, axes=(0,), chain=0):
    """Return what the engine makes of a layer's planes."""
    plane = shown_plane(layer, viewer.dims)
    read = pixels_reader_of(layer, plane)
    shape = tuple(layer.data.shape[axis] for axis in axes)

    def read_one(index):
        where = list(plane.index)
        for axis, i in zip(axes, index, strict=True):
            where[axis] = i
        return read(where)

    size = tuple(layer.data.shape[axis] for axis in plane.axes)
    planes = stack.Planes(shape, size, read_one)
    out = np.zeros((*shape, *stack.result_size(planes, settings), 3), np.uint8)
    for _ in stack.stylize_stack(planes, style, settings, out, chain=chain):
        pass
    return out


def test_a_lazy_movie_fills_one_layer_while_the_slider_moves(viewer, dock, movie, pair):
    content = add(viewer, dock, movie, scale=(2, 0.5, 0.25), translate=(3, 4, 5), units=("s", "um", "um"))
    assert len(movie.read) <= 3
    movie.held_at = 12
    movie.go.clear()
    movie.read.clear()
    press(dock.run)
    wait_until(lambda: len(viewer.layers) == 4 and len(viewer.layers[-1].data.filled) > 3)
    result = viewer.layers[-1]
    assert result.name == "movie × waves · live"
    renamed = []
    result.events.name.connect(renamed.append)
    assert (result.rgb, result.data.shape[0], result.ndim) == (True, COUNT, 3)
    # A finished plane is seen, one that has no picture yet shows what is under it.
    for t, seen in ((1, 255), (11, 0), (2, 255)):
        viewer.dims.set_current_step(0, t)
        wait_until(lambda seen=seen: np.asarray(result._slice.image.view)[..., 3].max() == seen)
    assert "Plane" in dock.message.value
    assert "of 20" in dock.message.value
    assert result.metadata[KEY]["sources"] == {"content": "movie", "style": "waves"}
    # Planes ahead were read for the sample that features are learned from, and no others.
    assert set(movie.read) <= {*range(13), 14, 19}
    movie.go.set()
    wait_until(lambda: dock._job is None)
    assert dock.message.value == "Done: all 20 planes."
    assert result.name == "movie × waves · planes"
    assert len(renamed) == 1
    assert max(movie.read.values()) <= 6
    expected = by_hand(content, viewer, pair[1], dock.settings)
    pixels = np.asarray(result.data)
    np.testing.assert_array_equal(pixels[..., :3], expected)
    assert (pixels[..., 3] == 255).all()
    assert result.units == content.units
    assert result.axis_labels == content.axis_labels
    half = np.array((0, 0.5, 0.5))
    ratio = (1, pixels.shape[1] / SIDE, pixels.shape[2] / (SIDE + 8))
    for corner in ((0, -0.5, -0.5), (19, SIDE - 0.5, SIDE + 7.5)):
        there = (corner + half) * ratio - half
        np.testing.assert_allclose(result.data_to_world(there), content.data_to_world(corner))
    assert result.metadata[KEY]["stack"]["done"] == 20
    (path,) = stacks_folder().iterdir()
    assert zarr.open(path, mode="r")["0"].shape == (20, 3, *pixels.shape[1:3])


def test_stop_keeps_planes_and_the_missing_ones_are_run_into_the_same_layer(viewer, dock, movie, pair, monkeypatch):
    planes_of = Stack._planes

    def and_another_run_ends(painted):
        planes = planes_of(painted)
        if painted.done == painted.total:
            painted.release()
        return planes

    monkeypatch.setattr(Stack, "_planes", and_another_run_ends)
    content = add(viewer, dock, movie)
    movie.held_at = 6
    movie.go.clear()
    press(dock.run)
    wait_until(lambda: len(viewer.layers) == 4 and len(viewer.layers[-1].data.filled) == 6)
    press(dock.stop)
    movie.go.set()
    wait_until(lambda: dock._job is None)
    result = viewer.layers[-1]
    done = result.metadata[KEY]["stack"]["done"]
    assert done == 6
    assert dock.message.value.startswith(f"Stopped; {done} of 20 planes done.")
    kept = np.asarray(result.data[:5])
    viewer.layers.remove(content)
    viewer.layers.selection = {result}
    other = StyleTransferWidget(viewer)
    viewer.window.add_dock_widget(other, name="another")
    for each in (dock, other):
        each._sections["results"].open()
    movie.held_at = 12
    movie.go.clear()
    press(dock._results.missing)
    result.name = "mine"
    wait_until(lambda: len(result.data.filled) == 12)
    press(other._results.missing)
    wait_until(lambda: "Another run paints these planes" in other.message.value)
    movie.go.set()
    wait_until(lambda: dock._job is None and other._job is None)
    assert other.message.value == "Done: all 20 planes."
    assert max(movie.read.values()) <= 6
    assert viewer.layers[-1] is result
    assert result.name == "mine"
    assert dock.message.value == "Done: all 20 planes."
    assert not dock._results.missing.enabled
    assert not other._results.missing.enabled
    np.testing.assert_array_equal(result.data[:5], kept)
    np.testing.assert_array_equal(np.asarray(result.data)[..., :3], by_hand(content, viewer, pair[1], dock.settings))


def test_failed_planes_are_listed_and_run_again_alone(viewer, dock, movie):
    movie.damaged = {3, 7}
    add(viewer, dock, movie)
    run_to_the_end(dock)
    result = viewer.layers[-1]
    assert dock.message.value.startswith("18 of 20 planes done; 2 failed: t=3; t=7: It cannot be read: the chunk")
    dock.planes.value = ()
    viewer.layers.selection = {result}
    dock._sections["results"].open()
    press(dock._results.use)
    assert dock.planes.value == (0,)
    assert set(result.metadata[KEY]["stack"]["failed"]) == {"t=3", "t=7"}
    assert not result.data[3].any()
    kept = np.asarray(result.data)
    movie.damaged = {7}
    movie.read.clear()
    viewer.layers.selection = {result}
    dock._sections["results"].open()
    press(dock._results.missing)
    wait_until(lambda: dock._job is None)
    assert dock.message.value.startswith("19 of 20 planes done; 1 failed: t=7: ")
    assert set(movie.read) <= {0, 2, 3, 6, 7}
    now = np.asarray(result.data)
    assert now[3, ..., 3].all()
    np.testing.assert_array_equal(np.delete(now, 3, 0), np.delete(kept, 3, 0))


def test_where_a_disk_is_full_is_told_and_the_others_can_be_run_later(viewer, dock, pair, monkeypatch):
    write = StackStore.__setitem__

    def full(store, room, index, plane):
        if index[0] == room:
            raise OSError(28, "No space left on device")
        write(store, index, plane)

    add(viewer, dock, Movie(pair[0], 3))
    for room, then in ((0, "Preferences › Neural Style names another"), (2, "Results › Run missing planes does")):
        with monkeypatch.context() as patched:
            patched.setattr(StackStore, "__setitem__", partialmethod(full, room))
            run_to_the_end(dock)
        told = f"Planes cannot be written to {stacks_folder()}: [Errno 28] No space left on device. {then}"
        assert dock.message.value.startswith(told)
    press(opened(dock, "results")._results.missing)
    wait_until(lambda: dock._job is None)
    assert dock.message.value == "Done: all 3 planes."


def test_where_a_stack_lay_and_its_axes_are_told(viewer, dock, movie):
    data = np.stack([movie.frames[:3, ..., 0], movie.frames[4:7, ..., 0]])
    layer = viewer.add_image(data, name="both", axis_labels=("t", "z", "y", "x"))
    dock.content.value = layer
    viewer.dims.set_current_step(0, 1)
    dock.planes.value = (1,)
    run_to_the_end(dock)
    result = viewer.layers[-1]
    assert result.metadata[KEY]["sources"]["planes"] == {"both": [1, None, None, None]}
    viewer.layers.selection.active = result
    viewer.dims.set_current_step(1, 2)
    press(opened(dock, "results")._results.use)
    assert dock.message.value == ""
    viewer.dims.set_current_step(0, 0)
    press(dock._results.use)
    assert dock.message.value == "Then shown otherwise: both (plane 1, :, :, :)."
    viewer.dims.order = (0, 2, 1, 3)
    press(dock._results.use)
    assert "along axes that cannot be chosen now" in dock.message.value
    assert dock.planes.value == ()


def test_the_choice_of_planes_comes_back_with_the_axes(viewer, dock, movie):
    add(viewer, dock, movie)
    viewer.dims.order = (1, 0, 2)
    wait_until(lambda: dock.planes.value == ())
    viewer.dims.order = (0, 1, 2)
    wait_until(lambda: dock.planes.value == (0,))
    assert dock.chained.visible


def test_where_no_plane_is_done_none_is_missing(viewer, dock):
    layer = viewer.add_image(np.full((3, 32, 40), np.nan), name="nothing", contrast_limits=(0, 1))
    dock.content.value, dock.planes.value = layer, (0,)
    run_to_the_end(dock)
    assert "Run missing planes" not in dock.message.value
    assert "NaN" in dock.message.value


def test_mended_planes_look_as_the_others_did_and_lie_where_they_lay(viewer, dock, movie):
    opened(dock, "results")
    dock._fields["color"].value = "content"
    for levels in (1, 2):
        data = movie.frames[:3, ..., 0] / 255
        data = data.repeat(levels, axis=1).repeat(levels, axis=2)
        whole = data.copy()
        data[1] = np.nan

        def given(data, levels=levels):
            return [data, data[:, ::2, ::2]] if levels == 2 else data

        place = {"scale": (1, 1 / levels, 1 / levels)}
        name = "<b>movie</b>"
        layer = viewer.add_image(given(data), name=name, multiscale=levels == 2, contrast_limits=(0, 1), **place)
        dock.content.value, dock.planes.value, dock.chained.value = layer, (0,), False
        run_to_the_end(dock)
        assert dock.message.value.startswith("2 of 3 planes done; 1 failed"), levels
        assert dock.message.native.textFormat() == Qt.TextFormat.PlainText
        result = viewer.layers[-1]
        layer.data, layer.colormap, layer.translate = given(whole), "magma", (0, 100, 0)
        press(dock._results.missing)
        wait_until(lambda: dock._job is None)
        assert dock.message.value == "Done: all 3 planes.", levels
        assert np.ptp(result.data[1][..., :3].mean((0, 1))) < 10 < result.data[1][..., :3].mean(), levels


def test_a_stack_that_waits_lies_where_its_content_lay(viewer, dock, movie):
    layer = add(viewer, dock, movie)
    dock.planes.value = ()
    endless(dock)
    press(dock.run)
    dock.planes.value, dock.steps.value, dock.save_every.value = (0,), 3, 3
    press(dock.run)
    place = layer.extent.world.copy()
    layer.translate = (0, 500, 0)
    wait_until(lambda: any("live" in each.name for each in viewer.layers))
    press(dock.stop)
    wait_until(lambda: len(viewer.layers) > 4)
    np.testing.assert_allclose(viewer.layers[-1].extent.world[:, 1:], place[:, 1:], atol=1)
    press(dock.stop)
    wait_until(lambda: dock._job is None)


def test_along_one_of_two_axes_and_across_others(viewer, dock, pair):
    # Axes of one name are told apart.
    twice = viewer.add_image(np.zeros((2, 2, 9, 9)), name="twice", axis_labels=("c", "c", "y", "x"))
    dock.content.value = twice
    words = [dock.planes.native.itemText(i) for i in range(dock.planes.native.count())]
    assert words == ["this plane", "all 4 along c and axis 1", "all 2 along c", "all 2 along axis 1"]
    viewer.layers.remove(twice)

    gray = pair[0][..., 0]
    data = np.stack([[gray[z * 2 : z * 2 + 30, t * 4 : t * 4 + 34] for z in range(3)] for t in range(2)])
    cells = viewer.add_image(data, name="cells", scale=(1, 5, 0.5, 0.5), axis_labels=("t", "z", "y", "x"))
    dock.content.value = cells
    words = [dock.planes.native.itemText(i) for i in range(dock.planes.native.count())]
    assert words == ["this plane", "all 6 along t and z", "all 2 along t", "all 3 along z"]
    assert not dock.chained.visible
    viewer.dims.set_current_step(0, 1)
    dock.planes.value = (1,)
    assert dock.chained.visible
    run_to_the_end(dock)
    result = viewer.layers[-1]
    assert result.data.shape[:2] == (1, 3)
    expected = by_hand(cells, viewer, pair[1], dock.settings, axes=(1,))
    np.testing.assert_array_equal(np.asarray(result.data)[0, ..., :3], expected)
    np.testing.assert_allclose(result.data_to_world((0, 2, 0, 0))[:2], cells.data_to_world((1, 2, 0, 0))[:2])
    # The planes of another pair of axes, shown the other way round.
    dock.planes.value = ()
    viewer.dims.order = (0, 1, 3, 2)
    dock.planes.value = (0, 1)
    dock.chained.value = False
    run_to_the_end(dock)
    turned = viewer.layers[-1]
    pixels = np.asarray(turned.data)
    assert pixels.shape[:2] == (2, 3)
    style = pair[1].swapaxes(0, 1)  # the viewer shows it turned as well
    alone = by_hand(cells, viewer, style, dock.settings, axes=(0, 1), chain=None)
    np.testing.assert_array_equal(pixels[..., :3], alone.swapaxes(2, 3))
    dock.chained.value = True
    viewer.layers.selection.active = turned
    press(opened(dock, "results")._results.use)
    assert not dock.chained.value


def test_what_is_deleted_or_closed_during_a_run_disturbs_nothing(viewer, dock, movie):
    content = add(viewer, dock, movie)
    movie.held_at = 6
    movie.go.clear()
    press(dock.run)
    wait_until(lambda: len(viewer.layers) == 4 and len(viewer.layers[-1].data.filled) == 6)
    result = viewer.layers[-1]
    viewer.layers.remove(content)
    viewer.layers.remove(result)
    held, movie.go, movie.held_at = movie.go, threading.Event(), 12
    held.set()
    wait_until(lambda: len(result.data.filled) == 12)
    job = dock._job
    result.metadata = {"mine": 1}
    viewer.window.remove_dock_widget("all")
    movie.go.set()
    assert job.wait(60)
    assert result in viewer.layers
    assert len(result.data.filled) >= 12
    assert result.metadata["mine"] == 1
    assert result.metadata[KEY]["stack"]["done"] >= 12
    assert result.metadata[KEY]["sources"]["content"] == content.name


def test_stopped_before_the_first_plane_nothing_is_left(viewer, dock, movie):
    add(viewer, dock, movie)
    dock.steps.value = 1_000_000
    dock.save_every.value = 1_000_000
    press(dock.run)
    wait_until(lambda: len(viewer.layers) == 4)
    live = viewer.layers[-1]
    wait_until(lambda: live.data[0].any())
    press(dock.stop)
    wait_until(lambda: dock._job is None)
    assert len(viewer.layers) == 3
    assert dock.message.value == "Stopped before the first plane was done."
    assert not list(stacks_folder().iterdir())


def test_parts_of_a_stack_that_is_being_made():
    class Store:
        pixels = np.arange(2 * 3 * 4 * 5 * 3).reshape(2, 3, 4, 5, 3).astype(np.uint8)
        shape = pixels.shape

        def __getitem__(self, index):
            return self.pixels[index]

    array = StackArray(Store(), (0, 3), (4, 2), 5)
    assert array.shape == (2, 1, 5, 3, 4, 4)
    array.filled |= {(0, 1), (1, 2)}
    whole = np.asarray(array)
    np.testing.assert_array_equal(whole[0, 0, :, 1, :, :3], Store.pixels[0, 1].swapaxes(0, 1))
    assert whole[..., 3].sum() == 2 * 20 * 255
    for key in (0, (1, 0), (1, 0, slice(None), 2), (..., 0), np.s_[:, 0, 1:4, 1:, 2], np.s_[-1, 0, ::2, -1, :2, 3]):
        np.testing.assert_array_equal(array[key], whole[key])


def test_the_axis_that_planes_are_chained_along():
    assert chain_of(["t", "z"]) == 0
    assert chain_of(["z", "time"]) == 1
    assert chain_of(["channel", "Z"]) == 1
    assert chain_of(["c"]) is None
    assert chain_of(["c", "axis 1"]) == 1
