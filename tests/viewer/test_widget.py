from __future__ import annotations

import dataclasses
import gc
import re
import sys
import time

import numpy as np
import pytest
from napari.utils import progress
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from loopback import address
from napari_neural_style import PRESETS, StyleSettings
from napari_neural_style.settings import SETTINGS
from napari_neural_style.viewer import rest, worker
from napari_neural_style.viewer.widget import StyleTransferWidget
from window import KEY, endless, opened, press, run_to_the_end, wait_for_another_picture, wait_until


def test_two_layers_in_a_stylised_layer_out(viewer, widget):
    assert (widget.content.value.name, widget.style.value.name) == ("cat", "waves")
    run_to_the_end(widget)
    assert [layer.name for layer in viewer.layers] == ["waves", "cat", "cat × waves · step 3", "cat × waves · step 6"]
    kept, final = viewer.layers[2:]
    assert (kept.visible, final.visible) == (False, True)
    assert kept.thumbnail[..., :3].any()
    for layer in (kept, final):
        assert layer.rgb
        assert layer.data.dtype == np.uint8
        assert layer.data.shape == (32, 48, 3)
        made_by = layer.metadata[KEY]
        assert made_by["sources"] == {"content": "cat", "style": "waves"}
        assert StyleSettings.from_dict(made_by["settings"]).features == "self-taught"
        assert set(made_by["losses"]) == {"total", "content", "style", "variation"}
        assert len(made_by["features_fingerprint"]) == 64
        assert "torch" in made_by["versions"]
    assert [layer.metadata[KEY]["step"] for layer in (kept, final)] == [3, 6]
    assert not np.array_equal(kept.data, final.data)
    assert widget.message.value == "Done."
    assert widget.run.enabled
    assert not widget.stop.enabled


def test_each_run_has_a_loss_curve_with_every_step_and_is_in_progress_while_it_lasts(widget):
    before = set(progress._all_instances)
    for count in (40, 3):
        widget.steps.value = count
        press(widget.run)
        assert len(progress._all_instances) == len(before) + 1
        wait_until(lambda: widget._job is None)
        assert set(progress._all_instances) == before
        steps, seconds = widget._runner.curve.points()[:, :2].T
        np.testing.assert_array_equal(steps, np.arange(1, count + 1))
        assert (np.diff(seconds) > 0).all()


def test_earlier_results_are_never_overwritten_and_names_do_not_grow(viewer, widget):
    run_to_the_end(widget)
    first = viewer.layers[-1]
    before = first.data.copy()
    widget.content.value = first
    run_to_the_end(widget)
    names = [layer.name for layer in viewer.layers]
    assert len(names) == len(set(names)) == 6
    assert names[-1] == "cat × waves · step 6 [1]"
    np.testing.assert_array_equal(first.data, before)
    # It is named as it is in what made the next, and found by that name.
    second = viewer.layers[-1]
    assert second.metadata[KEY]["sources"] == {"content": first.name, "style": "waves"}
    widget.content.value = viewer.layers["cat"]
    viewer.layers.selection.active = second
    press(opened(widget, "results")._results.use)
    assert widget.content.value is first
    widget._fields["mode"].value = "content"
    for number in ("", " [1]", " [2]"):
        run_to_the_end(widget)
        assert viewer.layers[-1].name == f"cat · content conv2_1=1 · step 6{number}"
        widget.content.value = viewer.layers[-1]


def test_a_grey_16_bit_layer_with_a_scale_in_micrometres(viewer, widget, pair):
    gray = pair[0][..., 0].astype(np.uint16) * 100
    cells = viewer.add_image(
        gray, name="cells", colormap="magma", scale=(0.325, 0.325), translate=(3, 4), rotate=20, units=("um", "um")
    )
    widget.content.value = cells
    run_to_the_end(widget)
    result = viewer.layers[-1]
    assert result.units == cells.units
    h, w = cells.data.shape
    for corner in ((-0.5, -0.5), (h - 0.5, w - 0.5), (-0.5, w - 0.5)):
        scaled = (np.array(corner) + 0.5) * np.array(result.data.shape[:2]) / (h, w) - 0.5
        np.testing.assert_allclose(result.data_to_world(scaled), cells.data_to_world(corner), atol=1e-9)


