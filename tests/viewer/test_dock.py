"""What the dock offers around a run, used as people do: by mouse and keyboard, in a real window."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from napari.resources import LOADING_GIF_PATH
from napari.settings import get_settings
from qtpy.QtCore import QEvent, QObject, QPoint, Qt
from qtpy.QtGui import QHelpEvent, QMovie
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLabel, QStyle, QStyleOptionComboBox, QToolTip

from napari_neural_style import StyleSettings, store
from napari_neural_style.viewer.widget import StyleTransferWidget
from napari_neural_style.viewer.window import lay_out_now
from napari_neural_style.viewer.world import view_of
from window import KEY, endless, opened, press, result_of, run_to_the_end, wait_for_another_picture, wait_until


def test_several_styles_with_weights(viewer, widget, pair):
    viewer.add_image(255 - pair[1], name="night", rgb=True)
    widget.style.value = viewer.layers["waves"]
    press(opened(widget, "more")._inputs.more.add)
    first, second = widget._inputs.more.rows
    assert second.layer.value.name == "night"
    assert widget._inputs.more.each.enabled
    second.weight.value = 3
    run_to_the_end(widget)
    result = result_of(viewer)
    assert result.name == "cat × waves + night · step 6"
    assert result.metadata[KEY]["sources"]["styles"] == [["waves", 1.0], ["night", 3.0]]
    mixed = result.data.mean((0, 1))
    press(second.remove_button)
    assert widget._inputs.more.rows == [first]
    assert not widget._inputs.more.each.enabled
    run_to_the_end(widget)
    alone = result_of(viewer).data.mean((0, 1))
    towards = 255 - 2 * pair[1].mean((0, 1))
    assert np.dot(mixed - alone, towards) > 0
    viewer.layers.remove("night")
    dusk = viewer.add_image(pair[1] // 2, name="dusk", rgb=True)
    press(widget._inputs.more.add)
    assert widget._inputs.more.rows[1].layer.value is dusk  # not a result, though those lie lower


def test_content_alone_and_style_alone(viewer, widget):
    widget._fields["mode"].value = "content"
    assert (widget.content.enabled, widget.style.enabled, widget.style_strength.enabled) == (True, False, False)
    widget._fields["content_layers"].value = "conv1_2=1"
    run_to_the_end(widget)
    result = result_of(viewer)
    assert result.name == "cat · content conv1_2=1 · step 6"
    assert result.metadata[KEY]["losses"]["style"] == 0
    viewer.layers.remove("cat")
    widget._fields["mode"].value = "texture"
    assert (widget.content.enabled, widget.style.enabled) == (False, True)
    widget.style.value = viewer.layers["waves"]
    widget.size.value = 96
    run_to_the_end(widget)
    result = result_of(viewer)
    assert result.name == "waves · texture · step 6"
    assert result.data.shape == (96, 96, 3)
    assert result.data_to_world((0, 0))[1] > viewer.layers["waves"].data_to_world((0, 63))[1]
    low, high = view_of(viewer, result, (0, 1))  # it was painted where the canvas showed nothing
    assert (low < 0).all()
    assert (high > 95).all()
    viewer.scene.camera.zoom = 7
    viewer.scene.camera.center = result.data_to_world((40, 40))
    run_to_the_end(widget)
    assert viewer.scene.camera.zoom == 7  # somebody looks at what is there already


def test_colour_modes_in_the_live_layer(viewer, widget, pair):
    content, style = pair[0].mean((0, 1)) / 255, pair[1].mean((0, 1)) / 255
    endless(widget)
    for color in ("style", "content", "free"):
        widget._fields["color"].value = color
        press(widget.run)
        wait_until(lambda: "live" in viewer.layers[-1].name)
        live = viewer.layers[-1].data / 255
        warmer = (live[..., 0] - live[..., 2]).mean()
        if color == "content":
            assert warmer == pytest.approx(content[0] - content[2], abs=0.05)
        elif color == "style":
            assert warmer == pytest.approx(style[0] - style[2], abs=0.15)
        press(widget.stop)
        wait_until(lambda: widget._job is None)


def test_a_texture_of_smaller_strokes_is_shown_larger(viewer, widget, quick):
    heights = []
    for style_scale in (1.0, 0.5):
        widget.settings = dataclasses.replace(quick, mode="texture", steps=1, style_scale=style_scale)
        run_to_the_end(widget)
        (top, _), (bottom, _) = (result_of(viewer).data_to_world(place) for place in ((-0.5, 0), (47.5, 0)))
        heights.append(bottom - top)
    assert heights[1] == 2 * heights[0]  # its strokes are as large as those of the style beside it


def test_own_presets_come_and_go(widget):
    widget.steps.value = 77
    opened(widget, "presets")._presets.name.value = "mine"
    press(widget._presets.save)
    assert widget.preset.value == "mine"
    assert store.own_presets()["mine"].steps == 77
    widget.preset.value = "fast"
    assert widget.steps.value == 60
    widget.preset.value = "mine"
    assert widget.steps.value == 77
    widget._presets.name.value = "balanced"
    press(widget._presets.save)
    assert "built-in" in widget.message.value
    widget._presets.name.value = "mine"
    press(widget._presets.delete)
    assert widget.message.value == "Deleted 'mine'."
    assert "mine" not in widget.preset.choices
    assert widget.preset.value is None  # no preset has 77 steps any more
    widget.preset.value = "balanced"
    assert widget.steps.value == 150


def test_a_preset_that_another_dock_has_deleted_is_told(viewer, widget):
    other = StyleTransferWidget(viewer)
    viewer.window.add_dock_widget(other, name="another")
    for dock in (widget, other):
        opened(dock, "presets")._presets.name.value = "mine"
        press(dock._presets.save)
    widget.preset.value = "fast"
    press(other._presets.delete)
    widget.preset.value = "mine"
    assert widget.message.value == "There is no preset called 'mine' any more."
    assert (widget.preset.value, widget.steps.value) == ("fast", 60)
    assert "mine" not in widget.preset.choices


def test_settings_come_back_in_the_next_session(viewer, widget):
    widget._fields["color"].value = "free"
    run_to_the_end(widget)
    used = widget.settings
    again = StyleTransferWidget(viewer)
    assert again.settings == used
    press(again.restore)
    assert again.settings == StyleSettings()
    again.close()


def test_a_style_without_weight_has_no_run_of_its_own_and_is_not_named(viewer, widget, pair):
    viewer.add_image(255 - pair[1], name="night", rgb=True)
    widget.style.value = viewer.layers["waves"]
    press(opened(widget, "more")._inputs.more.add)
    widget._inputs.more.rows[0].weight.value = 0
    press(widget._inputs.more.add)
    widget._inputs.more.rows[2].layer.value = viewer.layers["cat"]  # with itself there is nothing to do either
    press(widget._inputs.more.each)
    wait_until(lambda: widget._job is None)
    assert {layer.name.partition(" · ")[0] for layer in viewer.layers[3:]} == {"cat × night"}
    assert widget.message.value == "Done."
    # Nor is it named in a run of all.
    press(widget._inputs.more.rows[2].remove_button)
    run_to_the_end(widget)
    assert result_of(viewer).name == "cat × night · step 6 [1]"


def test_the_next_style_moves_up_where_the_first_ones_layer_goes(viewer, widget, pair):
    viewer.add_image(255 - pair[1], name="night", rgb=True)
    widget.style.value = viewer.layers["waves"]
    press(opened(widget, "more")._inputs.more.add)
    first, second = widget._inputs.more.rows
    first.weight.value, second.weight.value = 2, 3
    second.regions.value = where = viewer.add_labels(np.ones(pair[1].shape[:2], int), name="where")
    viewer.layers.remove("waves")
    assert widget._inputs.more.rows == [first]
    assert (first.layer.value.name, first.weight.value, first.regions.value) == ("night", 3, where)


def test_a_second_style_before_there_is_any_image(make_napari_viewer, pair):
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-neural-style", "Style Transfer")
    press(opened(widget, "more")._inputs.more.add)
    for name, picture in zip(("cat", "waves"), pair, strict=True):
        viewer.add_image(picture, name=name, rgb=True)
    assert [row.layer.value.name for row in widget._inputs.more.rows if row.layer.value is not None]
    assert widget.run.enabled


def test_runs_wait_in_a_queue(viewer, widget, pair):
    viewer.add_image(255 - pair[1], name="night", rgb=True)
    widget.style.value = viewer.layers["waves"]
    press(opened(widget, "more")._inputs.more.add)
    assert opened(widget, "queue")._queue.empty.isVisible()
    short = widget.settings
    endless(widget)
    press(widget.run)
    widget.settings = dataclasses.replace(short, save_every=3)
    press(widget._inputs.more.each)
    assert widget.message.value.endswith(" · 2 waiting")  # at once, whatever the run is at
    opened(widget, "results")._results.steps_as.value = "one layer"
    press(widget.run)
    queue = widget._queue
    assert not queue.empty.isVisible()
    titles = [queue.list.item(k).text() for k in range(3)]
    assert titles == ["cat × waves · 6 steps", "cat × night · 6 steps", "cat × waves + night · 6 steps"]
    assert titles[0] in queue.list.item(0).toolTip()  # whole, where it is elided
    assert not any(button.isEnabled() for button in (queue.up, queue.down, queue.remove))
    queue.list.setCurrentRow(2)
    assert [button.isEnabled() for button in (queue.up, queue.down, queue.remove)] == [True, False, True]
    for button in (queue.up, queue.up, queue.down):  # the selection goes along
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert [queue.list.item(k).text() for k in range(3)] == [titles[k] for k in (0, 2, 1)]
    queue.list.setCurrentRow(0)
    assert [button.isEnabled() for button in (queue.up, queue.down, queue.remove)] == [False, True, True]
    queue.list.setFocus()
    QTest.keyClick(queue.list, Qt.Key.Key_Delete)
    if len(queue) == 3:  # without a window manager a shortcut may not have the focus it needs
        QTest.mouseClick(queue.remove, Qt.MouseButton.LeftButton)
    assert [queue.list.item(k).text() for k in range(2)] == [titles[2], titles[1]]
    wait_until(lambda: any("live" in layer.name for layer in viewer.layers))
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    made = [layer.name for layer in viewer.layers if layer.name.endswith("step 6")]
    assert made == ["cat × waves + night · step 6", "cat × night · step 6"]
    kept = [layer.name for layer in viewer.layers if not layer.visible]
    assert kept == ["cat × waves + night · saved steps", "cat × night · step 3"]


def test_steering_a_run(viewer, widget):
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    live = viewer.layers[-1]
    widget._fields["color"].value = "content"
    wait_for_another_picture(live)
    widget.style_strength.value = 90
    press(widget.save_now)
    wait_until(lambda: len(viewer.layers) > 3)
    saved = viewer.layers[-2]
    assert saved.name == f"cat × waves · step {saved.metadata[KEY]['step']}"
    widget.save_every.value = 5000
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    changes = StyleSettings.from_dict(live.metadata[KEY]["settings"]).changes
    turned = {name: value for step in changes.values() for name, value in step.items()}
    assert turned["color"] == "content"
    assert turned["style_weight"] == pytest.approx(16 * 10**2)
    assert all(step <= live.metadata[KEY]["step"] for step in changes)


def test_the_keyboard_reaches_every_control(viewer, widget):
    from napari_neural_style.viewer.native import _controls, _parts

    for section in widget._sections.values():
        section.open()
    controls = list(_controls(widget))
    assert len(controls) > 40
    for control in controls:
        for part in _parts(control):
            assert part.accessibleName() or part.focusPolicy() == Qt.FocusPolicy.NoFocus, control.name
    texts = [b.text for b in (widget.run, widget.pause, widget.stop, widget.save_now, widget.restore)]
    mnemonics = [text[text.index("&") + 1].lower() for text in texts]
    assert len(set(mnemonics)) == len(mnemonics)
    places = [control.native.mapToGlobal(control.native.rect().topLeft()).y() for control in controls[:12]]
    assert places == sorted(places)


@pytest.mark.parametrize(("theme", "points"), [("dark", 9), ("light", 12)])
def test_nothing_is_cut_off_on_a_small_screen(viewer, widget, theme, points):
    """The window writes in 9 points, on macOS in 12."""
    viewer.theme = theme
    appearance = get_settings().appearance
    appearance.font_size, before = points, appearance.font_size
    try:
        _check_a_small_screen(viewer, widget)
    finally:
        appearance.font_size = before


def _check_a_small_screen(viewer, widget):
    viewer.window._qt_window.resize(1280, 720)
    area = widget._scroll_area
    for name in ("results", "advanced"):
        native = opened(widget, name)._sections[name].native
        top = native.mapTo(area.viewport(), QPoint()).y()
        assert top >= 0
        assert top == 0 or top + native.height() <= area.viewport().height()
    for section in widget._sections.values():
        section.open()
    wait_until(lambda: viewer.window._qt_window.height() <= 720)
    QApplication.processEvents()
    bottom = widget.run.native.mapToGlobal(widget.run.native.rect().bottomLeft()).y()
    assert bottom <= viewer.window._qt_window.mapToGlobal(viewer.window._qt_window.rect().bottomLeft()).y()
    wait_until(lambda: area.widget().width() <= area.viewport().width())
    for label in widget.native.findChildren(QLabel):
        if label.isVisible() and not label.wordWrap() and label.text():
            assert label.width() >= label.sizeHint().width() - 1, label.text()
    box = widget.features.native
    option = QStyleOptionComboBox()
    box.initStyleOption(option)
    option.rect = box.rect()
    parts = QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, box
    room = box.style().subControlRect(*parts).width()
    for text in ("auto (self-taught)", "pretrained (missing)", "pretrained (on disk)"):
        assert room >= box.fontMetrics().horizontalAdvance(text), text


OPENING = """
import sys
import napari
from napari.layers import Image
import numpy as np
viewer = napari.Viewer(show=False)
for name in ("content", "style"):
    viewer.add_layer(Image(np.zeros((8, 8)), name=name))
