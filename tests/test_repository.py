"""What the repository's files say of each other stays true."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import gallery
import napari_neural_style
from gallery_results import RESULTS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"dask": "dask-core", "torch": "pytorch"}
FOLDERS = (".", ".github", ".github/ISSUE_TEMPLATE", ".github/workflows", "conda", "docs")
TEXTS = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).glob("*"))
    if path.suffix in {".md", ".yml", ".yaml", ".toml", ".cff", ".ipynb"}
]


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    assert citation["version"] == recipe["context"]["version"] == napari_neural_style.__version__
    assert f"## {napari_neural_style.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_one_address():
    address = PROJECT["urls"]["Repository"]
    found = [
        (path.name, match)
        for path in TEXTS
        for match in re.findall(
            r"(?:github\.com|raw\.githubusercontent\.com)/[\w.-]+/napari-neural-style", path.read_text(encoding="utf-8")
        )
    ]
    assert found
    owner = address.removeprefix("https://github.com/").split("/")[0]
    assert not [each for each in found if f"/{owner}/" not in each[1]]


def test_what_is_imported_is_asked_for():
    asked = [*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra)]
    names = {Requirement(text).name for text in asked}
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    installed_by = packages_distributions()
    others = imported - sys.stdlib_module_names - {"napari_neural_style"}
    assert {"dask", "PIL", "torch"} <= others
    assert not [name for name in others if names.isdisjoint(each.lower() for each in installed_by[name])]


def test_conda_asks_for_what_the_package_asks_for():
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    asked = [Requirement(text) for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["all"]]]
    expected = {
        f"{CONDA_NAMES.get(each.name, each.name)} {each.specifier}".strip()
        for each in asked
        if (each.name != "napari" or not each.extras) and each.marker is None  # pip's Qt, and what that needs
    }
    assert {text for text in recipe["requirements"]["run"] if not text.startswith("python ")} == expected


@pytest.mark.parametrize(
    "path", [path for path in TEXTS if path.suffix in {".yml", ".cff"}], ids=lambda path: path.name
)
def test_files_for_machines_can_be_read(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("page", [path for path in TEXTS if path.suffix == ".md"], ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_guide_lists_its_sections():
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    assert re.findall(r"^\d+\. \[(.+)\]\(", guide, re.MULTILINE) == re.findall("^## (.+)", guide, re.MULTILINE)


def test_the_seconds_of_a_preset_are_the_measured_ones():
    told = re.findall(r"\| `(\w+)` \|.* (\d+) \|\n", (ROOT / "README.md").read_text(encoding="utf-8"))
    measured = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    assert told == re.findall(r"\| preset (\w+), learning included \| (\d+) \|\n", measured)
    assert told


def test_the_gallery_is_what_its_script_makes():
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page()
    for result in RESULTS:
        assert (gallery.FOLDER / f"{result.name}.jpg").is_file()