def test_the_live_layer_moves_while_the_run_goes_on_and_stop_keeps_the_picture_so_far(viewer, widget):
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) == 3)
    live = viewer.layers[-1]
    assert live.name == "cat × waves · live"
    seen = live.data.copy()
    wait_until(lambda: not np.array_equal(live.data, seen))
    assert "left" in widget.message.value or "Step" in widget.message.value
    assert widget.bar.visible
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    assert "Stopped" in widget.message.value
    assert viewer.layers[2:] == [live]
    assert live.name == f"cat × waves · step {live.metadata[KEY]['step']}"
    assert widget.run.enabled


def test_pause_and_resume(viewer, widget):
    opened(widget, "results")._results.steps_as.value = "layers"
    endless(widget, save_every=20)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 3)
    press(widget.pause)
    assert widget.pause.text == "Res&ume"
    wait_until(lambda: "Paused" in widget.message.value)
    for _ in range(40):
        QApplication.processEvents()
        time.sleep(0.01)
    held = len(viewer.layers)
    picture = viewer.layers[-1].data
    for _ in range(40):
        QApplication.processEvents()
        time.sleep(0.01)
    assert len(viewer.layers) == held
    assert viewer.layers[-1].data is picture
    press(widget.pause)
    wait_until(lambda: len(viewer.layers) > held)


def test_a_paused_run_says_so_once_and_the_time_left_is_guessed_anew_after_it(widget):
    widget.settings = dataclasses.replace(widget.settings, scales=2)
    endless(widget)
    press(widget.run)
    wait_until(lambda: " left" in widget.message.value)
    for _ in range(2):
        press(widget.pause)
        assert re.match(r"Paused. Step \d+ of 1000000, scale [12] of 2 · ", widget.message.value)
        press(widget.pause)
        assert widget.message.value.startswith("Step")
    wait_until(lambda: " left" in widget.message.value)
    press(widget.pause)
    wait_until(lambda: "Paused" in widget.message.value)
    said = []
    widget._runner.said.connect(said.append)
    press(widget.pause)
    wait_until(lambda: len(said) > 1)  # the first is what was said before the pause
    assert said[1].startswith("Step")
    assert " left" not in said[1]


def test_a_pause_before_the_first_step_is_told(widget):
    endless(widget)
    press(widget.run)
    press(widget.pause)
    for _ in range(50):
        QApplication.processEvents()
        time.sleep(0.01)
        assert widget.message.value.startswith("Paused. ")
    assert "Step" not in widget.message.value or "Step 1 " in widget.message.value


def test_a_paused_download_waits(widget, monkeypatch, server, whole_file):
    from napari_neural_style.engine import download

    monkeypatch.setattr(download, "torchvision_url", lambda: f"{address(server, whole_file)}?slow")
    widget.features.value = "pretrained"
    press(widget.download)
    wait_until(lambda: widget.bar.value > 0)
    press(widget.pause)

    def received() -> int:
        for _ in range(50):
            QApplication.processEvents()
            time.sleep(0.01)
        return widget.bar.value

    assert received() == received() < widget.bar.max
    press(widget.pause)
    wait_until(lambda: widget._job is None)
    assert widget.message.value == "Done."


def test_saving_every_step_does_not_flood_the_window(viewer, widget):
    opened(widget, "results")._results.steps_as.value = "layers"
    endless(widget, save_every=1)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 6)
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    assert len(viewer.layers) < 20
    steps = [layer.metadata[KEY]["step"] for layer in viewer.layers[2:-1]]
    assert steps == list(range(1, len(steps) + 1))


