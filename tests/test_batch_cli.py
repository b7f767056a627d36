from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image
from tqdm import tqdm

from napari_neural_style import StyleSettings
from napari_neural_style.batch import Batch
from napari_neural_style.cli import main
from napari_neural_style.engine import devices
from napari_neural_style.engine.images import UnusedRangeWarning
from napari_neural_style.files import read_image, read_made_by
from napari_neural_style.ledger import NAME
from napari_neural_style.workers import Here

pytestmark = pytest.mark.usefixtures("learned")

QUICK = ["--size", "32", "--scales", "1", "--steps", "3", "--device", "cpu", "--precision", "float32",
         "--content-layers", "conv1_2", "--style-layers", "conv1_1=1"]  # fmt: skip


@pytest.fixture
def files(tmp_path, pair, monkeypatch):
    """Three images of the same name, a stack of eight planes, and a style."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two").mkdir()
    picture = pair[0][:48, :64]
    for name, image in (("a.png", picture), ("a.jpg", picture[::-1]), ("two/a.png", picture[:, ::-1])):
        Image.fromarray(image).save(tmp_path / name)
    Image.fromarray(pair[1]).save(tmp_path / "oil.png")
    stack = np.stack([pair[0][20:52, 10 + t : 50 + t] for t in range(8)])
    tifffile.imwrite(tmp_path / "movie.tif", stack, photometric="rgb")
    return tmp_path


def made_in(folder):
    """Return all that a batch made, as bytes by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and NAME not in path.name
    }


def batch(*arguments):
    return main(["batch", *arguments, *QUICK])


def test_images_and_stacks_in_two_styles(files, pair, capsys):
    Image.fromarray(pair[1][::-1]).save("sea.png")
    assert batch("*.jpg", "a.png", "two", "movie.tif", "--style", "oil.png", "sea.png", "-o", "out") == 0
    made = {path.name for path in (files / "out").iterdir() if not path.name.startswith(".")} - {NAME}
    assert made == {
        f"{name}-{style}{suffix}" for style in ("oil", "sea") for name, suffix in (("movie", ".ome.zarr"),)
    } | {f"a-{style}{number}.png" for style in ("oil", "sea") for number in ("", "-2", "-3")}
    assert capsys.readouterr().out.count("Wrote") == 8
    assert main(["stylize", "a.jpg", "oil.png", "-o", "one.png", *QUICK]) == 0
    assert (files / "one.png").read_bytes() == (files / "out" / "a-oil.png").read_bytes()
    assert read_made_by("out/a-sea-2.png")["sources"] == {"content": "a.png", "style": "sea.png"}
    stack = zarr.open("out/movie-oil.ome.zarr", mode="r")
    assert stack["0"].shape == (8, 3, 26, 32)
    assert all(plane.any() for plane in stack["0"][:])
    assert stack.attrs["napari-neural-style"]["settings"]["steps"] == 3

    before = {path: path.stat().st_mtime_ns for path in (files / "out").rglob("*.png")}
    (files / "out" / "a-oil-3.png").unlink()
    # As if it was killed after the last plane.
    (files / "out" / "movie-sea.ome.zarr").rename(files / "out" / ".movie-sea.ome.zarr.part")
    assert batch("*.jpg", "a.png", "two", "movie.tif", "--style", "oil.png", "sea.png", "-o", "out") == 0
    assert "finished before: 21, to do: 1" in capsys.readouterr().out
    assert (files / "out" / "movie-sea.ome.zarr").is_dir()
    after = {path: path.stat().st_mtime_ns for path in (files / "out").rglob("*.png")}
    assert {path.name for path in before if before[path] != after[path]} == {"a-oil-3.png"}


@pytest.mark.parametrize("output", [".", "two/..", "link"])
def test_results_are_no_contents(files, output):
    (files / "link").symlink_to(files, target_is_directory=True)
    for _ in range(2):
        assert batch("*.png", "--style", "oil.png", "-o", output) == 0
    assert {path.name for path in files.glob("*.png")} == {"a.png", "a-oil.png", "oil.png", "oil-oil.png"}


