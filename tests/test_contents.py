from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_neural_style.contents import find, look_at
from napari_neural_style.stack_store import StackStore
from napari_neural_style.zarr_images import Spacing

VALUES = np.random.default_rng(0).integers(0, 255, (2, 5, 6, 7, 3), dtype=np.uint8)


def write_tiff(path, array, **options):
    tifffile.imwrite(path, array, **options)
    return path


def write_zarr(path, array, names=None):
    zarr.create_array(path, data=array, dimension_names=names)
    return path


@pytest.mark.parametrize(
    ("axes", "array", "names", "index", "plane"),
    [
        ("pages", VALUES[0, ..., 0], ("t", "y", "x"), (3,), VALUES[0, 3, ..., 0]),
        ("rgb pages", VALUES[0], ("t", "y", "x", "rgb"), (3,), VALUES[0, 3]),
        ("separate", VALUES[0].transpose(0, 3, 1, 2), ("t", "y", "x", "rgb"), (3,), VALUES[0, 3]),
        ("TZCYX", VALUES[:, :3].transpose(0, 4, 1, 2, 3)[:, :2], ("t", "z", "channel", "y", "x"), (1, 1, 2),
         VALUES[1, 2, ..., 1]),
        ("TZYX", VALUES[:1, ..., 0], ("z", "y", "x"), (3,), VALUES[0, 3, ..., 0]),
    ],
)  # fmt: skip
def test_pages_of_a_tiff_are_planes(tmp_path, axes, array, names, index, plane):
    options = {
        "pages": {"photometric": "minisblack"},
        "rgb pages": {"photometric": "rgb"},
        "separate": {"photometric": "rgb", "planarconfig": "separate"},
    }.get(axes, {"imagej": True, "metadata": {"axes": axes}, "photometric": "minisblack"})
    content = look_at(write_tiff(tmp_path / "a.tif", array, **options))
    assert content.axes == names
    assert content.chain == 0
    np.testing.assert_array_equal(content.planes().read(index), plane)


@pytest.mark.parametrize(
    ("array", "names", "found", "index", "plane"),
    [
        (VALUES[:, :, None, ..., 0], None, ("t", "z", "axis2", "y", "x"), (1, 4), VALUES[1, 4, ..., 0]),
        (VALUES, None, ("t", "z", "y", "x", "rgb"), (1, 4), VALUES[1, 4]),
        (VALUES[..., [0, 1, 2, 0]], None, ("t", "z", "y", "x", "rgb"), (1, 4), VALUES[1, 4][..., [0, 1, 2, 0]]),
        (VALUES[0, ..., 0], None, ("t", "y", "x"), (4,), VALUES[0, 4, ..., 0]),
        (VALUES[..., 0], ["channel", "z", "x", "y"], ("channel", "z", "x", "y"), (1, 4), VALUES[1, 4, ..., 0].T),
        (VALUES[..., 0], ["c", "Time", "Y", "X"], ("channel", "t", "y", "x"), (1, 4), VALUES[1, 4, ..., 0]),
        (VALUES, ["T", "depth", "y", "x", "Channels"], ("t", "z", "y", "x", "rgb"), (1, 4), VALUES[1, 4]),
        (VALUES[..., :2], ["t", "z", "y", "x", "c"], ("t", "z", "y", "x", "channel"), (1, 4, 1), VALUES[1, 4, ..., 1]),
        (VALUES[..., 0], ["time", "t", "y", "x"], ("t", "z", "y", "x"), (1, 4), VALUES[1, 4, ..., 0]),
        (VALUES[..., 0], ["ch", "c", "rows", "columns"], ("channel", "t", "y", "x"), (1, 4), VALUES[1, 4, ..., 0]),
    ],
)
def test_zarr_arrays_are_planes(tmp_path, array, names, found, index, plane):
    content = look_at(write_zarr(tmp_path / "a.zarr", array, names))
    assert content.axes == found
    np.testing.assert_array_equal(content.planes().read(index), plane)


def test_a_stack_of_few_bits_has_their_range(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (3, 6, 7), np.uint16)
    try:
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", bitspersample=12)
    except NotImplementedError:
        pytest.skip("this imagecodecs reads such files, but writes none")
    plane = look_at(tmp_path / "a.tif").planes().read((1,))
    np.testing.assert_allclose(plane / 65535, values[1] / 4095, atol=1 / 65535)


def test_channels_are_no_chain(tmp_path):
    array = VALUES[..., 0]
    assert look_at(write_zarr(tmp_path / "a.zarr", array, ["channel", "z", "y", "x"])).chain == 1
    assert look_at(write_zarr(tmp_path / "b.zarr", array[:, 0], ["channel", "y", "x"])).chain is None


@pytest.mark.parametrize("planes", [{"t": 2}, {"t": 2, "z": 5}, {"z": 5}, {"t": 2, "channel": 5}])
def test_a_stack_is_written_plane_by_plane_and_read_back(tmp_path, planes):
    from yaozarrs import validate_zarr_store

    store = StackStore(tmp_path / "out.ome.zarr")
    made_by = {"settings": {"steps": 3}}
    spacing = {"t": Spacing(1.0), "z": Spacing(0.5, 7, "micrometer"), "y": Spacing(0.1), "x": Spacing(0.2, -3, "ells")}
    store.create(planes, (6, 7), spacing, made_by)
    assert not store.path.exists()
    indices = list(np.ndindex(*planes.values()))
    for index in indices[:-1]:
        store[index] = VALUES[(0,) * (2 - len(planes))][index]
    again = StackStore(tmp_path / "out.ome.zarr")
    again.open()
    again[indices[-1]] = VALUES[(0,) * (2 - len(planes))][indices[-1]]
    again.publish()
    assert [p.name for p in tmp_path.iterdir()] == ["out.ome.zarr"]
    content = look_at(store.path)
    assert content.axes == (*planes, "y", "x", "rgb")
    for index in indices:
        np.testing.assert_array_equal(content.planes().read(index), VALUES[(0,) * (2 - len(planes))][index])
    opened = zarr.open(store.path, mode="r")
    assert opened.attrs["napari-neural-style"] == made_by
    if "channel" not in planes:
        validate_zarr_store(store.path)
        found = dict(zip(content.axes, content.spacing, strict=True))
        assert found["x"] == Spacing(0.2, -3)  # OME-Zarr knows no ells
        assert found.get("z", spacing["z"]) == spacing["z"]


