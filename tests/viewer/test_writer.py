from __future__ import annotations

import contextlib
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.layers import Image
from npe2 import PluginManager
from qtpy.QtWidgets import QFileDialog

from napari_neural_style import PRESETS
from napari_neural_style.command import settings_of
from napari_neural_style.files import read_image, read_made_by, write_image
from napari_neural_style.viewer.provenance import made_by_of

NAME = "napari-neural-style"
MADE_BY = {"settings": PRESETS["fine"].to_dict(), "sources": {"content": "Käse", "style": "×"}, "step": 800}


@pytest.fixture(params=["napari", NAME])
def manager(request):
    """The plugins, not activated, found in either order; which it is depends on the file system."""
    manager = PluginManager.instance()
    manager.discover()
    if NAME in manager._contexts:
        manager.deactivate(NAME)
    for name in sorted((NAME, "napari"), key=lambda name: name != request.param):
        manager._contrib.reindex(manager.get_manifest(name))
    assert next(manager.iter_compatible_writers(["image"])).plugin_name in (request.param, "napari-svg")
    return manager


@pytest.fixture
def viewer(manager, make_napari_viewer):
    """A viewer with the dock open."""
    viewer = make_napari_viewer(show=True)
    viewer.window.add_plugin_dock_widget(NAME, "Style Transfer")
    return viewer


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def result(data: np.ndarray, **keywords) -> Image:
    return Image(data, name="a × b · step 800", rgb=True, metadata={NAME: MADE_BY}, **keywords)


def test_a_saved_result_knows_its_settings_when_it_is_opened_again(viewer, tmp_path):
    layer = viewer.add_layer(result(pixels(40, 60)))
    for name in ("layer.png", "list.tif", "list.jpg"):
        path = str(tmp_path / name)
        assert (layer if name.startswith("layer") else viewer.layers).save(path) == [path]
        [back] = viewer.open(path)
        assert back.data.shape == (40, 60, 3)
        assert back.metadata == {}
        assert settings_of(made_by_of(back)) == PRESETS["fine"]
        if not name.endswith("jpg"):
            np.testing.assert_array_equal(back.data, layer.data)
        viewer.layers.remove(back)
    assert len(list(tmp_path.iterdir())) == 3
    viewer.add_image(pixels(9, 9), name="other")
    viewer.layers.save(str(tmp_path / "folder"))
    kept = {path.name: read_made_by(path) for path in (tmp_path / "folder").iterdir()}
    assert kept == {f"{layer.name}.tif": MADE_BY, "other.tif": None}


def test_the_save_dialog(viewer, tmp_path, monkeypatch):
    """The entry that is chosen when the dialog opens, and ours."""
    viewer.add_layer(result(pixels(40, 60)))
    for title in ("", "Neural Style"):
        for typed, written in (("mine.png", "mine.png"), ("mine", "mine.tif")):

            def answer(*_, filter, title=title, typed=typed, **__):
                chosen = next(entry for entry in filter.split(";;") if entry.startswith(title))
                return str(tmp_path / typed), chosen

            monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
            viewer.window._qt_viewer._save_layers_dialog(selected=True)
            assert read_made_by(tmp_path / written) == MADE_BY
            (tmp_path / written).unlink()


@pytest.mark.parametrize("kind", ["rgb", "gray", "stack", "lazy", "float", "pyramid", "odd"])
def test_other_layers_are_saved_as_ever(manager, tmp_path, kind):
    data = {
        "gray": pixels(40, 60)[..., 0].astype(np.uint16),
        "stack": pixels(4, 40, 60)[..., 0],
        "lazy": da.from_array(pixels(40, 60)),
        "float": pixels(40, 60)[..., 0] / 255,
        "pyramid": [pixels(40, 60), pixels(20, 30)],
    }.get(kind, pixels(40, 60))
    layer = Image(data, metadata={NAME: {"settings": object()}} if kind == "odd" else {})
    names = ["x.tif", "x.tiff", "x", "x.PNG"]
    if kind not in ("stack", "pyramid"):
        names += ["x.png", "x.jpg", "x.bmp"]
    ours = saved(layer, tmp_path / "ours", names)
    manager._contrib.remove_contributions(NAME)
    try:
        usual = saved(layer, tmp_path / "usual", names)
    finally:
        manager._contrib.index_contributions(manager.get_manifest(NAME))
    assert ours == usual
    assert "x.tif" in ours or kind == "pyramid"
    assert "x.PNG" not in ours


