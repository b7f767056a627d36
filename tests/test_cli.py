from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_neural_style import PRESETS, StyleSettings, cli
from napari_neural_style.cli import main
from napari_neural_style.files import read_image, read_made_by, write_image
from napari_neural_style.settings import SETTINGS

pytestmark = pytest.mark.usefixtures("learned")

QUICK = ["--size", "48", "--scales", "1", "--steps", "4", "--save-every", "2", "--device", "cpu",
         "--content-layers", "conv2_1", "--style-layers", "conv1_1=1,conv2_1=0.5"]  # fmt: skip


@pytest.fixture
def files(tmp_path, pair, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, image in zip(("content.png", "style.jpg"), pair, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    return tmp_path


def test_stylize_writes_result_steps_and_report(files, capsys):
    arguments = ["stylize", "content.png", "style.jpg", "-o", "out.png", "--steps-dir", "steps", "--report", "r.json"]
    assert main([*arguments, *QUICK]) == 0
    assert main([*arguments, *QUICK]) == 0  # what is ours is replaced
    printed = capsys.readouterr().out
    assert "features download" in printed
    assert printed.count("total") == 4
    assert sorted(p.name for p in (files / "steps").iterdir()) == ["step-0002.png", "step-0004.png"]
    np.testing.assert_array_equal(read_image("out.png"), read_image("steps/step-0004.png"))

    report = json.loads((files / "r.json").read_text())
    assert [row["step"] for row in report["steps"]] == [1, 2, 3, 4]
    assert set(report["steps"][0]) == {"step", "scale", "total", "content", "style", "variation", "seconds"}
    assert report["device"] == report["settings"]["device"] == "cpu"
    assert report["features"]["source"] == "self-taught"
    assert report["peak_memory_bytes"] > 1e7
    assert report["seconds"] > 0
    after = [row["seconds"] for row in report["steps"]]  # the first holds what comes before it, too
    assert report["seconds_per_step"] == pytest.approx((after[3] - after[0]) / 3, abs=1e-4)
    assert {"torch", "napari-neural-style"} <= set(report["versions"])
    made_by = read_made_by("out.png")
    assert made_by["settings"] == report["settings"]
    assert made_by["sources"] == {"content": "content.png", "style": "style.jpg"}
    assert made_by["auto"] == ["precision"]
    assert made_by["losses"]["total"] == pytest.approx(report["steps"][-1]["total"])


@pytest.mark.parametrize(
    ("signals", "kept", "ctrl_c"),
    [
        ([signal.SIGINT], True, signal.default_int_handler),
        ([signal.SIGINT] * 2, False, signal.default_int_handler),
        ([signal.SIGTERM], True, signal.default_int_handler),
        ([signal.SIGINT, signal.SIGTERM], True, signal.SIG_IGN),
    ],
    ids=["once", "twice", "terminated", "terminated in a shell's background"],
)
def test_the_first_ctrl_c_keeps_the_picture(files, capsys, monkeypatch, request, signals, kept, ctrl_c):
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, ctrl_c)))

    def press(*_):
        for number in signals:
            signal.raise_signal(number)

    monkeypatch.setattr(cli, "_say_features", press)  # in the first step, which is not saved
    assert main(["stylize", "content.png", "style.jpg", "-o", "out.png", *QUICK]) == 130
    assert (files / "out.png").exists() == kept
    if kept:
        assert "Stopped at step 1 of 4; wrote out.png." in capsys.readouterr().out
        assert read_made_by("out.png")["step"] == 1
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_ctrl_c_in_the_last_step_stops_nothing(files, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_say_features", lambda *_: signal.raise_signal(signal.SIGINT))
    assert main(["stylize", "content.png", "style.jpg", "-o", "out.png", *QUICK, "--steps", "1"]) == 0
    assert "Wrote out.png" in capsys.readouterr().out


def test_the_embedded_settings_make_the_same_picture_again(files):
    assert main(["stylize", "content.png", "style.jpg", "-o", "one.png", "--seed", "5", *QUICK]) == 0
    settings = StyleSettings.from_dict(read_made_by("one.png")["settings"])
    from napari_neural_style import stylize
    from napari_neural_style.engine.images import to_uint8

    *_, step = stylize(read_image("content.png"), read_image("style.jpg"), settings)
    np.testing.assert_array_equal(to_uint8(step.image), read_image("one.png"))


def test_an_original_is_not_replaced_and_a_result_is(files, capsys):
    before = {name: (files / name).read_bytes() for name in ("content.png", "style.jpg")}
    for name in before:
        assert main(["stylize", "content.png", "style.jpg", "-o", name, *QUICK]) == 2
        assert f"'{name}' already exists and was not made by napari-neural-style: choose" in capsys.readouterr().err
    assert {name: (files / name).read_bytes() for name in before} == before
    for seed in ("1", "2"):
        assert main(["stylize", "content.png", "style.jpg", "-o", "out.jpg", "--seed", seed, *QUICK]) == 0
    assert read_made_by("out.jpg")["settings"]["seed"] == 2


def test_an_original_that_came_during_the_run_is_not_replaced(files, capsys, monkeypatch):
    original = (files / "content.png").read_bytes()
    monkeypatch.setattr(cli, "_say_features", lambda *_: (files / "out.png").write_bytes(original))
    monkeypatch.setattr("tempfile.tempdir", str(files))
    assert main(["stylize", "content.png", "style.jpg", "-o", "out.png", *QUICK]) == 1
    (kept,) = files.rglob("napari-neural-style-*/out.png")
    said = capsys.readouterr().err
    assert said.count("'out.png'") == 1
    assert "'out.png' already exists and was not made by napari-neural-style" in said
    assert f"It is kept as {str(kept)!r} instead." in said
    assert (files / "out.png").read_bytes() == original


def test_an_original_that_is_called_like_the_last_step_is_not_replaced(files, capsys):
    (files / "steps").mkdir()
    original = (files / "steps" / "step-0004.png", (files / "content.png").read_bytes())
    original[0].write_bytes(original[1])
    arguments = ["stylize", "content.png", "style.jpg", "--steps-dir", "steps", *QUICK]
    assert main(arguments) == 2
    assert "step-0004.png' already exists" in capsys.readouterr().err
    assert main([*arguments, "--steps", "3"]) == 0
    assert original[0].read_bytes() == original[1]


def test_sixteen_bit_gray_and_alpha_come_in_and_tiff_goes_out(files, pair):
    gray = (pair[0][..., 0].astype(np.uint16) << 8) + 7
    Image.fromarray(gray).save("gray.png")
    Image.fromarray(np.dstack([pair[1], np.full(pair[1].shape[:2], 200, np.uint8)])).save("alpha.png")
    assert main(["stylize", "gray.png", "alpha.png", "-o", "out.tif", *QUICK]) == 0
    assert read_image("out.tif").shape == (32, 48, 3)


def test_a_stretched_range_is_told_in_a_sentence(files, pair, capsys):
    tifffile.imwrite("float.tif", pair[0].astype(np.float32) * 3, photometric="rgb")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["stylize", "float.tif", "style.jpg", "-o", "out.png", *QUICK]) == 0
    error = capsys.readouterr().err
    assert "napari-neural-style: The values of the content image run from" in error
    assert "UserWarning" not in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.png", "style.jpg"], "no image file"),
        (["content.png", "style.jpg", "-o", "out.xyz"], "must end in one of"),
        (["content.png", "style.jpg", "-o", "nowhere/out.png"], "no folder"),
        (["content.png", "style.jpg", "--report", "nowhere/r.json"], "no folder"),
        (["content.png", "style.jpg", "-o", "n" * 246 + ".png"], "nnn.png' is too long to be written"),
        (["content.png", "style.jpg", "--report", "n" * 300 + ".json"], "nnn.json' is too long to be written"),
        (["content.png", "style.jpg", "--report", "."], "'.' is a folder"),
        (["content.png", "style.jpg", "--report", "content.png"], "name of an image"),
        (["content.png", "style.jpg", "--report", "r.ome.zarr"], "name of an image"),
        (["content.png", "style.jpg", "--report", "notes.json"], "'notes.json' already exists and is no report of"),
        (["content.png", "style.jpg", "--steps-dir", "content.png"], "'content.png' is a file"),
        (["content.png", "style.jpg", "--steps-dir", "steps"], "step-0003.png' already exists and was not made by"),
        (["content.png", "style.jpg", "--size", "64x"], "one number, or height and width as in 384x512, not '64x'"),
        (["content.png", "style.jpg", "--size", "4"], "size must be 32 to"),
        (["content.png", "style.jpg", "--style-layers", "conv7_1"], "no layer"),
        (["content.png", "style.jpg", "--style-layers", "conv1_1=x"], "not of the form"),
        (["content.png", "style.jpg", "--style-layers", "conv1_1=1,conv1_1=2"], "conv1_1 is named twice"),
        (["content.png", "style.jpg", "--style-layers", ""], "or give auto"),
        (["content.png", "style.jpg", "--style-layers", "conv1_1=0"], "or give auto"),
        (["content.png", "style.jpg", "--device", "cuda:77"], "cannot be used"),
        (["content.png", "style.jpg", "--preset", "written"], "features download"),
        (["content.png", "style.jpg", "--features", "none.pth"], "no features file"),
        (["content.png", "style.jpg", "--style-layers", ","], "is not of the form conv4_2=1"),
        (["broken.png", "style.jpg"], "no image that can be read"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(files, capsys, arguments, words):
    (files / "broken.png").write_bytes(b"broken")
    (files / "notes.json").write_text('{"versions": 3}')
    (files / "steps").mkdir()
    (files / "steps" / "step-0003.png").write_bytes((files / "content.png").read_bytes())
    before = {path: path.is_file() and path.read_bytes() for path in files.rglob("*")}
    assert main(["stylize", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert {path: path.is_file() and path.read_bytes() for path in files.rglob("*")} == before


def test_folders_that_cannot_be_written_to_are_told_before_the_run(files, capsys, monkeypatch):
    (files / "ro").mkdir()
    touch = Path.touch

    def refusing(path, **kwargs):  # root may write anywhere, and on Windows os.access() says that all may
        if path.parent.name == "ro":
            raise PermissionError(13, "Permission denied")
        touch(path, **kwargs)

    monkeypatch.setattr(Path, "touch", refusing)
    for option in (["--steps-dir", "ro/steps"], ["--report", "ro/r.json"], ["-o", "ro/out.png"]):
        assert main(["stylize", "content.png", "style.jpg", *option, *QUICK]) == 2
        assert re.search(r"cannot be written.* \(Permission denied\): choose another", capsys.readouterr().err)
    assert not (files / "content-stylized.png").exists()


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), ValueError("There is no folder.")])
def test_a_step_that_cannot_be_kept_does_not_end_the_run(files, capsys, monkeypatch, fault):
    write = write_image

    def full(path, *args, **kwargs):
        if path.parent.name == "steps":
            raise fault
        write(path, *args, **kwargs)

    monkeypatch.setattr("napari_neural_style.files.write_image", full)
    assert main(["stylize", "content.png", "style.jpg", "-o", "out.png", "--steps-dir", "steps", *QUICK]) == 1
    assert capsys.readouterr().err.count("no steps are kept from step 2 on") == 1
    assert read_image("out.png").shape[1] == 48


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (OSError(28, "No space left on device"), "'out.tif' cannot be written: No space left on device."),
        (ValueError("There is no folder for 'out.tif'."), "There is no folder for 'out.tif'."),
    ],
)
def test_a_picture_that_cannot_be_written_is_kept_elsewhere(files, capsys, monkeypatch, fault, told):
    write, named = write_image, monkeypatch.setattr

    def full(path, *args, **kwargs):
        if path.name == "out.tif":
            raise fault
        write(path, *args, **kwargs)

    named("napari_neural_style.files.write_image", full)
    named("tempfile.tempdir", str(files / "elsewhere"))
    (files / "elsewhere").mkdir()
    arguments = ["stylize", "content.png", "style.jpg", "-o", "out.tif", *QUICK]
    assert main(arguments) == 1
    (kept,) = (files / "elsewhere").rglob("*.png")
    assert f": {told} It is kept as {str(kept)!r} instead." in capsys.readouterr().err
    assert read_image(kept).shape[1] == 48
    assert read_made_by(kept)["sources"]["content"] == "content.png"
    named("tempfile.tempdir", str(files / "nowhere"))
    assert main(arguments) == 1
    assert "Nor can it be kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "The disk is full. Free some space, and run the same command again."),
        (errno.EFBIG, "A file is larger than its disk or this system permits. Choose another folder, or a smaller"),
    ],
)
def test_a_full_disk_is_told_in_words(files, capsys, monkeypatch, number, told):
    def full(*_):
        raise OSError(number, "what the system says")

    monkeypatch.setattr("napari_neural_style.report.write_report", full)
    assert main(["stylize", "content.png", "style.jpg", "--report", "r.json", *QUICK]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no folder that a process is in")
def test_a_folder_that_was_removed_is_told(files, capsys, monkeypatch):
    (files / "gone").mkdir()
    monkeypatch.chdir(files / "gone")
    (files / "gone").rmdir()
    assert main(["stylize", str(files / "content.png"), str(files / "style.jpg"), *QUICK]) == 2
    assert "The folder that this was started in is not there any more: change to another." in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="what POSIX says")