def test_a_run_holds_while_a_saved_step_is_added(viewer, widget, monkeypatch):
    from napari_neural_style.engine import transfer

    stylize, done, during = transfer.stylize, [], []

    def counted(*arguments, **options):
        for step in stylize(*arguments, **options):
            done.append(step.index)
            yield step

    def slowly(event):
        if "live" not in event.value.name:
            before = len(done)
            time.sleep(0.2)
            during.append(len(done) - before)

    monkeypatch.setattr(transfer, "stylize", counted)
    monkeypatch.setattr(worker, "LONGEST_HOLD", 60.0)  # other programs may have the cores
    viewer.layers.events.inserted.connect(slowly)
    widget.steps.value, widget.save_every.value = 60, 10
    run_to_the_end(widget)
    assert done == list(range(1, 61))
    assert during == [0] * 5


def test_a_saved_step_is_shown_added_and_drawn_in_turns_of_their_own(viewer, widget):
    turns, shown, added, window = [], [], [], viewer.window._qt_window
    timer = QTimer(window)
    timer.timeout.connect(lambda: turns.append(None))
    timer.start(0)

    def note(event):
        if "live" in event.value.name:
            shown.append(len(turns))
            event.value.events.data.connect(lambda: shown.append(len(turns)))
        else:
            added.append((len(turns), window.updatesEnabled()))

    viewer.layers.events.inserted.connect(note)
    widget.steps.value, widget.save_every.value = 40, 10
    run_to_the_end(widget)
    viewer.layers.events.inserted.disconnect(note)
    assert len(added) == 3
    for turn, drawing in added:
        assert turn > max(before for before in shown if before <= turn)
        assert not drawing
    wait_until(window.updatesEnabled)


def test_after_a_layer_previews_rest_as_long_as_after_the_last_of_them(viewer, widget, monkeypatch):
    for name, value in (("FIRST_REST", 0.1), ("REST", 1e6), ("LONGEST_REST", 600.0)):
        monkeypatch.setattr(rest, name, value)
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) == 3)
    wait_until(lambda: widget._job._rest.seconds == 600)  # a preview came in spite of the time that the layer took
    press(widget.save_now)
    wait_until(lambda: len(viewer.layers) == 4)
    assert widget._job._rest.until - time.monotonic() > 300
    press(widget.stop)
    wait_until(lambda: widget._job is None)


def test_a_fault_while_a_picture_is_shown_is_not_the_last_of_the_run(viewer, widget, monkeypatch):
    def fail():
        raise RuntimeError("another plugin's")

    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) == 3)
    job = widget._job
    with monkeypatch.context() as broken, pytest.raises(RuntimeError):
        broken.setattr(job, "_deliver", fail)
        job._timer.stop()
        job._look()
    wait_for_another_picture(viewer.layers[-1])


def test_a_fault_at_the_end_of_a_run_leaves_the_dock_ready_for_the_next(viewer, widget, monkeypatch):
    def fail():
        raise OSError("the picture on disk is gone")

    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) == 3)
    job, outputs = widget._job, widget._runner._outputs
    job._timer.stop()
    job.stop()
    job.join()
    with monkeypatch.context() as broken, pytest.raises(OSError, match="gone"):
        broken.setattr(outputs, "finish", fail)
        job._look()
    assert (widget.run.text, widget.stop.enabled) == ("&Run", False)
    assert widget.message.value == "Stopped; the picture so far is kept."
    assert job._callbacks is worker._NOBODY


def test_a_fault_of_another_plugin_when_layers_come_leaves_them_their_names(viewer, widget, monkeypatch):
    def fail(event):
        raise RuntimeError("another plugin's")

    faults = []
    monkeypatch.setattr(sys, "excepthook", lambda *fault: faults.append(fault))
    viewer.layers.events.inserted.connect(fail, position="last")
    run_to_the_end(widget)
    widget.steps.value = 1
    run_to_the_end(widget)
    viewer.layers.events.inserted.disconnect(fail)
    assert len(faults) == 3
    assert [layer.name[14:] for layer in viewer.layers[2:]] == ["step 3", "step 6", "step 1"]


