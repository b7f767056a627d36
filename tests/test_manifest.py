from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
from npe2 import PluginManifest

from napari_neural_style.settings import PRESETS, SETTINGS, StyleSettings
from napari_neural_style.viewer.choices import device_choices
from napari_neural_style.viewer.preferences import LAST_USED

ROOT = Path(__file__).parents[1]
MENUS = {"napari/layers/filter"}


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution("napari-neural-style")


def test_the_manifest_at_the_root_is_the_packages():
    inside = ROOT / "src" / "napari_neural_style" / "napari.yaml"
    if sys.platform == "win32" and not (ROOT / "napari.yaml").is_symlink():
        pytest.skip("Git was not told to make links")
    assert (ROOT / "napari.yaml").resolve() == inside


def test_every_command_exists_and_is_used(manifest):
    commands = {command.id: command for command in manifest.contributions.commands}
    used = {widget.command for widget in manifest.contributions.widgets}
    used |= {sample.command for sample in manifest.contributions.sample_data}
    used |= {writer.command for writer in manifest.contributions.writers}
    for menu, items in manifest.contributions.menus.items():
        assert menu in MENUS
        used |= {item.command for item in items}
    assert len(commands) == len(manifest.contributions.commands)
    assert used == set(commands)
    for command in commands.values():
        module, _, name = command.python_name.partition(":")
        assert callable(getattr(import_module(module), name))
        assert command.id.startswith(f"{manifest.name}.")


def test_names_that_others_hold_on_to(manifest):
    (widget,) = manifest.contributions.widgets
    assert (widget.command, widget.display_name) == ("napari-neural-style.widget", "Style Transfer")
    assert [sample.key for sample in manifest.contributions.sample_data] == ["pair", "histology", "cells"]


def test_no_sample_takes_the_id_of_a_command(manifest):
    commands = {command.id for command in manifest.contributions.commands}
    assert commands.isdisjoint(f"{manifest.name}.{sample.key}" for sample in manifest.contributions.sample_data)


def test_preferences_offer_what_the_settings_take(manifest):
    start = manifest.contributions.configurations["start"].properties
    assert start["preset"].enum == [LAST_USED, *PRESETS]
    assert start["device"].enum == [device for _, device in device_choices()][:4]  # of GPUs the first
    assert start["precision"].enum == list(SETTINGS["precision"].choices)
    for name in ("device", "precision"):
        assert start[name].default == getattr(StyleSettings(), name)