@pytest.mark.parametrize(
    "arguments",
    ["stylize {} style.jpg -o out.png", "stylize content.png style.jpg --steps-dir {}", "batch {} --style . -o out"],
)
def test_what_the_system_refuses_is_told_in_words(files, capsys, arguments):
    assert main(arguments.format("n" * 300).split()) == 1
    assert re.search(r"^napari-neural-style: 'n{300}' cannot be used: File name too long\.$", capsys.readouterr().err)


def test_a_path_that_is_nothing_is_told(files, capsys):
    with pytest.raises(SystemExit):
        main(["stylize", "content.png", "style.jpg", "--report", "", *QUICK])
    assert "argument --report: a path is expected, not nothing" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")
def test_links_and_pipes_that_are_no_files(files, capsys):
    Path("a.png").symlink_to("b.png")
    Path("b.png").symlink_to("a.png")
    os.mkfifo("pipe.png")
    assert main(["stylize", "content.png", "style.jpg", "-o", "a.png", *QUICK]) == 2
    assert "a.png' is a link that leads round in a circle" in capsys.readouterr().err
    assert main(["stylize", "pipe.png", "style.jpg", *QUICK]) == 2
    assert "'pipe.png' is a pipe or a device" in capsys.readouterr().err
    assert main(["stylize", "content.png", "style.jpg", "-o", "pipe.png", *QUICK]) == 2
    assert "'pipe.png' already exists" in capsys.readouterr().err
    for folder in (
        ["stylize", "content.png", "style.jpg", "--steps-dir"],
        ["batch", "content.png", "--style", "style.jpg", "-o"],
    ):
        assert main([*folder, "a.png", *QUICK]) == 2
        assert "a.png' is a link that leads nowhere" in capsys.readouterr().err


