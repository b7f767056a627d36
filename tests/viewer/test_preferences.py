from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from napari._qt.dialogs.preferences_dialog import PreferencesDialog
from napari.settings import get_plugin_settings
from qtpy.QtWidgets import QApplication, QComboBox, QLineEdit, QPushButton

import window
from napari_neural_style import PRESETS, StyleSettings
from napari_neural_style.cache import cache_folder
from napari_neural_style.viewer.preferences import LAST_USED, Preferences, use_preferences

NAME = "napari-neural-style"


@pytest.fixture
def dialog(make_napari_viewer):
    """Napari's Preferences, as its menu opens them."""
    viewer = make_napari_viewer(show=True)
    viewer.window._open_preferences_dialog()
    (dialog,) = [widget for widget in QApplication.topLevelWidgets() if isinstance(widget, PreferencesDialog)]
    yield dialog
    get_plugin_settings(NAME).reset()
    dialog.close()


def press(dialog, text: str) -> None:
    (button,) = [button for button in dialog.findChildren(QPushButton) if button.text() == text]
    button.click()


def page_of(dialog):
    pages = [dialog._list.item(i).text() for i in range(dialog._list.count())]
    dialog._list.setCurrentRow(pages.index("Neural Style"))
    return dialog._stack.currentWidget()


def test_what_is_chosen_in_the_preferences_takes_effect(dialog, tmp_path, monkeypatch):
    assert use_preferences() == Preferences()
    page = page_of(dialog)
    preset, device, precision = page.findChildren(QComboBox)
    preset.setCurrentText("fine")
    device.setCurrentText("cpu")
    precision.setCurrentText("float32")
    (folder,) = page.findChildren(QLineEdit)
    folder.setText(f" {tmp_path / 'features'} ")
    press(dialog, "OK")

    chosen = use_preferences()
    assert chosen == Preferences("fine", "cpu", "float32", tmp_path / "features")
    wanted = dataclasses.replace(PRESETS["fine"], device="cpu", precision="float32")
    assert chosen.first_settings(StyleSettings(steps=7)) == wanted
    kept = get_plugin_settings(NAME).config_path.read_text()
    assert "device: cpu" in kept

    assert cache_folder() != tmp_path / "features", "the environment comes first"
    monkeypatch.delenv("NAPARI_NEURAL_STYLE_CACHE")
    assert cache_folder() == tmp_path / "features"
    assert not cache_folder().exists()


def test_the_dock_has_what_is_preferred(widget):
    """As defaults; and of what is typed as a folder only a full path counts."""
    page = get_plugin_settings(NAME)
    page.start.precision = "float32"
    try:
        widget.steps.value = 3
        window.press(widget.restore)
        assert (widget.settings.precision, widget.preset.value) == ("float32", "balanced")
        for text, folder in (
            ("relative/folder", None),
            ("", None),
            ("~nobody-of-this-name/x", None),
            ("~/x", Path.home() / "x"),
        ):
            page.features.cache_folder = text
            assert use_preferences().cache_folder == folder, text
            widget.steps.value += 1  # whatever is done in the dock
            assert (f"{text!r}, is no full path" in widget.message.value) == (bool(text) and folder is None), text
    finally:
        page.reset()


def test_cancel_keeps_the_earlier_preferences(dialog):
    page_of(dialog).findChildren(QComboBox)[1].setCurrentText("cpu")
    assert use_preferences().device == "cpu"
    press(dialog, "Cancel")
    assert use_preferences() == Preferences()


def test_a_damaged_file_of_preferences_gives_the_usual_ones():
    from napari import settings

    path = get_plugin_settings(NAME).config_path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("- no mapping\n")
    settings._clear_plugin_settings_cache()
    try:
        assert use_preferences() == Preferences()
    finally:
        path.unlink()
        settings._clear_plugin_settings_cache()


def test_what_the_dock_starts_with():
    last = StyleSettings(steps=7, device="cuda")
    assert Preferences().first_settings(None) == PRESETS["balanced"]
    assert Preferences().first_settings(last) == last
    assert Preferences(LAST_USED, "cpu").first_settings(last) == StyleSettings(steps=7, device="cpu")
    assert Preferences("fast").first_settings(last) == PRESETS["fast"]


def test_napari_without_preferences_for_plugins(monkeypatch):
    from napari import settings

    monkeypatch.delattr(settings, "get_plugin_settings")
    assert use_preferences() == Preferences()
