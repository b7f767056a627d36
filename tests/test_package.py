"""What is handed out: the wheel and the sdist are built, checked, and the wheel is used without the checkout."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
USED_ALONE = """
import importlib
import napari_neural_style
from npe2 import PluginManager

manager = PluginManager.instance()
manager.discover()
manifest = manager.get_manifest("napari-neural-style")
assert napari_neural_style.__version__ == manifest.package_version
(widget,) = manifest.contributions.widgets
print(napari_neural_style.__file__)
print(widget.display_name, *(sample.key for sample in manifest.contributions.sample_data))
for command in manifest.contributions.commands:
    module, _, name = command.python_name.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_string(archive.read(name).decode())


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package_index_takes_both(built):
    run(sys.executable, "-m", "twine", "check", "--strict", *(str(path) for path in built.iterdir()))


def test_the_sdist_is_the_repository(built):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = run("git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    expected = {path for path in listed if (ROOT / path).exists()}
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        found = {path.partition("/")[2] for path in archive.getnames()}
    assert found == expected | {"PKG-INFO"}


def test_the_wheel_holds_the_package_alone(wheel):
    assert wheel.stat().st_size < 1_000_000
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"napari_neural_style"}
    assert {"napari_neural_style/napari.yaml", "napari_neural_style/py.typed"} <= names
    assert not [name for name in names if "test" in name]


def test_the_napari_hub_finds_what_it_reads(metadata):
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert {"Framework :: napari", "Typing :: Typed"} <= set(metadata.get_all("Classifier"))
    readme = metadata.get_payload()
    assert readme.startswith("# napari-neural-style")
    addresses = re.findall(r"\]\(([^)]+)\)", readme)
    assert addresses
    assert not [address for address in addresses if not address.startswith(("https://", "#"))]


def test_the_wheel_is_a_plugin_without_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:  # as pip installs it, which not every environment has
        archive.extractall(tmp_path)
    site_packages = [path for path in sys.path if path.endswith("site-packages")]
    # -S: the .pth file of an editable install is not read, so that only the wheel can be imported.
    said = run(sys.executable, "-S", "-c", USED_ALONE, PYTHONPATH=os.pathsep.join([str(tmp_path), *site_packages]))
    file, contributions = said.splitlines()
    assert Path(file).is_relative_to(tmp_path)
    assert contributions == "Style Transfer pair histology cells"