def test_garbage_of_a_run_alone_is_collected_during_it_and_all_again_after(viewer, widget, pair):
    gc.unfreeze()
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) == 3)
    assert gc.get_freeze_count()
    viewer.layers.remove("waves")
    assert not gc.get_freeze_count(), "napari collects what a layer leaves behind"
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    widget._fields["mode"].value = "content"
    press(widget.run)
    assert gc.get_freeze_count()
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    assert not gc.get_freeze_count()


def test_a_run_that_ends_on_a_plateau_gives_its_last_step_once(viewer, widget):
    endless(widget)
    widget._fields["min_improvement"].value = "0.02"
    run_to_the_end(widget)
    (last,) = viewer.layers[2:]
    assert last.name == f"cat × waves · step {last.metadata[KEY]['step']}"
    assert last.metadata[KEY]["step"] < 1_000_000


def test_a_live_layer_that_is_deleted_comes_back_at_the_end(viewer, widget):
    widget.steps.value = 400
    widget.save_every.value = 400
    press(widget.run)
    wait_until(lambda: len(viewer.layers) == 3)
    viewer.layers.pop()
    wait_until(lambda: widget._job is None)
    assert viewer.layers[-1].name == "cat × waves · step 400"


def test_run_says_why_it_cannot(viewer, widget):
    """Beside how the last run ended, if there was one."""
    viewer.dims.ndisplay = 3
    assert not widget.run.enabled
    assert "2-D" in widget.message.value
    viewer.dims.ndisplay = 2
    assert widget.run.enabled
    widget.steps.value = 2
    run_to_the_end(widget)
    assert widget.message.value == "Done."
    viewer.dims.ndisplay = 3
    assert not widget.run.enabled
    assert widget.message.value.startswith("Done. The viewer shows three dimensions.")
    viewer.dims.ndisplay = 2
    assert widget.message.value == "Done."
    widget.features.value = "pretrained"
    assert not widget.run.enabled
    assert "Download" in widget.message.value
    widget.features.value = "file"
    assert "Choose a features file" in widget.message.value
    widget.features.value = "self-taught"
    assert widget.run.enabled
    viewer.layers.clear()
    assert not widget.run.enabled
    assert "Open two images" in widget.message.value


def test_fields_that_are_of_no_use_at_first_come_into_their_places(viewer, widget, pair):
    cat = widget.content.value
    before = [field.name for field in widget._main]
    widget.content.value = viewer.add_image(np.stack([pair[0][..., 0]] * 3), name="stack")
    widget.features.value = "file"
    after = [field.name for field in widget._main]
    assert after[:4] == ["content", "planes", "chained", "style"]
    assert after[after.index("features") + 1] == "features_file"
    late = [field for field in widget._main if field.name not in before]
    assert [field.name for field in late] == ["planes", "chained", "features_file"]
    assert all(field.native.accessibleName() for field in late)
    assert widget.planes.visible
    assert widget._fields.file.visible
    widget.content.value = cat
    widget.features.value = "self-taught"
    assert not any(field.visible for field in late)


def test_images_that_come_after_the_dock_are_told_apart(make_napari_viewer, pair):
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget(KEY, "Style Transfer")
    waves = viewer.add_image(pair[1], name="waves", rgb=True)
    assert "Open one more image" in widget.message.value
    assert not widget.run.enabled
    cat = viewer.add_image(pair[0], name="cat", rgb=True)
    assert (widget.content.value, widget.style.value) == (cat, waves)
    assert widget.run.enabled
    third = viewer.add_image(pair[0], name="third", rgb=True)
    assert (widget.content.value, widget.style.value) == (cat, waves)
    viewer.layers.remove(waves)
    assert (widget.content.value, widget.style.value) == (cat, third)
    viewer.layers.remove(cat)
    viewer.add_image(pair[1], name="waves", rgb=True)
    assert widget.content.value is not widget.style.value


def test_a_content_that_was_alone_stays_chosen_after_its_run(make_napari_viewer, pair, quick):
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget(KEY, "Style Transfer")
    cat = viewer.add_image(pair[0], name="cat", rgb=True)
    widget.settings = dataclasses.replace(quick, mode="content")
    run_to_the_end(widget)
    viewer.add_image(pair[1], name="waves", rgb=True)
    assert widget.content.value is cat


