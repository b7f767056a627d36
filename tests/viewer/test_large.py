from __future__ import annotations

import dataclasses

import dask.array as da
import numpy as np
import pytest

from napari_neural_style import stylize
from napari_neural_style.engine.images import to_uint8
from napari_neural_style.files import read_image, read_made_by
from napari_neural_style.viewer import stopped
from napari_neural_style.viewer.large import LARGE
from napari_neural_style.viewer.stacks import stacks_folder
from window import KEY, press, run_to_the_end, wait_until


@pytest.fixture
def large(quick, monkeypatch):
    """As if a quarter of the pixels were large."""
    monkeypatch.setattr("napari_neural_style.viewer.large.LARGE", LARGE // 4)
    return dataclasses.replace(quick, size=(32, LARGE // 4 + 8), steps=4, save_every=2)


def test_a_large_result_is_read_from_disk_as_far_as_it_is_seen(viewer, widget, quick, pair, tmp_path):
    large = dataclasses.replace(quick, size=(32, LARGE + 8), steps=4, save_every=2)
    cat = viewer.layers["cat"]
    cat.scale, cat.translate, cat.rotate, cat.units = (0.5, 0.25), (3, -5), 30, ("um", "um")
    widget.settings = large
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2 or widget._job is None)
    live = viewer.layers[-1]
    assert isinstance(live.data, np.ndarray)
    live.opacity = 0.5
    viewer.layers.selection.active = live
    wait_until(lambda: widget._job is None)
    assert widget.message.value == "Done."
    step, result = viewer.layers[-2:]
    assert [layer.name for layer in viewer.layers] == ["waves", "cat", "cat × waves · step 2", "cat × waves · step 4"]
    assert viewer.layers.selection.active is result
    assert (result.multiscale, result.rgb, result.opacity, result.visible) == (True, True, 0.5, True)
    assert [level.shape for level in result.data] == [(32, 4104, 3), (16, 2052, 3), (8, 1026, 3), (4, 513, 3)]
    assert all(isinstance(level, da.Array) for level in result.data)
    *_, last = stylize(pair[0], pair[1], large)
    np.testing.assert_array_equal(np.asarray(result.data[0]), to_uint8(last.image))
    # It lies where the step in memory lies, and was made by the same.
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_array_equal(getattr(result, name), getattr(step, name))
    assert result.units == cat.units
    assert result.metadata[KEY]["step"] == 4
    (path,) = stacks_folder().iterdir()
    np.testing.assert_array_equal(read_image(path), to_uint8(last.image))
    assert read_made_by(path) == result.metadata[KEY]
    # It is seen, saved with its settings, and can be a content.
    wait_until(lambda: result._slice.image.view.any())
    assert viewer.layers.save(str(tmp_path / "out.png"), selected=True)
    np.testing.assert_array_equal(read_image(tmp_path / "out.png"), to_uint8(last.image))
    assert read_made_by(tmp_path / "out.png") == result.metadata[KEY]
    widget.content.value = result
    widget.settings = dataclasses.replace(large, size=512, content_layers={"conv1_1": 1.0}, style_layers={"conv1_1": 1})
    widget._fields.put("size", (32, 512))
    run_to_the_end(widget)
    assert viewer.layers[-1].data.shape == (32, 512, 3)


def test_on_a_plane_that_is_shown_turned(viewer, widget, large, pair):
    stack = viewer.add_image(np.stack([pair[0][..., 0]] * 3), name="stack", scale=(2, 1, 1))
    viewer.dims.order = (0, 2, 1)
    viewer.dims.set_current_step(0, 1)
    widget.content.value = stack
    widget.settings = large
    run_to_the_end(widget)
    result, kept = viewer.layers[-1], viewer.layers[-2]
    assert result.data[0].shape == kept.data.shape == (1, 1032, 32, 3)
    assert [level.shape for level in result.data][1:] == [(1, 516, 16, 3)]
    np.testing.assert_array_equal(result.translate, kept.translate)
    difference = np.asarray(result.data[0]).astype(int) - kept.data
    assert np.abs(difference).mean() < 20


def test_a_stopped_run_too_and_it_goes_on(viewer, widget, large):
    widget.settings = dataclasses.replace(large, steps=5000, save_every=5000)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    viewer.layers[-1].visible = False
    viewer.layers.selection = {viewer.layers["cat"]}
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    assert viewer.layers.selection == {viewer.layers["cat"]}
    assert widget.message.value == "Stopped; the picture so far is kept."
    result = viewer.layers[-1]
    assert (result.multiscale, result.visible) == (True, False)
    index = result.metadata[KEY]["step"]
    assert result.name == f"cat × waves · step {index}"
    assert (stopped.runs_folder() / result.metadata[KEY]["run"]).is_file()
    viewer.layers.selection = {result}
    widget._sections["results"].open()
    press(widget._results.go_on)
    wait_until(lambda: widget._job is not None and len(viewer.layers) > 3)
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    assert viewer.layers[-1].metadata[KEY]["step"] > index
    np.testing.assert_allclose(viewer.layers[-1].scale, result.scale)


def test_what_cannot_be_written_or_is_not_large_stays_in_memory(viewer, widget, large, quick, cache, monkeypatch):
    from napari_neural_style.viewer import worker

    told = []
    monkeypatch.setattr(worker, "show_warning", told.append)
    (cache / "stacks").write_bytes(b"no folder")
    widget.settings = large
    run_to_the_end(widget)
    result = viewer.layers[-1]
    assert isinstance(result.data, np.ndarray)
    assert result.name == "cat × waves · step 4"
    assert any("stays in memory" in words for words in told)
    # Nor is anything written of what is not large.
    widget.settings, told[:] = quick, []
    run_to_the_end(widget)
    assert isinstance(viewer.layers[-1].data, np.ndarray)
    assert not told


def test_a_deleted_layer_comes_back_from_disk(viewer, widget, large):
    widget.settings = dataclasses.replace(large, steps=20, save_every=20)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    viewer.layers.pop()
    wait_until(lambda: widget._job is None)
    assert viewer.layers[-1].multiscale
    assert viewer.layers[-1].name == "cat × waves · step 20"
