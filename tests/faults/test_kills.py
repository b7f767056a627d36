"""`kill -9` at any moment: what was told as saved is whole, and the same command again comes to its end."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from counts import cases, count
from loopback import address
from napari_neural_style.cache import pretrained_path
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


def kill(arguments: list[str], after: float) -> tuple[str, bool]:
    """Run the program and kill it after seconds; return what it printed, and whether it was killed before its end."""
    with Path("printed").open("w+") as printed:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen([*COMMAND, *arguments], stdout=printed, stderr=subprocess.DEVNULL, env=environment)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        printed.seek(0)
        assert process.returncode in (0, -signal.SIGKILL)
        return printed.read(), process.returncode != 0


def whole_run(arguments: list[str]) -> float:
    """Run to the end; return how long that took."""
    began = time.monotonic()
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


def moments(number: int, seconds: float) -> list[float]:
    """Return random moments in the last 70 % of a run: before that Python only imports."""
    return [random.uniform(0.3, 1.0) * seconds for _ in range(number)]


def is_picture(path: Path) -> bool:
    return read_image(path).shape[2] == 3 and read_made_by(path) is not None


def test_a_run_killed_at_any_moment(files):
    arguments = ["stylize", "content.png", "style.png", "-o", "out.png", "--steps-dir", "steps", *QUICK]
    seconds = whole_run(arguments)
    seconds = whole_run(arguments)  # features are learned already
    expected = Path("out.png").read_bytes()
    for after in moments(cases(1, 50), seconds):
        for path in [*Path("steps").iterdir(), Path("out.png")]:
            path.unlink(missing_ok=True)
        printed, killed = kill(arguments, after)
        count("runs killed", killed)
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


def test_a_batch_killed_at_any_moment(files):
    def arguments(folder: str) -> list[str]:
        return ["batch", "content.png", "movie.tif", "--style", "style.png", "-o", folder, *QUICK[:4], "--steps", "10",
                *QUICK[6:]]  # fmt: skip

    whole_run(arguments("whole"))
    seconds = whole_run(arguments("again"))
    for number, after in enumerate(moments(cases(1, 50), seconds)):
        folder = f"out{number}"
        printed, killed = kill(arguments(folder), after)
        count("batches killed", killed)
        for path in re.findall(r"^Wrote (.+)$", printed, re.MULTILINE):
            name = Path(path).name
            wanted = {k: v for k, v in pictures_in(Path("whole")).items() if k.startswith(name)}
            assert wanted.items() <= pictures_in(Path(folder)).items()
        whole_run(arguments(folder))
        assert pictures_in(Path(folder)) == pictures_in(Path("whole"))


def test_a_download_killed_at_any_moment(files, server, whole_file):
    url = f"{address(server, whole_file)}?slow"
    arguments = ["features", "download", "--url", url]
    seconds = whole_run(arguments)
    for after in moments(cases(1, 50), seconds):
        pretrained_path().unlink(missing_ok=True)
        printed, killed = kill(arguments, after)
        count("downloads killed", killed)
        assert not pretrained_path().exists() or is_whole(pretrained_path())
        assert "Kept" not in printed or pretrained_path().exists()
    whole_run(arguments)
    assert is_whole(pretrained_path())
    left = {path.name for path in pretrained_path().parent.iterdir() if path.is_file()}
    assert left <= {pretrained_path().name, ".download.lock"}
