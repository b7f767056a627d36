from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_neural_style import PRESETS, StyleSettings
from napari_neural_style.settings import LAYERS, SETTINGS
from napari_neural_style.settings_text import from_text, to_text
from napari_neural_style.strength import style_strength, style_weight_of

LAYER_WEIGHTS = st.just("auto") | st.dictionaries(st.sampled_from(list(LAYERS)), st.floats(1e-3, 1e3), max_size=4)


def any_value(name: str) -> st.SearchStrategy:
    default, details = getattr(StyleSettings(), name), SETTINGS[name]
    if name.endswith("_layers"):
        return LAYER_WEIGHTS
    if name == "changes":
        turned = st.fixed_dictionaries({}, optional={n: any_value(n) for n in SETTINGS if SETTINGS[n].live})
        return st.dictionaries(st.integers(1, 1000), turned.filter(bool), max_size=3)
    if name == "size":
        side = st.integers(32, 65536)
        return side | st.tuples(side, side)
    if name == "tile":
        return st.just("auto") | st.integers(0, 1024).map(lambda count: 16 * count)
    if isinstance(default, bool):
        return st.booleans()
    if details.choices:
        return st.sampled_from(details.choices)
    if isinstance(default, str):
        return st.text(min_size=1, max_size=8)
    number = st.integers if isinstance(default, int) else st.floats
    low = 1e-9 if name in ("content_weight", "style_weight") else details.low  # something is to be optimised
    return number(type(default)(low), type(default)(min(details.high, 1e9)))


def names_layers(values: dict[str, Any]) -> bool:
    """Tell whether settings name a layer for the term that their mode needs."""
    return values.get("content_layers" if values.get("mode") == "content" else "style_layers") != {}


SETTINGS_OF_ANY_KIND = st.fixed_dictionaries({}, optional={name: any_value(name) for name in SETTINGS}).filter(
    names_layers
)


@given(SETTINGS_OF_ANY_KIND)
def test_settings_survive_json_and_text(values):
    settings = StyleSettings(**values)
    assert StyleSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    names = [name for name in SETTINGS if name != "rescale_features"]
    typed = {name: from_text(name, to_text(name, getattr(settings, name))) for name in names}
    assert StyleSettings(**typed, rescale_features=settings.rescale_features) == settings


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_what_they_are_called(name):
    preset = PRESETS[name]
    assert StyleSettings.from_dict(preset.to_dict()) == preset


def test_written_preset_is_the_written_procedure():
    written = PRESETS["written"]
    assert (written.size, written.steps, written.save_every, written.scales) == ((512, 512), 500, 100, 1)
    assert (written.optimizer, written.learning_rate) == ("adam", 1.0)
    assert (written.content_weight, written.style_weight, written.variation_weight) == (1.0, 1e6, 0.0)
    assert written.content_layers == {"conv4_2": 1.0}
    assert written.style_layers == dict.fromkeys(("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"), 1.0)
    assert (written.normalization, written.pooling, written.color) == ("mean", "max", "free")
    assert (written.initial, written.features) == ("content", "pretrained")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 0}, "size must be 32 to 65536 px, not 0"),
        ({"size": (512,)}, r"\(height, width\)"),
        ({"size": 100.5}, "whole number"),
        ({"steps": "many"}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"style_weight": -1}, "style_weight must be 0 to"),
        ({"seed": -1}, "seed must be 0 to 9223372036854775807, not -1"),
        ({"style_weight": float("nan")}, "style_weight must be"),
        ({"pooling": "min"}, "one of max, average"),
        ({"features": ""}, "features must be a word"),
        ({"rescale_features": 1}, "true or false"),
        ({"style_layers": {"conv9_1": 1}}, "no layer 'conv9_1'"),
        ({"style_layers": {}}, "at least one layer"),
        ({"style_layers": "conv1_1"}, "mapping"),
        ({"content_weight": 0, "style_weight": 0}, "nothing is left to optimise"),
        ({"mode": "content", "content_weight": 0}, "content_weight is 0 in mode content"),
        ({"content_weight": 0, "changes": {9: {"style_weight": 0}}}, "both 0 from step 9 on"),
        ({"changes": {9: {"style_weight": 0}, 5: {"content_weight": 0}}}, "both 0 from step 9 on"),
        ({"tile": 100}, "auto, 0 or a multiple of 16"),
        ({"tile": 32768}, "tile must be 0 to 16384 px"),
        ({"tile": "small"}, "tile must be a whole number"),
        ({"content_layers": {}, "style_weight": 0}, "style_weight is 0 in mode transfer"),
        ({"changes": {0: {"color": "free"}}}, "A step in changes must be 1 to"),
        ({"changes": {5: {"size": 64}}}, "'size' cannot change during a run"),
        ({"changes": {5: {"style_weight": -1}}}, "style_weight must be 0 to"),
        ({"changes": {5: 3}}, "must have a mapping"),
    ],
)
def test_wrong_values_get_a_sentence(values, words):
    with pytest.raises(ValueError, match=words):
        StyleSettings(**values)


def test_whole_numbers_may_be_written_otherwise():
    assert StyleSettings(steps=from_text("steps", "1e3")).steps == 1000
    with pytest.raises(ValueError, match=r"size must be .*whole number"):
        StyleSettings(size=from_text("size", "512.5"))


def test_what_numpy_counts_with_becomes_plain():
    sweep = {"size": np.int16(64), "style_weight": np.float32(2.5), "rescale_features": np.True_}
    values = StyleSettings(**sweep).to_dict()
    assert [repr(values[name]) for name in sweep] == ["64", "2.5", "True"]


def test_what_is_turned_twice_at_a_step_gets_a_sentence():
    assert from_text("changes", "9:color=free;9:style_weight=2")["9"] == {"color": "free", "style_weight": 2}
    with pytest.raises(ValueError, match="color changes twice at step 9"):
        from_text("changes", "9:color=free,color=content")


def test_settings_of_a_newer_version_get_a_sentence():
    with pytest.raises(ValueError, match="Unknown setting glitter"):
        StyleSettings.from_dict({"glitter": 1})
    with pytest.raises(ValueError, match="mapping"):
        StyleSettings.from_dict([1])


def test_settings_cannot_be_changed():
    settings = StyleSettings(style_layers={"conv1_1": 2}, changes={3: {"color": "free"}})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.steps = 3
    for mapping in (settings.style_layers, settings.changes, settings.changes[3]):
        for change in (mapping.clear, mapping.popitem, lambda at=mapping: at.update(a=1), lambda at=mapping: at.pop(3)):
            with pytest.raises(TypeError, match="cannot be changed"):
                change()
    for same in (pickle.loads(pickle.dumps(settings)), copy.deepcopy(settings), StyleSettings(**settings.to_dict())):
        assert same == settings
        assert hash(same) == hash(settings)


@pytest.mark.parametrize("name", ["balanced", "fast", "fine", "written", "paper"])
def test_usual_weights_are_the_sliders_middle(name):
    assert style_strength(PRESETS[name]) == pytest.approx(50)


@given(st.floats(0, 100))
def test_strength_and_weight_are_inverse(strength):
    settings = StyleSettings()
    weight = style_weight_of(strength, settings)
    assert style_strength(dataclasses.replace(settings, style_weight=weight)) == pytest.approx(strength, abs=1e-6)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_every_setting_says_what_it_is_and_what_it_takes(name):
    tooltip = SETTINGS[name].tooltip
    assert len(tooltip) > 20
    assert tooltip[0].isupper() or tooltip.startswith("VGG")
    assert tooltip.endswith(".")