def test_large_planes_get_smaller_copies(tmp_path):
    store = StackStore(tmp_path / "out.ome.zarr")
    store.create({"t": 1}, (600, 2000), {}, {})
    plane = np.zeros((600, 2000, 3), np.uint8)
    plane[:300] = 200
    store[0,] = plane
    store.publish()
    group = zarr.open(store.path, mode="r")
    assert [group[str(level)].shape for level in range(2)] == [(1, 3, 600, 2000), (1, 3, 300, 1000)]
    assert (group["1"][0, :, :150] == 200).all()
    assert (group["1"][0, :, 150:] == 0).all()


def test_frames_of_an_animation_are_planes(tmp_path):
    frames = [Image.fromarray(plane) for plane in VALUES[0]]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    content = look_at(tmp_path / "a.webp")
    assert content.shape == (5, 6, 7, 4)
    np.testing.assert_array_equal(content.planes().read((2,))[..., :3], VALUES[0, 2])


def test_one_image_is_one_image(tmp_path):
    Image.fromarray(VALUES[0, 0]).save(tmp_path / "a.png")
    write_tiff(tmp_path / "b.tif", VALUES[0, 0], photometric="rgb")
    Image.fromarray(VALUES[0, 0]).save(tmp_path / "c.bmp")
    for name in ("a.png", "b.tif", "c.bmp"):
        content = look_at(tmp_path / name)
        assert content.stacked == ()
        np.testing.assert_array_equal(content.planes().read(()), VALUES[0, 0])
    content = look_at(write_zarr(tmp_path / "d.zarr", VALUES[0, 0]))
    np.testing.assert_array_equal(content.planes().read(()), VALUES[0, 0])


def test_words_name_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/b.png", "in/a.jpg", "in/note.txt", "in/deep/c.png", "x[1].png", "in/._a.jpg"):
        (tmp_path / name).touch()
    write_zarr(tmp_path / "in" / "s.zarr", VALUES)
    write_zarr(tmp_path / "in" / ".s-oil.ome.zarr.part", VALUES)

    def names(*words):
        return [path.relative_to(tmp_path).as_posix() for path in find(words)]

    assert names("in") == ["in/a.jpg", "in/b.png", "in/s.zarr"]
    assert names("in/*.png", "in/b.png") == ["in/b.png"]
    assert names("**/*.png") == ["in/b.png", "in/deep/c.png", "x[1].png"]
    assert names("x[1].png", "in/s.zarr") == ["x[1].png", "in/s.zarr"]
    (tmp_path / "~photo.png").touch()
    assert names("~photo.png") == ["~photo.png"]
    for word in ("none.png", "in/*.gif", "~nobody/a.png"):
        with pytest.raises(ValueError, match="names no image"):
            find([word])


def test_other_folders_in_a_folder_are_passed_over(tmp_path, monkeypatch):
    for name in ("frames.gif", "lost+found"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.png").touch()
    is_file = Path.is_file

    def refused(path):  # root may look anywhere
        if path.parent.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    assert find([str(tmp_path)]) == [tmp_path / "a.png"]


def test_what_cannot_be_read_gets_a_sentence(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ValueError, match=r"ffmpeg -i a\.mp4"):
        look_at(tmp_path / "a.mp4")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 8, 9), np.uint8), photometric="minisblack")
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:8])
    with pytest.raises(ValueError, match="cannot be read"):
        look_at(tmp_path / "a.tif")
    for colors, shape, words in (("miniswhite", (3, 8, 9), "0 as white"), ("separated", (3, 8, 9, 4), "CMYK")):
        tifffile.imwrite(tmp_path / "colors.tif", np.zeros(shape, np.uint8), photometric=colors)
        with pytest.raises(ValueError, match=f"{words}. Save it as RGB"):
            look_at(tmp_path / "colors.tif")
    tifffile.imwrite(
        tmp_path / "colors.tif", np.zeros((3, 8, 9), np.uint8), photometric="palette", colormap=np.zeros((3, 256), "H")
    )
    with pytest.raises(ValueError, match=r"palette\. Save it as RGB"):
        look_at(tmp_path / "colors.tif")
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("pixels", data=VALUES)
    with pytest.raises(ValueError, match=r"one of its arrays \(pixels\)"):
        look_at(tmp_path / "g.zarr")
    assert look_at(tmp_path / "g.zarr" / "pixels").shape == VALUES.shape
    zarr.open_group(tmp_path / "converted.zarr", mode="w").create_group("0")  # as bioformats2raw arranges images
    with pytest.raises(ValueError, match=r"one of its groups \(0\)"):
        look_at(tmp_path / "converted.zarr")
    with pytest.raises(ValueError, match=r"not an OME-Zarr image, and empty\."):
        look_at(tmp_path / "converted.zarr" / "0")
    with pytest.raises(ValueError, match="an image has y and x"):
        look_at(write_zarr(tmp_path / "m.zarr", VALUES[0, ..., 0], ["t", "z", "y"]))
    with pytest.raises(ValueError, match="one axis"):
        look_at(write_zarr(tmp_path / "l.zarr", np.zeros(4)))
