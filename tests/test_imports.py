from __future__ import annotations

import os
import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter holds after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import napari_neural_style", {"torch", "napari", "magicgui", "qtpy", "numpy"}),
        ("import napari_neural_style.cli", {"torch", "napari", "magicgui", "qtpy"}),
        ("import napari_neural_style.store", {"torch", "napari", "magicgui", "qtpy", "numpy"}),
        ("import napari_neural_style.viewer.preferences", {"torch", "napari", "magicgui", "qtpy"}),
        ("from napari_neural_style import stylize", {"napari", "magicgui", "qtpy"}),
        ("import napari_neural_style.viewer.widget", {"torch", "pyqtgraph"}),
        ("import napari_neural_style.viewer.curve", {"torch", "pyqtgraph"}),
        ("import napari_neural_style.viewer.writer", {"torch", "magicgui", "qtpy"}),
        ("import napari_neural_style.command", {"torch", "napari", "numpy"}),
        ("import napari_neural_style.viewer.samples", {"torch", "napari", "qtpy"}),
    ],
)
def test_nothing_is_imported_before_it_is_needed(statement, absent):
    assert not modules_after(statement) & absent


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_run_imports_nothing_slow_and_nothing_that_crashes_beside_a_canvas(optimizer):
    """Triton's LLVM, which torchvision and torch's own optimisers bring in, crashes beside Mesa's."""
    run = (
        "import numpy as np; from napari_neural_style import StyleSettings, stylize; picture = np.eye(40); "
        f"settings = StyleSettings(size=32, scales=1, steps=2, optimizer={optimizer!r}, features='self-taught', "
        "device='cpu'); list(stylize(picture, picture, settings))"
    )
    assert not modules_after(run) & {"triton", "torchvision", "torch._dynamo", "sympy"}


@pytest.mark.skipif(sys.platform != "linux", reason="the system's list of loaded libraries is read")
def test_pytorchs_libraries_are_loaded_before_its_import_but_for_those_that_know_python():
    code = """
from pathlib import Path
from napari_neural_style.viewer.libraries import load_libraries
def loaded():
    paths = {Path(line.split()[-1]) for line in open("/proc/self/maps") if line.strip().endswith(".so")}
    return {path.name for path in paths if path.parent.parent.name == "torch"}
load_libraries()
before = loaded()
import torch
assert torch.ones(2).sum() == 2
print(len(before), *(loaded() - before))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, *late = found.stdout.split()
    assert int(count) >= 3
    assert set(late) <= {"libtorch_python.so", "libshm.so"}


def test_a_pytorch_that_windows_cannot_load_gets_a_sentence(tmp_path, monkeypatch):
    """Qt is there first, and with it, in PyQt6 before 6.11, a C++ library that is too old for PyTorch."""
    said = r'[WinError 1114] A DLL initialization routine failed. Error loading "C:\c10.dll" or what it depends on.'
    (tmp_path / "torch.py").write_text(f"raise OSError({said!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    code = """if True:
        import sys
        sys.platform = "win32"
        from napari_neural_style.viewer.libraries import load_pytorch
        try:
            load_pytorch(lambda *_: None)
        except ImportError as error:
            print(error)
    """
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith(f"PyTorch cannot be loaded: {said} Usually")
    assert "pip install --upgrade PyQt6 PyQt6-Qt6" in found.stdout


def test_public_names():
    import napari_neural_style

    for name in napari_neural_style.__all__:
        assert getattr(napari_neural_style, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'glitter'"):
        _ = napari_neural_style.glitter