_, widget = viewer.window.add_plugin_dock_widget("napari-neural-style", "Style Transfer")
widget.style_strength.value = 60
assert len(widget.content.choices) == 2
assert not {"torch", "torchvision", "pyqtgraph"} & set(sys.modules), "too much is imported"
viewer.close()
"""


def test_the_dock_opens_without_torch(tmp_path):
    done = subprocess.run([sys.executable, "-c", OPENING], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_with_thirty_layers_fields_are_aligned_and_lists_show_whole_words(viewer, widget):
    for number in range(30):
        viewer.add_image(np.zeros((8, 8)), name=f"a picture of a long name, and its number is {number}", visible=False)
    assert len(widget.content.choices) == 32
    assert widget.content.value.name == "cat"
    for section in widget._sections.values():
        section.open()
    fields = widget._fields

    def left(field) -> int:
        return field.native.mapToGlobal(field.native.rect().topLeft()).x()

    wait_until(lambda: left(widget.steps) == left(widget.save_every) == left(widget.content))
    wait_until(lambda: left(fields["scales"]) == left(fields["preview_interval"]) == left(fields.width))
    press(widget.content)
    view = widget.content.native.view()
    wait_until(view.isVisible)
    assert view.viewport().width() >= view.sizeHintForColumn(0)
    assert view.height() < 600
    widget.content.native.hidePopup()
    layer = widget.content.value = viewer.layers[-1]
    layer.name = "<b> a picture of a long name"
    middle = widget.content.native.rect().center()
    hovered = QHelpEvent(QEvent.Type.ToolTip, middle, widget.content.native.mapToGlobal(middle))
    QApplication.sendEvent(widget.content.native, hovered)
    assert (
        QToolTip.text()
        == "<p>&lt;b&gt; a picture of a long name</p><p>The image layer to repaint; mode texture has none.</p>"
    )


def test_a_renamed_layer_stays_chosen_and_one_that_takes_its_name_is_not(viewer, widget):
    cat, waves = viewer.layers["cat"], viewer.layers["waves"]
    assert (widget.content.value, widget.style.value) == (cat, waves)
    cat.name, waves.name = "zebra", "zinnia"
    QApplication.processEvents()
    assert (widget.content.value, widget.style.value) == (cat, waves)
    assert widget.content.native.currentText() == "zebra"
    assert widget.content.native.count() == 2
    other = viewer.add_image(np.zeros((40, 40, 3), np.uint8), name="other", rgb=True)
    for taken in ("zinnia", "zebra"):
        other.name = taken
        QApplication.processEvents()
        assert other.name == f"{taken} [1]"
        assert (widget.content.value, widget.style.value) == (cat, waves)
    assert widget.content.native.count() == 3


class Drawings(QObject):
    """Counts how often a window is drawn."""

    def __init__(self, window):
        super().__init__()
        self.count = 0
        window.installEventFilter(self)

    def eventFilter(self, watched, event):  # noqa: N802
        self.count += event.type() == QEvent.Type.UpdateRequest
        return False

    def settled(self) -> int:
        """Wait until nothing is drawn any more, and return the count since the last time."""
        before = -1
        while self.count != before:
            before = self.count
            QTest.qWait(200)
        self.count = 0
        return before


def test_a_picture_the_list_of_layers_and_new_words_are_drawn_at_once(viewer, widget):
    drawings = Drawings(viewer.window._qt_window)
    drawings.settled()
    viewer.layers["cat"].data = viewer.layers["cat"].data[::-1]
    widget.message.value = "Step 7 of 100"
    lay_out_now(widget.native)
    assert drawings.settled() == 1


def test_a_run_holds_napari_s_sign_of_progress_and_no_other(viewer, widget):
    status, other = viewer.window._qt_window.statusBar(), QLabel()
    other.setMovie(QMovie(LOADING_GIF_PATH))
    viewer.window.add_dock_widget(other)
    other.movie().start()
    endless(widget)
    press(widget.run)
    (held,) = filter(None, (label.movie() for label in status.findChildren(QLabel)))
    assert held.state() == QMovie.MovieState.Paused
    assert other.movie().state() == QMovie.MovieState.Running
