"""`kill -9` at any moment: what was told as saved is whole, and the same command again comes to its end."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from counts import cases, count
from loopback import address
from napari_neural_style.cache import pretrained_path
from napari_neural_style.cli import main
from napari_neural_style.engine.weights import is_whole
from napari_neural_style.files import read_image, read_made_by

COMMAND = [sys.executable, "-m", "napari_neural_style"]
QUICK = ["--size", "48", "--scales", "1", "--steps", "60", "--save-every", "2", "--device", "cpu", "--precision",
         "float32", "--content-layers", "conv2_1", "--style-layers", "conv1_1=1,conv2_1=0.5"]  # fmt: skip


@pytest.fixture
def files(tmp_path, pair, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pair[0][:64, :80]).save("content.png")
    Image.fromarray(pair[1]).save("style.png")
    stack = np.stack([pair[0][20:52, 10 + t : 50 + t] for t in range(4)])
    tifffile.imwrite("movie.tif", stack, photometric="rgb")
    return tmp_path


def killed(what: str, arguments: list[str], clear: Callable[[], None], seconds: float) -> Iterator[str]:
    """Clear what is there, run the program and kill it in the last 70 % of its time: before that Python only imports.

    Yields what each run printed, also where it came to its end, until enough were killed.
    """
    left = cases(1, 50)
    while left:
        clear()
        began = time.monotonic()
        with Path("printed").open("w+") as printed:
            environment = os.environ | {"PYTHONUNBUFFERED": "1"}
            process = subprocess.Popen(
                [*COMMAND, *arguments], stdout=printed, stderr=subprocess.DEVNULL, env=environment
            )
            try:
                process.wait(random.uniform(0.3, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.kill()
            process.wait()
            printed.seek(0)
            yield printed.read()
        if process.returncode:
            assert process.returncode == (1 if sys.platform == "win32" else -signal.SIGKILL)
            count(what)
            left -= 1
        else:
            seconds = time.monotonic() - began


@pytest.fixture(scope="module")
def seconds_to_begin() -> float:
    """How long the program imports before it does anything."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import napari_neural_style.cli, torch"], check=True, timeout=100)
    return time.monotonic() - began


def whole_run(arguments: list[str]) -> float:
    """Run to the end, in this process; return how long that took."""
    began = time.monotonic()
    assert main(arguments) == 0
    return time.monotonic() - began


def is_picture(path: Path) -> bool:
    return read_image(path).shape[2] == 3 and read_made_by(path) is not None


def test_a_run_killed_at_any_moment(files, seconds_to_begin):
    arguments = ["stylize", "content.png", "style.png", "-o", "out.png", "--steps-dir", "steps", *QUICK]
    seconds = seconds_to_begin + whole_run(arguments)
    expected = Path("out.png").read_bytes()

    def clear() -> None:
        for path in [*Path("steps").iterdir(), Path("out.png")]:
            path.unlink(missing_ok=True)

    for printed in killed("runs killed", arguments, clear, seconds):
        told = [int(number) for number in re.findall(r"^step (\d+):", printed, re.MULTILINE)]
        assert all(is_picture(Path(f"steps/step-{number:04d}.png")) for number in told)
        assert all(is_picture(path) for path in Path("steps").glob("*.png"))
        assert "Wrote" not in printed or Path("out.png").read_bytes() == expected
    whole_run(arguments)
    assert Path("out.png").read_bytes() == expected
    assert not list(Path().rglob("*.part"))


def pictures_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") or part.endswith(".jsonl") for part in path.parts)
    }


def test_a_batch_killed_at_any_moment(files, seconds_to_begin):
    def arguments(folder: str) -> list[str]:
        return ["batch", "content.png", "movie.tif", "--style", "style.png", "-o", folder, *QUICK[:4], "--steps", "10",
                *QUICK[6:]]  # fmt: skip

    def clear() -> None:
        shutil.rmtree("out", ignore_errors=True)

    seconds = seconds_to_begin + whole_run(arguments("whole"))
    for printed in killed("batches killed", arguments("out"), clear, seconds):
        for path in re.findall(r"^Wrote (.+)$", printed, re.MULTILINE):
            name = Path(path).name
            wanted = {k: v for k, v in pictures_in(Path("whole")).items() if k.startswith(name)}
            assert wanted.items() <= pictures_in(Path("out")).items()
        whole_run(arguments("out"))
        assert pictures_in(Path("out")) == pictures_in(Path("whole"))


def test_a_download_killed_at_any_moment(files, server, whole_file, seconds_to_begin):
    arguments = ["features", "download", "--url", f"{address(server, whole_file)}?slow"]

    def clear() -> None:
        pretrained_path().unlink(missing_ok=True)

    seconds = seconds_to_begin + whole_run(arguments)
    for printed in killed("downloads killed", arguments, clear, seconds):
        assert not pretrained_path().exists() or is_whole(pretrained_path())
        assert "Kept" not in printed or pretrained_path().exists()
    whole_run(arguments)
    assert is_whole(pretrained_path())
    there = {path.name for path in pretrained_path().parent.iterdir()}
    assert there <= {pretrained_path().name, ".download.lock"}