def test_a_stack_without_planes_is_listed(files, capsys):
    zarr.save("empty.zarr", np.zeros((0, 5, 5)))
    assert batch("empty.zarr", "--style", "oil.png", "-o", "out") == 1
    assert "It is empty: its shape is (0, 5, 5)." in capsys.readouterr().err
    assert batch("a.png", "--style", "oil.png", "-o", "a.png/out") == 2
    assert "a.png' is a file" in capsys.readouterr().err


@pytest.mark.filterwarnings("default:.*is cut off")
def test_a_cut_tiff_is_told_once_and_its_whole_planes_are_made(files, pair, capsys, caplog):
    pages = [Image.fromarray(pair[0][20:52, 10 + t : 50 + t]) for t in range(4)]
    pages[0].save("cut.tif", save_all=True, append_images=pages[1:])
    whole = Path("cut.tif").read_bytes()
    Path("cut.tif").write_bytes(whole[: len(whole) * 6 // 10])
    assert batch("cut.tif", "--style", "oil.png", "-o", "out") == 1
    said = capsys.readouterr().err
    assert "cut.tif, plane 2: It cannot be read" in said
    assert said.count("cut.tif' is cut off: nothing after page 3 is left. Copy the file again.") == 1
    assert caplog.text.count("invalid page offset") == 1  # of the fourth plane nothing is left
    assert zarr.open("out/cut-oil.ome.zarr/0", mode="r").shape[0] == 3


def test_what_fails_is_listed_and_done_again_alone(files, pair, capsys):
    (files / "broken.jpg").write_bytes(b"broken")
    stack = np.stack([pair[0][20:52, 10 + t : 50 + t] for t in range(3)]) / 255
    good = stack.copy()
    stack[1] = np.nan
    tifffile.imwrite("floats.tif", stack, photometric="rgb")
    arguments = ("a.png", "broken.jpg", "floats.tif", "--style", "oil.png", "-o", "out")
    assert batch(*arguments) == 1
    printed = capsys.readouterr()
    assert f"napari-neural-style: {files / 'broken.jpg'}: is no image that can be read (" in printed.err
    assert "floats.tif, plane 1: The plane holds" in printed.err
    assert "Traceback" not in printed.err
    assert not (files / "out" / "broken-oil.png").exists()
    planes = [plane.any() for plane in zarr.open("out/floats-oil.ome.zarr/0", mode="r")[:]]
    assert planes == [True, False, True]

    Image.fromarray(pair[0]).save("broken.jpg")
    tifffile.imwrite("floats.tif", good, photometric="rgb")
    assert batch(*arguments) == 0
    assert "finished before: 3, to do: 2" in capsys.readouterr().out
    assert zarr.open("out/floats-oil.ome.zarr/0", mode="r")[1].any()
    assert read_image("out/broken-oil.png").any()


def test_of_every_image_that_is_almost_grey_it_is_said_once(files, pair, capsys):
    gray = pair[0][:48, :64, 0].astype(np.uint16)
    for name in ("one", "two"):
        tifffile.imwrite(f"{name}.tif", gray)
    assert batch("one.tif", "two.tif", "--style", "oil.png", "-o", "out") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "almost uniformly grey" in line]
    assert [Path(line.split(": ")[1]).name for line in said] == ["one.tif", "two.tif"]


def test_what_was_noticed_before_a_stop_is_said(files, capsys, monkeypatch):
    def stopped(*_args, **_options):
        warnings.warn("Almost grey.", UnusedRangeWarning, stacklevel=1)
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_neural_style.batch.stylize", stopped)
    batch("a.png", "--style", "oil.png", "-o", "out")
    assert "napari-neural-style: Almost grey." in capsys.readouterr().err.splitlines()


def test_a_fault_without_words_is_listed_by_its_name(files, capsys, monkeypatch):
    monkeypatch.setattr("napari_neural_style.batch.stylize", Mock(side_effect=MemoryError))
    assert batch("a.png", "--style", "oil.png", "-o", "out") == 1
    assert "a.png: MemoryError\n" in capsys.readouterr().err


def test_a_stack_without_any_good_plane_leaves_nothing(files, capsys):
    tifffile.imwrite("nan.tif", np.full((3, 32, 40), np.nan, np.float32), photometric="minisblack")
    assert batch("nan.tif", "--style", "oil.png", "-o", "out") == 1
    assert "nan.tif, plane 0, 1, 2: No plane of the stack can be used" in capsys.readouterr().err
    assert made_in(files / "out") == {}


def test_a_stack_that_is_deleted_is_made_anew_though_it_is_stopped_again(files):
    settings = StyleSettings(
        size=32, scales=1, steps=2, device="cpu", content_layers={"conv1_2": 1.0}, style_layers={"conv1_1": 1.0}
    )

    def planned():
        batch = Batch([Path("oil.png")], settings)
        batch.plan([Path("movie.tif")], Path("out"))
        return batch

    Path("out").mkdir()
    assert len(list(planned().run(Here()))) == 8
    whole = made_in(files / "out")
    shutil.rmtree("out/movie-oil.ome.zarr")
    next(planned().run(Here()))
    batch = planned()
    assert (batch.finished_before, batch.total) == (1, 7)
    list(batch.run(Here()))
    assert made_in(files / "out") == whole


def test_a_stack_that_is_removed_in_the_middle_is_not_called_done(files):
    settings = StyleSettings(
        size=32, scales=1, steps=2, device="cpu", content_layers={"conv1_2": 1.0}, style_layers={"conv1_1": 1.0}
    )
    batch = Batch([Path("oil.png")], settings)
    Path("out").mkdir()
    batch.plan([Path("movie.tif")], Path("out"))
    outcomes = batch.run(Here())
    next(outcomes)
    shutil.rmtree("out/.movie-oil.ome.zarr.part")
    with pytest.raises(OSError, match="was removed during the run"):
        list(outcomes)
    assert not Path("out/movie-oil.ome.zarr").exists()


def test_a_stack_that_has_grown_is_refused_in_a_sentence_and_stops_no_other(files, pair, capsys):
    def stack(length):
        tifffile.imwrite("movie.tif", np.stack([pair[0][:32, t : 40 + t] for t in range(length)]), photometric="rgb")

    stack(2)
    assert batch("movie.tif", "--style", "oil.png", "-o", "out") == 0
    before = made_in(files / "out")
    stack(3)
    assert batch("movie.tif", "a.png", "--style", "oil.png", "-o", "out") == 1
    assert "movie.tif: It has changed since its result was begun" in capsys.readouterr().err
    assert made_in(files / "out").items() > before.items()
    tifffile.imwrite("movie.tif", pair[0][:32, :40], photometric="rgb")
    assert batch("movie.tif", "--style", "oil.png", "-o", "out") == 0
    assert (files / "out" / "movie-oil.png").is_file()
    assert made_in(files / "out").items() > before.items()


def test_a_folder_of_other_results_is_refused(files, capsys):
    assert batch("a.png", "--style", "oil.png", "-o", "out") == 0
    capsys.readouterr()
    for arguments, words in (
        (["--style", "oil.png", "--seed", "7"], "settings.seed was 0 and is 7 now"),
        (["--style", "a.jpg"], "other style images, or these in another order: oil.png"),
        (["--style", "oil.png", "--no-chain"], "chain was True"),
    ):
        assert main(["batch", "a.png", "-o", "out", *arguments, *QUICK]) == 2
        assert words in capsys.readouterr().err


def test_another_features_file_of_the_same_name_is_refused(files, capsys):
    def write(seed):
        generator = torch.Generator().manual_seed(seed)
        shapes = {"conv1_1": (64, 3, 3, 3), "conv1_2": (64, 64, 3, 3)}
        numbers = {f"{layer}.weight": torch.rand(shape, generator=generator) / 99 for layer, shape in shapes.items()}
        torch.save(numbers | {f"{layer}.bias": torch.zeros(64) for layer in shapes}, "own.pth")

    arguments = ("a.png", "--style", "oil.png", "-o", "out", "--features", "own.pth", "--no-rescale-features")
    for _ in range(2):
        write(1)
        assert batch(*arguments) == 0
    write(2)
    assert batch(*arguments) == 2
    assert "made with other features than there are now. Choose another folder" in capsys.readouterr().err


def test_names_that_cannot_be_printed_end_nothing(files, pair):
    Image.fromarray(pair[0][:48, :64]).save("日.png")
    command = [sys.executable, "-m", "napari_neural_style", "batch", "日.png", "--style", "oil.png", "-o", "out"]
    found = subprocess.run([*command, *QUICK], env=os.environ | {"PYTHONIOENCODING": "cp1252"}, capture_output=True)
    assert found.returncode == 0, found.stderr
    assert rb"\u65e5-oil.png" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.png", "--style", "oil.png", "-o", "new"], "names no image"),
        (["a.png", "--style", "none.png", "-o", "new"], "names no image"),
        (["a.png", "--style", "oil.png", "-o", "oil.png"], "is a file"),
        (["nothing", "--style", "oil.png", "-o", "new"], "'nothing' holds no image"),
        (["a.png", "--style", "", "-o", "new"], "An empty name names no image"),
        (["a.png", "--style", "oil.png", "-o", "new", "--mode", "texture"], "no use for a batch"),
        (["a.png", "--style", "oil.png", "-o", "new", "--device", "cuda:77"], "cannot be used"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(files, capsys, arguments, words):
    (files / "nothing").mkdir()
    assert main(["batch", *arguments, *(QUICK if "--device" not in arguments else QUICK[:6])]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (files / "new").exists()


def test_an_image_that_fails_with_every_style_is_told_once(files, capsys):
    tifffile.imwrite("odd.tif", np.zeros((32, 40), np.complex64))
    assert main(["batch", "odd.tif", "--style", "oil.png", "a.png", "-o", "new", *QUICK]) == 1
    assert capsys.readouterr().err.count("odd.tif: The content image has dtype complex64") == 1


def test_a_precision_that_is_not_there_is_told_before_anything_is_made(files, capsys, monkeypatch):
    monkeypatch.setattr(devices, "has_int8_products", lambda: False)
    assert main(["batch", "a.png", "--style", "oil.png", "-o", "new", *QUICK, "--precision", "int8"]) == 2
    assert "Precision int8 cannot be used on cpu" in capsys.readouterr().err
    assert not (files / "new").exists()


def test_ctrl_c_is_told_where_cleaning_up_after_it_fails(files, capsys, monkeypatch):
    class PressedInItsMidst:
        def acquire(self):
            signal.raise_signal(signal.SIGINT)

        def release(self):
            raise RuntimeError("cannot release un-acquired lock")

    def write(*_, **__):
        tqdm.set_lock(PressedInItsMidst())
        with tqdm.external_write_mode():
            pytest.fail("Ctrl-C went unheard")

    # After a picture, and in the midst of one.
    for when in ("tqdm.std.tqdm.write", "napari_neural_style.batch.last_of"):
        with monkeypatch.context() as within:
            within.setattr(tqdm, "_lock", tqdm.get_lock())
            within.setattr(when, write)
            assert batch("a.png", "a.jpg", "--style", "oil.png", "-o", "out") == 130
        assert capsys.readouterr().err == "napari-neural-style: stopped\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no other process can press Ctrl-C there")
def test_a_batch_that_is_stopped_goes_on_and_gives_the_same_files(files):
    # Enough steps for a signal that comes late on a busy machine.
    arguments = ["batch", "a.png", "movie.tif", "a.jpg", "--style", "oil.png", *QUICK, "--steps", "30", "-o"]
    assert main([*arguments, "whole"]) == 0
    command = [sys.executable, "-m", "napari_neural_style", *arguments, "out"]
    # The ledger has lines for the settings and the names; then come those of the pictures.
    for pictures in (1, 3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 100
        while process.poll() is None and time.monotonic() < deadline:
            ledger = files / "out" / NAME
            if ledger.is_file() and ledger.read_bytes().count(b'"finished"') >= pictures:
                break
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGINT)
        _, error = process.communicate()
        # Python ends by the signal itself where it was in the midst of exec(), which dataclasses use.
        assert process.returncode in (-signal.SIGINT, 130), error
        assert b"Traceback" not in error
    assert (files / "out" / "a-oil.png").is_file()
    assert not (files / "out" / "movie-oil.ome.zarr").exists()
    assert main([*arguments, "out"]) == 0
    assert made_in(files / "out") == made_in(files / "whole")
    finished = [json.loads(line) for line in (files / "out" / NAME).read_text().splitlines()]
    assert sum("finished" in entry for entry in finished) == 10
