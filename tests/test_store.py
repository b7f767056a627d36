from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_neural_style import PRESETS, StyleSettings
from napari_neural_style.store import (
    config_folder,
    delete_preset,
    last_settings,
    own_presets,
    remember,
    save_preset,
    why_left_out,
)
from napari_neural_style.whole import whole_file
from test_settings import SETTINGS_OF_ANY_KIND

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(SETTINGS_OF_ANY_KIND)
def test_settings_come_back_as_they_were_kept(values):
    settings = StyleSettings(**values)
    save_preset("mine", settings)
    remember(settings)
    assert own_presets()["mine"] == settings
    assert last_settings() == settings


def test_presets_are_kept_by_name(config):
    assert (own_presets(), last_settings(), why_left_out()) == ({}, None, "")
    assert save_preset("  Käse × 2 ", PRESETS["fast"]) == "Käse × 2"
    save_preset("dark blue", PRESETS["paper"])
    save_preset("Käse × 2", PRESETS["fine"])
    assert own_presets() == {"Käse × 2": PRESETS["fine"], "dark blue": PRESETS["paper"]}
    delete_preset("Käse × 2")
    assert own_presets() == {"dark blue": PRESETS["paper"]}
    assert [path.name for path in config.iterdir()] == ["presets.json"]
    with pytest.raises(ValueError, match="Give the name"):
        delete_preset("")
    with pytest.raises(ValueError, match="no preset of your own called 'Käse × 2'"):
        delete_preset("Käse × 2")


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "a name"), (" \t", "a name"), ("a\nb", "one line"), ("fast", "built-in"), (" Balanced ", "built-in")],
)
def test_names_that_cannot_be(name, words, config):
    with pytest.raises(ValueError, match=words):
        save_preset(name, StyleSettings())
    assert not list(config.iterdir())


def test_one_damaged_entry_leaves_the_others(config):
    newer = {"steps": 7, "glitter": 1}
    entries = {"newer": newer, "good": {"steps": 9}, "odd": 3, "zero": {"steps": 0}, "fine": {}}
    path = config / "presets.json"
    path.write_text(json.dumps(entries))
    assert own_presets() == {"good": StyleSettings(steps=9)}
    for words in ("'newer'", "Unknown setting glitter", "'odd'", "'zero'", "steps must be 1 to", "'fine'"):
        assert words in why_left_out()
    assert json.loads(path.read_text()) == entries
    save_preset("another", StyleSettings())
    delete_preset("odd")
    assert list(json.loads(path.read_text())) == ["newer", "good", "zero", "fine", "another"]
    assert json.loads(path.read_text())["newer"] == newer


def test_a_file_that_an_editor_has_marked_is_read(config):
    (config / "presets.json").write_text('{"mine": {"steps": 9}}', encoding="utf-8-sig")
    assert own_presets() == {"mine": StyleSettings(steps=9)}


@pytest.mark.parametrize("damaged", [b"", b'{"mine": {"st', b"\xff\xfe", b"[1]", b"[" * 100_000])
def test_a_damaged_file_is_set_aside_not_lost(config, damaged):
    for name in ("presets.json", "last.json"):
        (config / name).write_bytes(damaged)
    assert (own_presets(), last_settings()) == ({}, None)
    assert "presets.json cannot be read" in why_left_out()
    assert (config / "presets.json").read_bytes() == damaged
    with pytest.raises(ValueError, match="cannot be read"):
        delete_preset("mine")
    save_preset("mine", PRESETS["fast"])
    assert own_presets() == {"mine": PRESETS["fast"]}
    assert (config / "presets.damaged.json").read_bytes() == damaged
    remember(PRESETS["fine"])
    assert last_settings() == PRESETS["fine"]
    (config / "presets.json").write_bytes(b"another" + damaged)
    save_preset("mine", PRESETS["fast"])
    assert (config / "presets.damaged.json").read_bytes() == damaged
    assert (config / "presets.damaged-2.json").read_bytes() == b"another" + damaged


@given(ANYTHING, st.dictionaries(st.text(max_size=5), ANYTHING | SETTINGS_OF_ANY_KIND, max_size=3))
def test_whatever_the_files_hold_reading_gets_along(last, presets):
    (config_folder() / "last.json").write_text(json.dumps(last))
    (config_folder() / "presets.json").write_text(json.dumps(presets))
    kept = last_settings()
    assert kept is None or isinstance(kept, StyleSettings)
    assert len(own_presets()) <= len(presets)
    assert bool(why_left_out()) == (len(own_presets()) < len(presets))


def test_folders_that_are_not_there_are_made(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_NEURAL_STYLE_CONFIG", str(tmp_path / "home" / ".config" / "napari-neural-style"))
    save_preset("mine", PRESETS["fast"])
    assert own_presets() == {"mine": PRESETS["fast"]}


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    """A folder whose path is a file's: unlike permissions, that stops every user."""
    (tmp_path / "file").write_text("a file")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        monkeypatch.setenv("NAPARI_NEURAL_STYLE_CONFIG", str(folder))
        remember(StyleSettings())
        assert (own_presets(), last_settings(), why_left_out()) == ({}, None, "")
        with pytest.raises(OSError, match=r"Presets cannot be written to .*Set NAPARI_NEURAL_STYLE_CONFIG to a folder"):
            save_preset("mine", StyleSettings())
    assert (tmp_path / "file").read_text() == "a file"


def test_a_file_changes_whole_or_not_at_all(config):
    save_preset("mine", PRESETS["fast"])
    with pytest.raises(UnicodeEncodeError), whole_file(config / "presets.json") as part:
        part.write_text("half")
        part.write_text("\ud800", encoding="utf-8")
    assert own_presets() == {"mine": PRESETS["fast"]}
    assert [path.name for path in config.iterdir()] == ["presets.json"]


def test_the_users_own_folder(monkeypatch):
    monkeypatch.delenv("NAPARI_NEURAL_STYLE_CONFIG")
    assert config_folder().name == "napari-neural-style"
    assert config_folder().is_absolute()


def test_settings_of_an_older_version_take_the_defaults(config):
    remember(dataclasses.replace(PRESETS["fast"], seed=3))
    values = json.loads((config / "last.json").read_text())
    del values["seed"]
    (config / "last.json").write_text(json.dumps(values))
    assert last_settings() == PRESETS["fast"]