def test_a_home_folder_that_no_shell_has_put_there(files, monkeypatch):
    monkeypatch.setenv("HOME", str(files))
    monkeypatch.setenv("USERPROFILE", str(files))
    assert main(["stylize", "~/content.png", "~/style.jpg", "--output=~/out.png", "--steps-dir=~/steps", *QUICK]) == 0
    assert main(["batch", "~/content.png", "--style", "~/style.jpg", "--output=~/all", *QUICK]) == 0
    made = {path.relative_to(files).as_posix() for path in files.rglob("*.png")}
    assert made == {"content.png", "out.png", "all/content-style.png", "steps/step-0002.png", "steps/step-0004.png"}


@pytest.mark.skipif(sys.platform == "win32", reason="streams of POSIX")
@pytest.mark.parametrize(
    "redirected", ["| head -1", *["> /dev/full", "2> /dev/full"] * (sys.platform == "linux"), "2>&-", ">&-"]
)
def test_a_picture_is_kept_where_nobody_reads_what_is_printed(files, pair, redirected):
    tifffile.imwrite("float.tif", pair[0].astype(np.float32) * 3, photometric="rgb")  # there is something to be said
    command = [sys.executable, "-m", "napari_neural_style", "stylize", "float.tif", "style.jpg", "-o", "out.png"]
    subprocess.run(["sh", "-c", f"{shlex.join([*command, *QUICK])} {redirected}"], check=True, timeout=120)
    assert read_image("out.png").shape[1] == 48


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe of POSIX")
def test_a_report_to_something_that_is_no_file_gets_a_sentence(files, capsys):
    os.mkfifo("pipe")
    assert main(["stylize", "content.png", "style.jpg", "--report", "pipe", *QUICK]) == 2
    assert "is no report" in capsys.readouterr().err


def test_the_demo_replaces_nothing_but_results(files, capsys):
    (files / "stylized.png").write_bytes((files / "content.png").read_bytes())
    for folder, words in ((".", "was not made by"), ("content.png", "is a file")):
        assert main(["demo", "--headless", "-o", folder]) == 2
        assert words in capsys.readouterr().err


def test_every_setting_is_an_option(capsys):
    with pytest.raises(SystemExit):
        main(["stylize", "--help"])
    text = capsys.readouterr().out
    for name in SETTINGS:
        assert f"--{name.replace('_', '-')}" in text
    for name in PRESETS:
        assert name in text


def test_runs_as_a_module(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "napari_neural_style", "features", "list"], capture_output=True, text=True, check=True
    )
    assert "self-taught" in found.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")
def test_it_ends_without_a_traceback(tmp_path):
    """Where nobody reads what is printed any more, and where Ctrl-C comes as the process ends."""
    code = """if True:
        import atexit, os, signal, sys
        from napari_neural_style.cli import main
        atexit.register(os.kill, os.getpid(), signal.SIGINT)
        sys.exit(main())
    """
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code, "features", "list"]
    found = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (found.returncode, found.stderr) == (-signal.SIGINT, "")
