from __future__ import annotations

import dataclasses
import json
import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_neural_style import PRESETS, StyleSettings
from napari_neural_style.cli import _parser, settings_from
from napari_neural_style.command import asked_of, command_of, settings_of
from test_settings import SETTINGS_OF_ANY_KIND

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@pytest.fixture(autouse=True)
def posix(monkeypatch):
    """Quote as POSIX shells do, as :func:`parsed` reads it."""
    monkeypatch.setattr(sys, "platform", "linux")


def parsed(command: str):
    program, *arguments = shlex.split(command)
    assert program == "napari-neural-style"
    options = _parser().parse_args(arguments)
    return options, settings_from(vars(options), options.preset)


@pytest.mark.parametrize("auto", [None, 5, ["seed", 7, {}], {"device": 1}])
def test_only_device_and_precision_are_left_open_again(auto):
    settings = StyleSettings(device="cpu", precision="float32", seed=3)
    made_by = {"settings": settings.to_dict(), "auto": auto}
    assert asked_of(made_by) == settings
    made_by["auto"] = ["precision", auto]
    assert asked_of(made_by) == dataclasses.replace(settings, precision="auto")


@given(SETTINGS_OF_ANY_KIND, st.none() | st.text(min_size=1), st.none() | st.text(min_size=1))
def test_the_command_has_the_settings_that_made_the_image(values, content, style):
    settings = StyleSettings(**values)
    made_by = json.loads(json.dumps({"settings": settings.to_dict(), "step": settings.steps}))
    options, found = parsed(command_of(made_by, content, style))
    # There is no preview on the command line.
    assert dataclasses.replace(found, preview_interval=settings.preview_interval) == settings
    assert (options.content.removeprefix("./"), options.style.removeprefix("./")) == (
        (content or "CONTENT.png").removeprefix("./"),
        (style or "STYLE.png").removeprefix("./"),
    )
    assert options.steps_dir is None


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_is_its_name(name):
    command = command_of({"settings": PRESETS[name].to_dict()}, "my cat.png", "waves.jpg")
    assert command == f"napari-neural-style stylize 'my cat.png' waves.jpg -o stylized.png --preset {name}"


def test_a_picture_to_start_from_is_named():
    made_by = {"settings": PRESETS["fast"].to_dict(), "sources": {"content": "a.png", "initial": "b.png"}}
    assert parsed(command_of(made_by))[0].start_from == "START.png"
    assert parsed(command_of(made_by, start="my b.png"))[0].start_from == "my b.png"


def test_on_windows_it_is_quoted_for_its_shells(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    settings = dataclasses.replace(PRESETS["fast"], style_layers={"conv1_1": 1.0, "conv2_1": 0.5})
    command = command_of({"settings": settings.to_dict()}, r"C:\my pictures\cat.png", "it's.jpg")
    assert command == (
        r"""napari-neural-style stylize "C:\my pictures\cat.png" "it's.jpg" -o stylized.png --preset fast """
        '''--style-layers "conv1_1=1,conv2_1=0.5"'''
    )


def test_only_what_differs_is_named():
    settings = dataclasses.replace(
        PRESETS["written"], size=(300, 400), content_layers={"conv1_1": 0.0}, rescale_features=True, seed=7
    )
    command = command_of({"settings": settings.to_dict()})
    assert command.endswith(
        "CONTENT.png STYLE.png -o stylized.png --preset written --size 300x400 --content-layers conv1_1=0 "
        "--rescale-features --seed 7"
    )
    assert parsed(command)[1] == settings
    paper = dataclasses.replace(PRESETS["paper"], rescale_features=False)
    assert command_of({"settings": paper.to_dict()}).endswith("--preset paper --no-rescale-features")


@pytest.mark.parametrize(("step", "save_every"), [(100, 50), (137, 137)])
def test_a_step_before_the_last_is_kept_by_the_command(step, save_every):
    options, found = parsed(command_of({"settings": StyleSettings().to_dict(), "step": step}))
    assert options.steps_dir == "steps"
    assert found == StyleSettings(save_every=save_every)


def test_turning_how_often_steps_are_saved_does_not_lose_a_step():
    settings = StyleSettings(changes={50: {"save_every": 7, "color": "free"}, 90: {"save_every": 300}})
    _, found = parsed(command_of({"settings": settings.to_dict(), "step": 56}))
    assert found == StyleSettings(save_every=56, changes={50: {"color": "free"}})


@pytest.mark.parametrize(
    ("made_by", "words"),
    [
        ({}, "does not say with which settings"),
        ({"settings": {"glitter": 1}}, "cannot be used: Unknown setting glitter"),
        (
            {"settings": {"size": 0}, "versions": {"napari-neural-style": "9.1"}},
            "by version 9.1, this is .*size must be",
        ),
        ({"settings": {"size": 0}, "versions": 3}, "size must be"),
    ],
)
def test_what_cannot_be_used_gets_a_sentence(made_by, words):
    with pytest.raises(ValueError, match=words):
        settings_of(made_by)


@given(st.dictionaries(st.sampled_from(["settings", "versions", "step", "sources"]), JSON))
def test_damage_is_a_value_error_or_nothing(made_by):
    try:
        command = command_of(made_by)
    except ValueError:
        return
    parsed(command)
