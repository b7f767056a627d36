"""What can be done with a result: by mouse and keyboard, in a real window."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.experimental import link_layers
from napari.layers import Image
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_neural_style import StyleSettings
from napari_neural_style.viewer import results, worker
from napari_neural_style.viewer.recall import command_for
from napari_neural_style.viewer.stopped import runs_folder
from napari_neural_style.viewer.tasks import go_on_task
from window import KEY, endless, opened, press, result_of, run_to_the_end, wait_until


def test_start_from_an_earlier_result(viewer, widget):
    run_to_the_end(widget)
    first = result_of(viewer)
    opened(widget, "more")._inputs.more.start_from.value = first
    widget.steps.value = 1
    run_to_the_end(widget)
    second = result_of(viewer)
    assert second.metadata[KEY]["sources"]["initial"] == first.name
    content = viewer.layers["cat"].data[::2, ::2][: first.data.shape[0], : first.data.shape[1]].astype(float)
    nearer = np.abs(second.data.astype(float) - first.data).mean()
    assert nearer < np.abs(second.data.astype(float) - content).mean()


def test_a_stopped_run_goes_on_to_the_same_image(viewer, widget):
    widget.steps.value = 250
    widget.save_every.value = 1000
    widget.device.value = "auto"
    run_to_the_end(widget)
    straight = result_of(viewer)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 3)
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    stopped = result_of(viewer)
    assert 0 < stopped.metadata[KEY]["step"] < 250
    assert (runs_folder() / stopped.metadata[KEY]["run"]).is_file()
    viewer.layers.selection.active = stopped
    part = Image(stopped.data[4:], name="part", metadata=stopped.metadata)
    with pytest.raises(ValueError, match="'part' was cropped or resized"):
        go_on_task(part)
    # The layers it was made from are not needed any more, nor the dock it was made in.
    viewer.layers.remove("waves")
    viewer.dims.order = (1, 0)  # nor the axes that were shown
    press(opened(widget, "results")._results.go_on)
    wait_until(lambda: widget._job is None)
    end = result_of(viewer)
    assert end.metadata[KEY]["step"] == 250
    for same in ("losses", "auto"):
        assert end.metadata[KEY][same] == straight.metadata[KEY][same]
    np.testing.assert_array_equal(end.data, straight.data)
    np.testing.assert_allclose(end.data_to_world((3, 4)), straight.data_to_world((3, 4)))
    # A run that is no longer kept is told.
    (runs_folder() / stopped.metadata[KEY]["run"]).unlink()
    viewer.layers.selection.active = stopped
    press(widget._results.go_on)
    assert f"is not in {runs_folder()}" in widget.message.value


def test_damaged_provenance_gets_a_sentence(viewer, widget):
    run_to_the_end(widget)
    result = result_of(viewer)
    viewer.layers.selection.active = result
    opened(widget, "results")
    for damaged in ({"styles": 5}, {"styles": [["waves"]]}, {"styles": [["waves", None]]}, {"style_regions": 5}):
        result.metadata[KEY]["sources"] = damaged
        widget.message.value = ""
        press(widget._results.use)
        assert "is damaged: its styles cannot be read" in widget.message.value
    runs_folder().mkdir(parents=True, exist_ok=True)
    (runs_folder() / "run.safetensors").touch()
    for axes in (5, ["y", "x"], [0], [0, 0], [7, -1], {}):
        result.metadata[KEY] |= {"run": "run.safetensors", "run_axes": axes}
        assert go_on_task(result).title.endswith("(going on)")


def test_use_these_settings(viewer, widget, pair):
    widget._fields["color"].value = "free"
    widget.steps.value = 4
    widget.device.value = "auto"
    run_to_the_end(widget)
    # What auto became, but for the device: this may be another machine. Without tiles, tile is as it was, or the next,
    # larger run would do without as well.
    made_with = dataclasses.replace(widget.settings, padding="reflect", tile="auto")
    result = result_of(viewer)
    press(widget.swap)
    press(widget.restore)
    assert widget.settings == StyleSettings()
    opened(widget, "results")
    for layer in (viewer.layers["cat"], result):
        viewer.layers.selection.active = layer
        assert widget._results.use.enabled == (layer is result)
        about = "Made with style strength 50, size 48, steps 4, color free, style scale 1, features self-taught."
        assert widget._results.about.value == (about if layer is result else results._SELECT)
    press(widget._results.use)
    assert result.metadata[KEY]["settings"]["device"] != "auto"
    assert widget.settings == made_with
    assert (widget.content.value.name, widget.style.value.name) == ("cat", "waves")
    # Nothing is chosen that the result was made without.
    more = opened(widget, "more")._inputs.more
    where = viewer.add_labels(np.ones(pair[1].shape[:2], int), name="where")
    more.content_regions.value = more.rows[0].regions.value = where
    more.start_from.value, more.area.value = result, "field of view"
    viewer.layers.selection.active = result
    assert more.used
    press(widget._results.use)
    assert not more.used
    viewer.layers.remove("waves")
    press(widget._results.use)
    assert "Not among the layers any more: waves" in widget.message.value


def test_a_layer_that_was_renamed_is_found(viewer, widget):
    run_to_the_end(widget)
    content, style, result = viewer.layers["cat"], viewer.layers["waves"], result_of(viewer)
    content.name = "cat before"
    viewer.add_image(np.zeros((9, 9)), name="cat")  # another of the same name is not taken for it
    press(widget.swap)
    viewer.layers.selection.active = result
    press(opened(widget, "results")._results.use)
    assert (widget.content.value, widget.style.value) == (content, style)
    press(widget._results.compare)
    assert [layer.name for layer in viewer.layers if layer.visible] == ["cat before", "cat × waves · step 6"]


def test_how_layers_were_shown_is_kept_with_a_result(viewer, widget):
    """A plane of a stack, and how a single channel looked."""
    stack = np.random.default_rng(0).integers(0, 999, (4, 40, 48), np.uint16)
    layer = viewer.add_image(stack, name="stack", colormap="magma", gamma=0.5, contrast_limits=(0, 999))
    widget.content.value = layer
    viewer.dims.set_current_step(0, 3)
    run_to_the_end(widget)
    result = result_of(viewer)
    sources = json.loads(json.dumps(result.metadata[KEY]["sources"]))
    assert sources["planes"] == {"stack": [3, None, None]}
    look = {"contrast_limits": [0.0, 999.0], "gamma": 0.5, "colormap": "magma"}
    assert sources["looks"] == {"stack": look}
    viewer.layers.selection.active = result
    press(opened(widget, "results")._results.use)
    assert "shown otherwise" not in widget.message.value
    layer.gamma = 1
    viewer.dims.set_current_step(0, 1)
    press(widget._results.use)
    assert "stack (plane 3, :, :)" in widget.message.value
    assert "colormap magma" in widget.message.value
    press(widget._results.copy)
    assert "one plane each" in widget.message.value
    assert "colormaps" in widget.message.value


def test_a_plane_in_another_view_and_the_plane_of_labels_are_told(viewer, widget):
    """Both are at 0 along all axes."""
    layer = viewer.add_image(np.random.default_rng(0).random((44, 40, 48)), name="stack")
    labels = np.zeros((44, 40, 48), int)
    labels[0], labels[5, :20] = 1, 1
    widget.content.value = layer
    opened(widget, "more")._inputs.more.content_regions.value = viewer.add_labels(labels, name="where")
    viewer.dims.set_current_step(0, 0)
    run_to_the_end(widget)
    result = result_of(viewer)
    assert result.metadata[KEY]["sources"]["planes"] == {name: [0, None, None] for name in ("stack", "where")}
    viewer.dims.order = (1, 0, 2)
    viewer.layers.selection.active = result
    press(opened(widget, "results")._results.use)
    assert "Then shown otherwise: stack (plane 0, :, :), where (plane 0, :, :)." in widget.message.value


def test_shapes_called_as_the_content_was_are_not_taken_for_it(viewer, widget):
    widget.content.value = viewer.add_image(np.random.default_rng(0).random((3, 40, 48)), name="stack")
    run_to_the_end(widget)
    result = result_of(viewer)
    viewer.layers.remove("stack")
    viewer.add_shapes([[[0, 0, 0], [0, 0, 9], [0, 9, 9], [0, 9, 0]]], name="stack")
    viewer.layers.selection.active = result
    press(opened(widget, "results")._results.use)
    assert widget.message.value == "Not among the layers any more: stack."


def test_what_it_takes_beside_the_settings_is_told(viewer, widget):
    """An area, chosen again; and of a step before the last, where its command writes it."""
    box = np.array([[10, 20], [10, 100], [60, 100], [60, 20]])
    opened(widget, "more")._inputs.more.area.value = viewer.add_shapes([box], name="box", shape_type="rectangle")
    run_to_the_end(widget)
    viewer.layers.selection.active = result_of(viewer)
    press(opened(widget, "results")._results.use)
    assert "It was limited to an area: choose that again." in widget.message.value
    viewer.layers.selection.active = next(layer for layer in viewer.layers if layer.name.endswith("step 3"))
    press(widget._results.copy)
    assert f"Its picture comes out as {Path('steps') / 'step-0003.png'}." in widget.message.value
    viewer.layers.selection.active = result_of(viewer)
    press(widget._results.copy)
    assert "comes out" not in widget.message.value


def test_a_command_does_not_take_a_file_for_one_of_its_channels(viewer, tmp_path):
    tifffile.imwrite(tmp_path / "two.tif", np.arange(128, dtype=np.uint8).reshape(2, 8, 8))
    _, other = viewer.open(tmp_path / "two.tif", plugin="napari", channel_axis=0, name=["one", "other"])
    made_by = {"settings": StyleSettings().to_dict(), "sources": {"content": "one", "style": "waves"}}
    result = viewer.add_image(np.zeros((8, 8, 3)), metadata={KEY: made_by})
    command, words = command_for(result, viewer)
    assert "stylize CONTENT.png STYLE.png" in command
    assert "in place of CONTENT.png and STYLE.png" in words
    viewer.layers.remove(other)
    assert "two.tif STYLE.png" in command_for(result, viewer)[0]
    tifffile.imwrite(tmp_path / "grey.tif", np.arange(64, dtype=np.uint8).reshape(8, 8))
    for _ in range(2):
        made_by["sources"]["content"] = viewer.open(tmp_path / "grey.tif", plugin="napari")[0].name
    assert "grey.tif STYLE.png" in command_for(result, viewer)[0]


def test_what_a_user_makes_of_the_live_layer_stays(viewer, widget):
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    live = result_of(viewer)
    live.name = "mine"
    live.metadata["note"] = "a word"
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    assert live.name == "mine"
    assert live.metadata["note"] == "a word"
    assert live.metadata[KEY]["sources"]["content"] == "cat"


def test_layers_that_are_linked_with_those_of_a_run_stay_as_they_are(viewer, widget):
    opened(widget, "results")._results.steps_as.value = "one layer"
    endless(widget, save_every=5)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 3)
    cat, saved, live = viewer.layers[1:]
    cat.metadata["slide"], place = 7, cat.affine.affine_matrix.copy()
    link_layers([cat, saved, live])
    count = len(saved.data)
    wait_until(lambda: len(saved.data) > count)
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    assert cat.metadata == {"slide": 7}
    np.testing.assert_array_equal(cat.affine.affine_matrix, place)
    assert live.metadata[KEY]["sources"]["content"] == "cat"
    assert saved.metadata[KEY]["steps"][-1] == 5 * len(saved.data)
    assert viewer.dims.nsteps[0] == len(saved.data)


def test_copy_as_command_makes_the_same_image(viewer, widget, pair, tmp_path, monkeypatch):
    import shlex

    from PIL import Image

    from napari_neural_style.cli import main

    monkeypatch.chdir(tmp_path)
    for name, image in zip(("cat", "waves"), pair, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    viewer.layers.clear()
    viewer.open([tmp_path / "waves.png", tmp_path / "cat.png"], plugin="napari")
    widget.content.value, widget.style.value = viewer.layers["cat"], viewer.layers["waves"]
    opened(widget, "results")
    for mode in ("transfer", "content", "texture"):
        widget._fields["mode"].value = mode
        run_to_the_end(widget)
        result = result_of(viewer)
        viewer.layers.selection.active = result
        assert ("style strength" in widget._results.about.value) == (mode == "transfer")
        press(widget._results.copy)
        command = QApplication.clipboard().text()
        assert command.startswith("napari-neural-style stylize")
        assert main(shlex.split(command)[1:]) == 0
        with Image.open("stylized.png") as made:
            np.testing.assert_array_equal(np.asarray(made), result.data, mode)
        Path("stylized.png").unlink()


def test_saved_steps_as_one_layer_with_a_slider(viewer, widget):
    viewer.canvas.overlays["scale_bar"].visible = True  # which fails without a layer with that axis
    steps_as = opened(widget, "results")._results.steps_as
    widget.steps.value = 12
    widget.save_every.value = 1
    removed = []
    viewer.layers.events.removed.connect(removed.append)
    for steps_as.value in ("auto", "one layer"):
        viewer.scene.camera.zoom = zoom = 40.0
        run_to_the_end(widget)
        assert viewer.scene.camera.zoom == zoom, steps_as.value  # for a new slider napari shows all layers
        assert not removed, steps_as.value  # each would hold the window up
        assert [layer.name[14:] for layer in viewer.layers[2:]] == ["saved steps", "step 12"], steps_as.value
        if steps_as.value == "auto":
            del viewer.layers[2:]
            removed.clear()
    stack, final = viewer.layers[2:]
    assert stack.name == "cat × waves · saved steps"
    assert stack.data.shape == (11, 32, 48, 3)
    assert stack.metadata[KEY]["steps"] == list(range(1, 12))
    np.testing.assert_allclose(stack.data_to_world((0, 5, 7))[1:], final.data_to_world((5, 7)))
    stack.visible = True
    viewer.dims.set_current_step(0, 10)
    assert viewer.dims.axis_labels[0] == "saved step"
    assert (viewer.dims.nsteps[0], viewer.dims.current_step[0]) == (11, 10)


def test_a_saved_step_leaves_the_selection_as_it_is(viewer, widget):
    """Neither the layer list nor the layer controls change; choosing the new layer shows its own."""
    names = {"cat", "waves"}
    opened(widget, "results")._results.steps_as.value = "layers"
    endless(widget, save_every=20)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    selection, window = viewer.layers.selection, viewer.window._qt_viewer
    view, controls = window.layers, window.controls
    viewer.layers.selection = {viewer.layers[name] for name in names}
    shown, changes = controls.currentWidget(), []
    selection.events.changed.connect(changes.append)
    before = len(viewer.layers)
    wait_until(lambda: len(viewer.layers) > before + 1)
    assert {layer.name for layer in selection} == names
    assert {index.data() for index in view.selectedIndexes()} == names
    assert controls.currentWidget() is shown
    assert not changes
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    kept = viewer.layers[before - 1]
    selection.active = kept
    assert controls.currentWidget() is controls.widgets[kept]
    assert [index.data() for index in view.selectedIndexes()] == [kept.name]


def test_what_is_being_drawn_on_stays_selected(viewer, widget):
    labels = viewer.add_labels(np.zeros((80, 120), int))
    labels.mode = "paint"
    run_to_the_end(widget)
    assert result_of(viewer).name.endswith("step 6")
    assert viewer.layers.selection.active is labels
    assert labels.mode == "paint"


def test_a_new_slider_leaves_the_keys_with_theirs(viewer, widget):
    widget.content.value = viewer.add_image(np.random.default_rng(0).random((2, 3, 40, 60)), name="stack")
    opened(widget, "results")._results.steps_as.value = "one layer"
    viewer.dims.set_current_step(1, 0)
    viewer.dims.last_used = 1
    run_to_the_end(widget)
    viewer.dims._increment_dims_right()  # as the arrow key does
    assert viewer.dims.current_step[:3] == (0, 0, 1)


def test_saved_steps_have_the_unit_and_the_steps_of_the_axis_that_they_share(viewer, widget):
    """With another napari would show all layers without units, and its slider would stop between planes."""
    units = ("um", "um", "um")
    viewer.add_image(np.zeros((5, 20, 20)), name="stack", units=units, scale=(3, 1, 1), translate=(4, 0, 0))
    for layer in viewer.layers:
        layer.units = units[-layer.ndim :]
    opened(widget, "results")._results.steps_as.value = "one layer"
    run_to_the_end(widget)
    saved = next(layer for layer in viewer.layers if "saved steps" in layer.name)
    assert saved.ndim == 3
    assert viewer.dims.units is not None
    assert viewer.dims.range[0] == (4, 16, 3)


def test_more_saved_steps_than_foreseen_go_to_one_layer(viewer, widget):
    widget.steps.value = 200
    widget.save_every.value = 100
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    widget.save_every.value = 10
    wait_until(lambda: widget._job is None)
    kept = [layer for layer in viewer.layers[2:] if layer.ndim == 2]
    (stack,) = (layer for layer in viewer.layers[2:] if layer.ndim == 3)
    assert len(kept) == 8 + 1
    assert len(stack.data) == len(stack.metadata[KEY]["steps"]) > 8


def test_eight_saved_steps_are_layers_and_nine_are_one(viewer, widget):
    widget.save_every.value = 1
    widget.steps.value = 9  # the last is the live layer
    run_to_the_end(widget)
    assert [layer.name for layer in viewer.layers[2:]] == [f"cat × waves · step {n}" for n in range(1, 10)]
    widget.steps.value = 10
    run_to_the_end(widget)
    assert [layer.name for layer in viewer.layers[11:]] == ["cat × waves · saved steps", "cat × waves · step 10"]


def test_a_run_that_is_stopped_on_a_saved_step_has_it_once_or_under_the_name_it_was_given(viewer, widget, monkeypatch):
    monkeypatch.setattr(worker, "LONGEST_HOLD", 60.0)  # other programs may have the cores

    def stop(event):
        if event.value.name.endswith("step 2"):
            press(widget.stop)
            if renamed:
                QTimer.singleShot(0, lambda: setattr(event.value, "name", "mine"))

    viewer.layers.events.inserted.connect(stop)
    endless(widget, save_every=1)
    opened(widget, "results")._results.steps_as.value = "layers"
    for renamed in ([], ["mine"]):
        run_to_the_end(widget)
        names = [layer.name for layer in viewer.layers[2:]]
        assert names == ["cat × waves · step 1", *renamed, "cat × waves · step 2"]
        del viewer.layers[2:]


def test_saved_steps_come_hidden_into_a_view_in_three_dimensions(viewer, widget):
    endless(widget, save_every=2)
    opened(widget, "results")._results.steps_as.value = "layers"
    press(widget.run)
    viewer.dims.ndisplay = 3
    wait_until(lambda: len(viewer.layers) > 5)
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    assert not any(layer.visible for layer in viewer.layers[2:-1])
    assert result_of(viewer).visible


def test_a_live_layer_is_named_in_titles_as_what_it_becomes(viewer, widget):
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    live = result_of(viewer)
    widget.steps.value = 2
    widget.content.value = live
    press(widget.run)
    widget.content.value, widget.style.value = viewer.layers["cat"], live
    press(widget.run)
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    names = [layer.name.removesuffix(" [1]") for layer in viewer.layers[-2:]]  # the first run may end at step 2 as well
    assert names == ["cat × waves · step 2", "cat × (cat × waves) · step 2"]


def test_compare_and_back(viewer, widget):
    run_to_the_end(widget)
    before = {layer.name: layer.visible for layer in viewer.layers}
    viewer.layers.selection.active = result_of(viewer)
    viewer.scene.camera.zoom = zoom = 7.0
    press(opened(widget, "results")._results.compare)
    assert 120 * viewer.scene.camera.zoom < viewer.canvas.size[1] / 2
    grid = viewer.canvas.grid
    assert grid.enabled
    assert [layer.name for layer in viewer.layers if layer.visible] == ["cat", "cat × waves · step 6"]
    cat, result = (viewer.layers.index(layer) for layer in viewer.layers if layer.visible)
    assert grid.position(cat, viewer.layers) == (0, 0)
    assert grid.position(result, viewer.layers) == (0, 1)
    press(widget._results.compare)
    assert not grid.enabled
    assert viewer.scene.camera.zoom == zoom
    assert {layer.name: layer.visible for layer in viewer.layers} == before
    # The content is on the left wherever it lies.
    result = result_of(viewer)
    for place in (0, len(viewer.layers)):
        viewer.layers.move(viewer.layers.index("cat"), place)
        press(widget._results.compare)
        cells = [grid.position(viewer.layers.index(each), viewer.layers) for each in ("cat", result)]
        assert cells == [(0, 0), (0, 1)], place
        press(widget._results.compare)


def test_compare_a_plane_of_a_stack_and_let_a_queue_end_it(viewer, widget):
    stack = viewer.add_image(np.random.default_rng(0).random((4, 40, 60)), name="stack")
    viewer.dims.set_current_step(0, 2)
    widget.content.value = stack
    run_to_the_end(widget)
    viewer.layers.selection.active = result_of(viewer)
    viewer.dims.set_current_step(0, 0)
    press(opened(widget, "results")._results.compare)
    assert viewer.dims.current_step[0] == 2
    viewer.add_image(np.zeros((3, 4, 40, 60)), visible=False)
    press(widget._results.compare)
    assert viewer.dims.current_step[1] == 0
    viewer.layers.selection.active = next(layer for layer in viewer.layers if layer.name.endswith("step 6"))
    endless(widget)
    press(widget.run)
    press(widget._results.compare)  # before there is a picture, which would lie over it
    wait_until(lambda: any("live" in layer.name for layer in viewer.layers))
    assert not viewer.canvas.grid.enabled
    widget.steps.value = 2
    press(widget.run)
    wait_until(lambda: any("live" in layer.name for layer in viewer.layers))
    viewer.layers.selection.active = next(layer for layer in viewer.layers if layer.name.endswith("step 6"))
    press(widget._results.compare)
    assert viewer.canvas.grid.enabled
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    assert not viewer.canvas.grid.enabled


def test_what_was_turned_is_replayed(viewer, widget):
    widget.steps.value = 200
    widget.save_every.value = 1000
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    widget._fields["variation_weight"].value = "3"
    widget.style_strength.value = 80
    wait_until(lambda: widget._job is None)
    turned = result_of(viewer)
    assert turned.metadata[KEY]["settings"]["changes"]
    viewer.layers.selection.active = turned
    press(opened(widget, "results")._results.use)
    assert widget._results.about.value.endswith("Turned on the way: style weight, variation weight.")
    run_to_the_end(widget)
    np.testing.assert_array_equal(result_of(viewer).data, turned.data)