def test_one_layer_in_both_fields_is_told_and_stays_chosen(viewer, widget, pair):
    cat = viewer.layers["cat"]
    widget.style.value = cat
    assert widget.message.value == "Content and style are the same layer: choose another style."
    assert not widget.run.enabled
    viewer.add_image(pair[0], name="third", rgb=True)
    assert widget.content.value is widget.style.value is cat
    widget._sections["more"].open()
    widget._inputs.more.area.value = "field of view"
    assert widget.run.enabled


def test_what_is_wrong_or_odd_in_a_content_is_told(viewer, widget, pair):
    from napari.utils.notifications import notification_manager

    broken = viewer.add_image(np.where(np.eye(40) > 0, np.nan, 0.5), name="broken", contrast_limits=(0, 1))
    widget.content.value = broken
    run_to_the_end(widget)
    assert "NaN" in widget.message.value
    assert len(viewer.layers) == 3
    widget.content.value = viewer.add_image(pair[0].astype(np.float32), name="bright", rgb=True)
    run_to_the_end(widget)
    assert widget.message.value == "Done."
    wait_until(lambda: any("'bright'" in note.message for note in notification_manager.records))


def test_presets_and_every_setting_go_through_the_fields(widget):
    opened(widget, "advanced")
    for name, preset in reversed(PRESETS.items()):
        widget.preset.value = name
        assert widget.settings == StyleSettings.from_dict({**preset.to_dict(), "device": "cpu"})
    for name, details in SETTINGS.items():
        field = widget._fields[name]
        assert details.help.split(".")[0] in field.tooltip
        assert "min_structure" not in field.tooltip  # which its label calls otherwise
    for field in (widget.content, widget.style, widget.preset, widget.style_strength, widget.run, widget.stop):
        assert field.tooltip

    # A wrong number is told beside the button.
    widget._fields["style_weight"].value = "plenty"
    assert not widget.run.enabled
    assert "style weight must be a number" in widget.message.value
    widget._fields["style_weight"].value = "1"
    widget._fields["changes"].value = "5"
    assert "of the form 100:style_weight=40," in widget.message.value


def test_swap_and_the_selected_layer(viewer, widget):
    press(widget.swap)
    assert (widget.content.value.name, widget.style.value.name) == ("waves", "cat")
    viewer.layers.selection.active = viewer.layers["waves"]
    fresh = StyleTransferWidget(viewer)
    assert (fresh.content.value.name, fresh.style.value.name) == ("waves", "cat")
    fresh.close()


def test_swap_where_there_is_nothing_to_swap(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-neural-style", "Style Transfer")
    press(widget.swap)
    assert (widget.content.value, widget.style.value) == (None, None)
    assert "Open two images first" in widget.message.value


def test_asks_once_whether_to_download(widget):
    widget.features.value = "auto"
    assert widget._question.visible
    press(widget.use_self_taught)
    assert widget.features.value == "self-taught"
    assert not widget._question.visible
    widget.features.value = "auto"
    run_to_the_end(widget)
    assert not widget._question.visible


def test_download_from_the_dock(widget, monkeypatch, server, whole_file):
    """The button fetches into the cache and the choice says so; the network is a server on loopback."""
    from napari_neural_style.engine import download

    widget.features.value = "pretrained"
    for wrong_hash in ("0123abcd", None):
        assert not widget.run.enabled
        url = address(server, whole_file, wrong_hash)
        monkeypatch.setattr(download, "torchvision_url", lambda url=url: url)
        press(widget.download)
        wait_until(lambda: widget._job is None)
        label = widget.features.native.currentText()
        if wrong_hash:
            assert "not the expected file" in widget.message.value
            assert label == "pretrained (missing)"
            assert widget._question.visible
    assert widget.message.value == "Done."
    assert label == "pretrained (on disk)"
    assert widget.run.enabled
    assert not widget._question.visible