def saved(layer: Image, folder: Path, names: list[str]) -> dict[str, bytes]:
    """Return the files that saving a layer under some names makes."""
    folder.mkdir()
    for name in names:
        with contextlib.suppress(Exception):
            layer.save(str(folder / name))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("shape", [(1, 1, 40, 60), (40, 1, 60), (1, 60)])
def test_a_result_on_a_plane_of_a_stack(manager, tmp_path, shape):
    manager.activate(NAME)
    layer = result(pixels(*shape))
    path = tmp_path / "plane.png"
    assert layer.save(str(path)) == [str(path)]
    np.testing.assert_array_equal(read_image(path).ravel(), layer.data.ravel())
    assert read_made_by(path) == MADE_BY


def test_what_cannot_keep_the_settings_is_saved_without_them(manager, tmp_path, capsys):
    manager.activate(NAME)
    for data, name in ((pixels(3, 40, 60), "stack.tif"), (pixels(40, 60), "one.bmp")):
        result(data).save(str(tmp_path / name))
        assert (tmp_path / name).is_file()
        assert read_made_by(tmp_path / name) is None
    assert "stack.tif does not keep the settings of 'a × b · step 800': only a single" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_stack_is_no_picture_and_what_was_there_stays(manager, tmp_path, suffix):
    manager.activate(NAME)
    path = tmp_path / f"stack.{suffix}"
    for before in (None, b"mine"):
        with pytest.raises(OSError, match=f"stack.{suffix} cannot hold all of .*: save it as TIFF"):
            result(pixels(3, 40, 60)).save(str(path))
        assert path.exists() == (before is not None)
        path.write_bytes(b"mine")
    assert path.read_bytes() == b"mine"


def test_a_folder_that_is_not_there(manager, tmp_path):
    manager.activate(NAME)
    with pytest.raises(OSError, match="no folder"):
        result(pixels(40, 60)).save(str(tmp_path / "none" / "x.png"))


def test_a_tiff_keeps_the_pixel_size(manager, tmp_path):
    manager.activate(NAME)
    layer = result(pixels(1, 40, 60), scale=(7, 0.5, 0.325), units=("s", "um", "um"))
    layer.save(str(tmp_path / "cells.tif"))
    with tifffile.TiffFile(tmp_path / "cells.tif") as file:
        across, down = (file.pages[0].tags[f"{axis}Resolution"].value for axis in "XY")
        assert (across[0] / across[1], down[0] / down[1]) == pytest.approx((1e4 / 0.325, 1e4 / 0.5), rel=1e-5)
        assert file.pages[0].tags["ResolutionUnit"].value == 3


def test_what_made_a_layer(tmp_path):
    path = tmp_path / "x.png"
    write_image(path, pixels(40, 60), MADE_BY)

    def layer(metadata: object = None, source: Path | str | None = path, data: np.ndarray | None = None) -> Image:
        from napari.layers._source import layer_source

        with layer_source(path=None if source is None else str(source)):
            return Image(pixels(40, 60) if data is None else data, rgb=True, metadata={NAME: metadata})

    assert made_by_of(layer({"step": 3})) == {"step": 3}
    for odd in (None, [1], "text", 3):
        assert made_by_of(layer(odd)) == MADE_BY
        assert made_by_of(layer(odd, source=None)) is None
    for source in ("absent.png", tmp_path, "https://example.org/x.png", "x\0.png", __file__):
        assert made_by_of(layer(source=source)) is None
    assert made_by_of(layer(data=pixels(3, 40, 60))) is None
    write_image(path, pixels(40, 60), MADE_BY | {"step": 1})
    assert made_by_of(layer())["step"] == 1
