"""What the fields of the dock do to one another and to a run, in a real window."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QLocale, QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QComboBox, QSlider

from napari_neural_style import PRESETS, StyleSettings
from napari_neural_style.settings import SETTINGS
from napari_neural_style.strength import style_strength
from window import KEY, endless, opened, press, result_of, wait_for_another_picture, wait_until


def turned_in(layer) -> dict:
    """Return what was turned in the run that a layer shows."""
    changes = StyleSettings.from_dict(layer.metadata[KEY]["settings"]).changes
    return {name: value for step in changes.values() for name, value in step.items()}


def typed(field, text: str) -> None:
    """Put a text in the place of another as a keyboard does."""
    focused(field)
    field.native.selectAll()
    for character in text:
        QTest.keyClick(QApplication.focusWidget(), character)


def focused(field) -> None:
    """Give a field the keyboard."""
    field.native.window().activateWindow()
    field.native.setFocus()
    wait_until(field.native.hasFocus)


def test_the_preset_that_is_named_is_in_force(widget):
    assert widget.preset.value is None
    press(widget.restore)
    assert widget.preset.value == "balanced"
    widget.steps.value = 77
    assert widget.preset.value is None
    assert widget.preset.native.placeholderText() == "changed"
    widget.reset_choices()
    assert widget.preset.value is None
    widget.steps.value = PRESETS["balanced"].steps
    assert widget.preset.value == "balanced"
    widget.style_strength.value = 90
    assert widget.preset.value is None
    # Chosen again, it is in force again.
    widget.preset.value = "balanced"
    assert widget.settings == StyleSettings()


def test_a_number_being_typed_is_not_taken_before_it_is_whole(viewer, widget):
    opened(widget, "advanced")
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    live = viewer.layers[-1]
    widget._fields["scales"].value = 3
    widget._fields["learning_rate"].value = "none"  # another field that cannot be used has no say
    typed(widget._fields["variation_weight"], "0.25")
    typed(widget.save_every, "5000")
    wait_until(lambda: not widget._controls._typed)
    wait_for_another_picture(live)
    press(widget.stop)
    wait_until(lambda: widget._job is None)
    assert turned_in(live) == {"variation_weight": 0.25, "save_every": 5000}
    assert len(viewer.layers) == 3
    assert "learning rate must be a number" in widget.message.value


def test_what_keeps_the_next_run_from_waiting_is_told(viewer, widget):
    opened(widget, "advanced")
    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    widget._fields["tile"].value = "17"
    assert not widget.run.enabled
    assert "No further run can be queued: tile" in widget.message.value
    wait_for_another_picture(viewer.layers[-1])
    assert "No further run can be queued: tile" in widget.message.value
    widget._fields["tile"].value = "0"
    assert "next run" not in widget.message.value
    press(widget.pause)
    press(widget.save_now)
    assert "kept when the run goes on" in widget.message.value
    press(widget.stop)
    wait_until(lambda: widget._job is None)


def test_the_style_strength_turns_the_weight_follows_it_and_stays_in_what_can_be_used(widget):
    widget.settings = StyleSettings()
    before = widget.settings.style_weight
    widget.style_strength.value = 70
    assert widget.settings.style_weight == pytest.approx(before * 10, rel=1e-3)
    widget._fields["style_weight"].value = str(before / 10)
    assert widget.style_strength.value == 30
    widget.settings = replace(PRESETS["paper"], content_weight=1e9)
    widget.style_strength.value = 100
    assert widget.settings.style_weight == SETTINGS["style_weight"].high
    widget.settings = StyleSettings(content_weight=0.0, style_weight=7.0)
    widget.style_strength.value = 30
    assert widget.settings.style_weight == 7
    assert widget.style_strength.value == 100


def test_the_keyboard_stays_where_it_is(widget):
    focused(widget.preset)
    for _ in range(2):
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Down)
    assert widget.preset.value == list(PRESETS)[1]
    assert widget.settings == replace(PRESETS["fast"], device=widget.settings.device)
    slider = widget.style_strength.native.findChild(QSlider)
    slider.setFocus()
    before = widget.style_strength.value
    for _ in range(3):
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Right)
    assert widget.style_strength.value == before + 3
    opened(widget, "advanced")
    typed(widget.size, "512")
    assert widget.size.value == 512
    typed(widget.size, "5")
    typed(widget._fields["style_weight"], "40")
    assert widget.size.value == SETTINGS["size"].low
    assert widget.settings.style_weight == 40
    assert widget._fields["style_weight"].native.hasFocus()
    assert widget.style_strength.value == round(style_strength(widget.settings))


def turned_by_wheel(native) -> bool:
    """Tell whether a wheel over a field is taken by it, as Qt's own are asked."""
    middle = QPointF(native.rect().center())
    wheel = QWheelEvent(
        middle, native.mapToGlobal(middle), QPoint(), QPoint(0, -120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(native, wheel)
    return wheel.isAccepted()


def test_a_wheel_scrolls_over_the_fields(viewer, widget):
    """Only one that has the keyboard is turned."""
    opened(widget, "advanced")
    opened(widget, "more")
    press(widget._inputs.more.add)
    before = widget.settings
    fields = [widget.native.findChildren(kind) for kind in (QAbstractSpinBox, QComboBox, QSlider)]
    focused(widget._fields["seed"])
    for native in (native for kind in fields for native in kind if native.isVisible()):
        assert native.focusPolicy() != Qt.FocusPolicy.WheelFocus
        turned_by_wheel(native)
    assert widget.settings == before
    focused(widget.steps)
    turned_by_wheel(widget.steps.native)
    assert widget.settings.steps == before.steps - 1


def test_a_number_that_is_typed_is_taken_before_a_run(viewer, widget):
    typed(widget.size, "5")
    widget.run.native.click()  # as Alt+R does, which leaves the keyboard where it is
    wait_until(lambda: widget._job is None)
    assert widget.size.value == SETTINGS["size"].low
    assert max(result_of(viewer).data.shape[:2]) == SETTINGS["size"].low


def test_the_keyboard_goes_to_run_when_a_run_ends(widget):
    endless(widget)
    for button in (widget.stop, widget.pause, widget.save_now):
        press(widget.run)
        wait_until(lambda: widget.save_now.enabled)
        focused(button)
        widget.stop.native.click()  # as Alt+S does, which leaves the keyboard where it is
        wait_until(lambda: widget._job is None)
        assert widget.run.native.hasFocus(), button.name


passes_over_buttons = pytest.mark.skipif(sys.platform == "darwin", reason="Tab reaches buttons if the user says so")


@passes_over_buttons
def test_tab_goes_from_top_to_bottom(widget):
    focused(widget.content)
    names = []
    while "Run" not in names and len(names) < 40:
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        names.append(QApplication.focusWidget().accessibleName())
    assert names.index("preset") < names.index("style strength") < names.index("mode")
    assert names[-2:] == ["Advanced", "Run"]
    # It reaches what lies in fields and sections.
    opened(widget, "queue")
    widget._fields["features"].value = "file"
    QApplication.processEvents()
    focused(widget.features)
    seen = []
    while widget._fields.basic[-1].native is not QApplication.focusWidget() and len(seen) < 40:
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        seen.append(QApplication.focusWidget().accessibleName())
    assert seen[0] == "features file"
    focused(widget._sections["queue"].toggle)
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    assert QApplication.focusWidget().accessibleName() == "waiting runs"


def test_comma_and_point_both_begin_a_fraction(widget):
    opened(widget, "more")
    weight = widget._inputs.more.rows[0].weight
    for language in (QLocale.Language.German, QLocale.Language.C):
        weight.native.setLocale(QLocale(language))
        for text in ("2.25", "2,25"):
            weight.value = 1
            typed(weight, text)
            QTest.keyClick(weight.native, Qt.Key.Key_Return)
            assert weight.value == 2.25, (language, text)


def test_a_click_beside_a_slider_moves_it_by_some_steps_and_what_it_cannot_show_is_kept(widget):
    slider = widget._fields["style_scale"].native.findChild(QSlider)
    before = widget.settings.style_scale
    QTest.mouseClick(slider, Qt.MouseButton.LeftButton, pos=QPoint(slider.width() - 3, slider.height() // 2))
    assert widget.settings.style_scale == pytest.approx(before + 0.25)
    widget.settings = StyleSettings(style_scale=1.033)
    assert widget.settings.style_scale == 1.033
    widget._fields["style_scale"].value = 1.5
    assert widget.settings.style_scale == 1.5


def test_the_settings_that_are_put_in_come_out(widget):
    """Filling the fields changes none of them, whatever its size and wherever its field is."""
    opened(widget, "advanced")
    changes = {5: {"color": "free"}}
    for wanted in (
        StyleSettings(style_weight=3.3, style_scale=0.75, changes=changes),
        StyleSettings(seed=2**62 + 1),
    ):
        widget.settings = wanted
        assert widget.settings == wanted
    widget._fields["seed"].value = "many"
    assert "seed must be a number" in widget.why_not_run()


def test_a_gpu_that_cannot_be_used_says_why_and_that_of_a_result_is_chosen_where_it_is_there(widget, monkeypatch):
    def known(gpus: dict[str, str]) -> None:
        every = {**gpus, "mps": "no Mac", "cpu": ""}
        monkeypatch.setattr("napari_neural_style.viewer.choices._known", lambda: every)

    known({"cuda:0": "too old", "cuda:1": "", "cuda:2": "too old"})
    widget.device.reset_choices()
    box = widget.device.native
    labels = [box.itemText(number) for number in range(box.count())]
    assert labels == ["auto", "cpu", "cuda", "mps (no Mac)", "cuda:1", "cuda:2 (too old)"]
    for there, asked, chosen in (
        (2, "cuda:1", "cuda:1"),
        (2, "cuda:0", "cuda"),
        (1, "cuda:1", "cuda"),
        (0, "cuda:0", "auto"),
        (0, "cuda", "cuda"),
    ):
        known({f"cuda:{number}": "" for number in range(there)} or {"cuda": "no driver"})
        widget.settings = StyleSettings(device="cpu")
        widget.settings = StyleSettings(device=asked)
        assert widget.settings.device == chosen, (there, asked)


def test_what_does_not_count_in_a_mode_cannot_be_chosen(widget):
    more = opened(widget, "more")._inputs.more
    fields = (more.content_regions, more.area, more.start_from, more.rows[0].weight, more.add)
    found = {}
    for mode in ("transfer", "content", "texture"):
        widget._fields["mode"].value = mode
        found[mode] = [field.native.isEnabled() for field in fields]
    assert found == {
        "transfer": [True, True, True, True, True],
        "content": [True, True, True, False, False],
        "texture": [False, False, False, True, True],
    }


def test_styles_are_numbered_and_go_with_their_layers(viewer, widget, pair):
    for name in ("night", "dusk"):
        viewer.add_image(255 - pair[1], name=name, rgb=True)
    more = opened(widget, "more")._inputs.more
    for name in ("night", "dusk"):
        press(more.add)
        more.rows[-1].layer.value = viewer.layers[name]
    viewer.layers.remove("night")
    assert [row.layer.value.name for row in more.rows] == [widget.style.value.name, "dusk"]
    assert [row.weight.label for row in more.rows] == ["style 1 weight", "style 2 weight"]
    viewer.add_labels(np.ones((8, 8), int), name="late")
    assert "late" in [layer.name for layer in more.content_regions.choices if layer is not None]


def test_a_control_turned_before_a_stop_can_be_turned_back_after_it(viewer, widget):
    def turned_and_stopped(weight: str) -> float:
        widget._fields["style_weight"].value = weight
        wait_for_another_picture(viewer.layers[-1])
        press(widget.stop)
        wait_until(lambda: widget._job is None)
        return turned_in(result_of(viewer))["style_weight"]

    endless(widget)
    press(widget.run)
    wait_until(lambda: len(viewer.layers) > 2)
    assert turned_and_stopped("90") == 90
    viewer.layers.selection.active = result_of(viewer)
    press(opened(widget, "results")._results.go_on)
    wait_until(lambda: len(viewer.layers) > 3)
    assert turned_and_stopped("16") == 16
