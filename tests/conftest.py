from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import hypothesis
import numpy as np
import pytest

import counts
import napari_neural_style.cache
import napari_neural_style.engine  # says how threads wait, before any test module imports torch
from napari_neural_style import StyleSettings

# Where the shell runs the tests in the background, the programs they start would ignore Ctrl-C too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Before any test module imports napari: its settings and the plugin's preferences are not the user's own.
_napari_settings = tempfile.TemporaryDirectory(prefix="napari-settings-")
os.environ["NAPARI_CONFIG"] = str(Path(_napari_settings.name) / "settings.yaml")

# An example that takes long on a busy machine is no fault.
hypothesis.settings.register_profile(
    "tests", hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

pytest_plugins = ["loopback"]

REAL_FEATURES = Path(__file__).parents[2] / "shared" / "data" / "vgg19_caffe_conv1_1_to_conv3_4.safetensors"


@pytest.hookimpl(tryfirst=True)  # xdist's own looks at the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes hours, unless `make soak` asks for it; keep napari's windows in one process."""
    for item in items:
        # torch.optim loads Triton, which ends a process whose canvas has drawn with Mesa's LLVM.
        item.add_marker(pytest.mark.xdist_group("windows" if "viewer" in item.path.parts else "others"))
    if not counts.SOAK:
        left_out = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, number in sorted(counts.ran.items()):
        terminalreporter.write_line(f"{number:7,} {what}")
    if counts.ran:
        terminalreporter.write_line(f"{counts.ran.total():7,} faults and odd inputs in all")


def pytest_unconfigure() -> None:
    _napari_settings.cleanup()


@pytest.fixture(scope="session", autouse=True)
def _no_apple_gpu() -> Iterator[None]:
    """Let auto be the CPU, whose results are compared: GitHub's Macs tell of a GPU that has no memory."""
    if sys.platform == "darwin":
        with patch("torch.backends.mps.is_available", functools.cache(lambda: False)):
            yield
    else:
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("NAPARI_NEURAL_STYLE_CACHE", str(folder))
    monkeypatch.setattr(napari_neural_style.cache, "_preferred", None)
    return folder


@pytest.fixture(scope="session")
def _learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learned")


@pytest.fixture
def learned(cache: Path, _learned: Path) -> Path:
    """Features that earlier tests learned, for tests that are not about learning: it takes a third of a short run."""
    with contextlib.suppress(OSError):  # Windows makes links for administrators
        (cache / "self-taught").symlink_to(_learned, target_is_directory=True)
    return _learned


@pytest.fixture(autouse=True)
def config(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's own presets and last settings."""
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("NAPARI_NEURAL_STYLE_CONFIG", str(folder))
    return folder


@pytest.fixture(scope="session")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A photograph and a painting, small."""
    from napari_neural_style.viewer.samples import painting, photograph

    return photograph()[40:200:2, 60:300:2], painting(64)


@pytest.fixture
def quick() -> StyleSettings:
    """Settings that use the first two blocks only, and so take milliseconds a step."""
    return StyleSettings(
        size=48,
        scales=1,
        steps=6,
        save_every=3,
        features="self-taught",
        device="cpu",
        precision="float32",
        tile=0,
        content_layers={"conv2_1": 1.0},
        style_layers={"conv1_1": 1.0, "conv2_1": 1.0},
    )


@pytest.fixture(scope="session")
def real_features() -> Path:
    if not REAL_FEATURES.is_file():
        pytest.skip("the original VGG-19's first layers are not at hand")
    return REAL_FEATURES


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for PyTorch, as in each of two workers that share two cores: sums are taken in the same order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
