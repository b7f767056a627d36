"""One image as OME-Zarr: written, and read at the level of resolution that it is used at."""

from __future__ import annotations

import os

import numpy as np
import pytest
import zarr
from PIL import Image
from yaozarrs import validate_zarr_store

from napari_neural_style.batch import Batch
from napari_neural_style.cli import main
from napari_neural_style.contents import look_at
from napari_neural_style.files import check_writable, read_image, read_made_by, write_image
from napari_neural_style.whole import _remove_abandoned, own_part_of, whole_folder
from napari_neural_style.workers import Here
from napari_neural_style.zarr_images import Spacing
from test_batch_cli import QUICK

MADE_BY = {"settings": {"size": 64}, "step": 3}
RANDOM = np.random.default_rng(0)


@pytest.fixture
def files(tmp_path, pair, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, image in (("cat.png", pair[0][:64, :96]), ("oil.png", pair[1])):
        Image.fromarray(image).save(tmp_path / name)
    return tmp_path


def write_pyramid(path, pixels, pixel=(0.5, 0.25), channels="c"):
    """Write an image (H, W, 3) of two levels, halves by leaving out every other pixel, each of its own colours."""
    group = zarr.open_group(path, mode="w")
    levels = [pixels, 255 - pixels[::2, ::2]]
    datasets = []
    for number, level in enumerate(levels):
        group.create_array(str(number), data=np.moveaxis(level, -1, 0) if channels else level[..., 0])
        scale = [*([1.0] if channels else []), pixel[0] * 2**number, pixel[1] * 2**number]
        # The first pixel's centre: of the coarser level it lies half a pixel of the finer one further.
        first = [*([0.0] if channels else []), 10 + pixel[0] * number / 2, -20 + pixel[1] * number / 2]
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": first}]
        datasets.append({"path": str(number), "coordinateTransformations": transforms})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    axes = [{"name": "c", "type": "channel"}, *axes] if channels else axes
    colors = [{"color": color} for color in ("FF0000", "00FF00", "0000FF")]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": datasets}],
        **({"omero": {"channels": colors}} if channels else {}),
    }
    return path


def stylize(*arguments):
    return main(["stylize", *arguments, *QUICK])


def test_a_result_is_the_same_as_png_and_as_ome_zarr(files, capsys):
    assert stylize("cat.png", "oil.png", "-o", "out.png") == 0
    assert stylize("cat.png", "oil.png", "-o", "out.ome.zarr") == 0
    assert "Wrote out.ome.zarr" in capsys.readouterr().out
    assert sorted(path.name for path in files.iterdir()) == ["cat.png", "oil.png", "out.ome.zarr", "out.png"]
    np.testing.assert_array_equal(read_image("out.ome.zarr"), read_image("out.png"))
    assert read_made_by("out.ome.zarr") == read_made_by("out.png")
    validate_zarr_store("out.ome.zarr")
    # It lies on its content: 32 pixels across 96 of the content's.
    down, across, _ = look_at(files / "out.ome.zarr").spacing
    assert (down.pixel, down.origin) == pytest.approx((64 / 21, (64 / 21 - 1) / 2))
    assert across == (3, 1, None)
    # An earlier result is replaced, as a file is.
    assert main(["stylize", "cat.png", "oil.png", "-o", "out.ome.zarr", *QUICK, "--steps", "1"]) == 0
    assert read_made_by("out.ome.zarr")["step"] == 1
    assert not list(files.glob(".*"))


def test_a_large_result_has_smaller_levels(tmp_path):
    image = np.repeat(np.arange(3000, dtype=np.uint8)[:, None, None], 20, 1) + np.zeros(3, np.uint8)
    spacing = {"y": Spacing(0.5, 3, "micrometer"), "x": Spacing(2)}
    write_image(tmp_path / "a.ome.zarr", image, MADE_BY, spacing=spacing)
    group = zarr.open(tmp_path / "a.ome.zarr", mode="r")
    assert [group[str(level)].shape for level in range(3)] == [(3, 3000, 20), (3, 1500, 10), (3, 750, 5)]
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.zarr"), image)
    for size in (3000, 1501, 1500, 750, 40):
        found = read_image(tmp_path / "a.ome.zarr", lambda shape, size=size: (size, shape[1] * size // shape[0]))
        assert found.shape[0] == {1501: 3000, 40: 750}.get(size, size)
    content = look_at(tmp_path / "a.ome.zarr", lambda shape: (750, 5))
    assert content.spacing[:2] == (Spacing(2, 3.75, "micrometer"), Spacing(8, 3))
    assert covered(content) == covered(look_at(tmp_path / "a.ome.zarr")) == [(2.75, 1502.75), (-1, 39)]


def test_levels_of_a_line_are_lines(tmp_path):
    write_image(tmp_path / "a.ome.zarr", RANDOM.integers(0, 255, (1, 2100, 3), dtype=np.uint8), MADE_BY)
    group = zarr.open_group(tmp_path / "a.ome.zarr")
    assert [group[name].shape for name in "012"] == [(3, 1, 2100), (3, 1, 1050), (3, 1, 525)]


@pytest.mark.parametrize("channels", ["c", ""])
def test_small_sizes_are_made_from_coarse_levels(files, pair, channels):
    pixels = pair[0][:65, :97]  # an odd side: the halves are of 33 × 49
    write_pyramid("cat.ome.zarr", pixels, channels=channels)
    coarse = 255 - pixels[::2, ::2]
    fine = pixels
    if not channels:
        coarse, fine = coarse[..., 0], fine[..., 0]
    for name, size, expected in (("small", "40", coarse), ("large", "56", fine), ("whole", "97", fine)):
        Image.fromarray(expected).save(f"{name}.png")
        assert main(["stylize", "cat.ome.zarr", "oil.png", "-o", "a.ome.zarr", *QUICK, "--size", size]) == 0
        assert main(["stylize", f"{name}.png", "oil.png", "-o", "b.png", *QUICK, "--size", size]) == 0
        result = read_image("a.ome.zarr")
        np.testing.assert_array_equal(result, read_image("b.png"))
        # Whichever level was read, the result covers the whole image.
        found = look_at(files / "a.ome.zarr")
        np.testing.assert_allclose(covered(found), [(9.75, 9.75 + 65 * 0.5), (-20.125, -20.125 + 97 * 0.25)])
        assert found.spacing[0].unit == "micrometer"
        batch = Batch([files / "oil.png"], _settings("a.ome.zarr"))
        folder = files / name
        folder.mkdir()
        batch.plan([files / "cat.ome.zarr"], folder)
        (outcome,) = batch.run(Here())
        assert outcome.written == folder / "cat-oil.png"
        np.testing.assert_array_equal(read_image(outcome.written), result)


def test_transformations_of_all_levels_are_applied_after_each_ones_own(files, pair):
    write_pyramid("cat.ome.zarr", pair[0])
    group = zarr.open_group("cat.ome.zarr")
    ome = group.attrs["ome"]
    ome["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [1, 2, 4]},
        {"type": "translation", "translation": [0, 100, 0]},
    ]
    group.attrs["ome"] = ome
    down, across, _ = look_at(files / "cat.ome.zarr").spacing
    assert (down, across) == ((1.0, 120.0, "micrometer"), (1.0, -80.0, "micrometer"))


def test_three_channels_are_rgb_if_they_have_its_colours_and_8_bits(tmp_path, pair):
    write_pyramid(tmp_path / "8.ome.zarr", pair[0])
    group = zarr.open_group(tmp_path / "8.ome.zarr")
    ome = group.attrs["ome"]
    ome["omero"]["channels"] = [{"color": channel["color"].lower()} for channel in ome["omero"]["channels"]]
    group.attrs["ome"] = ome
    assert look_at(tmp_path / "8.ome.zarr").axes == ("y", "x", "rgb")
    write_pyramid(tmp_path / "16.ome.zarr", pair[0].astype(np.uint16))
    assert look_at(tmp_path / "16.ome.zarr").axes == ("channel", "y", "x")


@pytest.mark.parametrize(("version", "named"), [("0.3", {"axes": list("tczyx")}), ("0.2", {})])
def test_versions_whose_axes_are_names_alone(tmp_path, version, named):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=RANDOM.integers(0, 255, (2, 1, 3, 8, 9), np.uint8))
    group.attrs["multiscales"] = [{"version": version, "datasets": [{"path": "0"}], **named}]
    content = look_at(tmp_path / "a.zarr")
    assert (content.axes, content.shape) == (("t", "channel", "z", "y", "x"), (2, 1, 3, 8, 9))


def test_a_level_with_fewer_planes_is_passed_over(tmp_path):
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w")
    for number, shape in enumerate([(4, 64, 96), (4, 32, 48), (2, 16, 24)]):
        group.create_array(str(number), shape=shape, dtype="uint8")
    datasets = [{"path": str(number)} for number in range(3)]
    group.attrs["ome"] = {"multiscales": [{"axes": [{"name": name} for name in "zyx"], "datasets": datasets}]}
    assert look_at(tmp_path / "a.ome.zarr", lambda _: (8, 12)).shape == (4, 32, 48)


def covered(content):
    """Return where planes begin and end, down and across."""
    ends = []
    for name in "yx":
        axis = content.axes.index(name)
        pixel, origin, _ = content.spacing[axis]
        ends.append((origin - pixel / 2, origin + pixel * (content.shape[axis] - 0.5)))
    return ends


def _settings(path):
    from napari_neural_style.command import settings_of

    return settings_of(read_made_by(path))


def test_zarr_is_a_style_and_a_start_too(files, pair):
    zarr.create_array("oil.zarr", data=pair[1])
    write_pyramid("first.ome.zarr", pair[0][:64, :96][::-1])
    assert stylize("cat.png", "oil.png", "-o", "a.png") == 0
    assert stylize("cat.png", "oil.zarr", "-o", "b.png") == 0
    np.testing.assert_array_equal(read_image("a.png"), read_image("b.png"))
    Image.fromarray(255 - pair[0][:64, :96][::-1][::2, ::2]).save("first.png")
    assert stylize("cat.png", "oil.png", "-o", "a.png", "--start-from", "first.png") == 0
    assert read_made_by("a.png")["sources"]["initial"] == "first.png"
    assert stylize("cat.png", "oil.png", "-o", "b.png", "--start-from", "first.ome.zarr") == 0
    np.testing.assert_array_equal(read_image("a.png"), read_image("b.png"))
    batch = ["batch", "cat.png", "--style", "oil.zarr", "-o", "out", *QUICK]
    assert main(batch) == main(batch) == 0
    np.testing.assert_array_equal(read_image("out/cat-oil.png"), read_image("out/cat-oil.png"))
    zarr.create_array("oil.zarr", data=pair[1][::-1], overwrite=True)
    assert main(batch) == 2


def test_a_name_for_the_result_of_a_zarr(files, pair):
    zarr.create_array("gray.zarr", data=pair[0][:40, :48, 0].astype(np.uint16) * 257)
    assert stylize("gray.zarr", "oil.png") == 0
    write_pyramid("cat.ome.zarr", pair[0][:64, :96])
    assert stylize("cat.ome.zarr", "oil.png") == 0
    assert {"gray-stylized.png", "cat-stylized.png"} <= {path.name for path in files.iterdir()}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is a folder, and no Zarr array"),
        (lambda path: zarr.create_array(path, data=np.zeros((5, 40, 40), np.uint8)), "is a stack of shape (5, 40, 40)"),
        (lambda path: zarr.create_array(path, data=np.zeros(40, np.uint8)), "one axis"),
        (lambda path: zarr.create_array(path, data=np.zeros((0, 40), np.uint8)), "empty"),
        (lambda path: zarr.create_array(path, data=np.full((40, 40), np.nan)), "NaN"),
        (lambda path: zarr.create_array(path, data=np.zeros((40, 40), complex)), "dtype complex"),
        (lambda path: zarr.create_array(path, shape=(10**9, 10**9), dtype="u1", chunks=(100, 100)), "cannot be read"),
        (lambda path: zarr.open_group(path).create_array("a", data=np.zeros((4, 4))), "one of its arrays (a)"),
        (lambda path: (path.mkdir(), (path / "zarr.json").write_text("{")), "cannot be read"),
    ],
)
def test_what_is_no_image_gets_one_sentence(files, capsys, make, words):
    make(files / "odd.ome.zarr")
    for pictures in (["odd.ome.zarr", "oil.png"], ["cat.png", "odd.ome.zarr"]):
        assert stylize(*pictures, "-o", "out.png") == 2
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error
    assert not (files / "out.png").exists()


def test_damaged_levels_and_chunks_get_a_sentence(files, pair, capsys):
    write_pyramid("cat.ome.zarr", pair[0][:64, :96])
    (files / "cat.ome.zarr" / "1" / "zarr.json").write_text("{}")
    assert stylize("cat.ome.zarr", "oil.png", "-o", "out.png") == 2
    assert "cannot be read" in capsys.readouterr().err
    write_pyramid("cat.ome.zarr", pair[0][:64, :96])
    for chunk in (files / "cat.ome.zarr" / "1" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    assert stylize("cat.ome.zarr", "oil.png", "-o", "out.png") == 2
    error = capsys.readouterr().err
    assert "'cat.ome.zarr' cannot be read" in error
    assert "Traceback" not in error


def test_what_is_not_ours_is_not_replaced(files, pair, capsys):
    (files / "file.ome.zarr").write_bytes(b"mine")
    (files / "folder.ome.zarr").mkdir()
    write_pyramid("other.ome.zarr", pair[0][:64, :96])
    for name in ("file", "folder", "other"):
        assert stylize("cat.png", "oil.png", "-o", f"{name}.ome.zarr") == 2
        assert "was not made by napari-neural-style: choose another name" in capsys.readouterr().err
    assert (files / "file.ome.zarr").read_bytes() == b"mine"
    assert look_at(files / "other.ome.zarr").shape == (64, 96, 3)
    with pytest.raises(ValueError, match="must end in one of"):
        check_writable("out.zarr")


def test_it_appears_whole_or_not_at_all(tmp_path):
    image = RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    path = tmp_path / "out.ome.zarr"
    with pytest.raises(TypeError):
        write_image(path, image, {"settings": object()})
    assert not list(tmp_path.iterdir())
    write_image(path, image, MADE_BY)
    with pytest.raises(TypeError):
        write_image(path, 255 - image, {"settings": object()})
    assert [each.name for each in tmp_path.iterdir()] == ["out.ome.zarr"]
    np.testing.assert_array_equal(read_image(path), image)
    # What a killed process left in the middle of the exchange is put in order.
    path.rename(tmp_path / ".out.ome.zarr.old")
    part = own_part_of(path)
    part.with_name(part.name.replace(str(os.getpid()), str(2**31 - 1))).mkdir()
    _remove_abandoned.cache_clear()  # as in the next process
    with pytest.raises(RuntimeError), whole_folder(path):
        raise RuntimeError
    np.testing.assert_array_equal(read_image(path), image)
    assert [each.name for each in tmp_path.iterdir()] == ["out.ome.zarr"]


def test_what_a_link_leads_to_is_replaced(tmp_path):
    image = RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    (tmp_path / "there").mkdir()
    write_image(tmp_path / "there" / "a.ome.zarr", image, MADE_BY)
    try:
        (tmp_path / "link.ome.zarr").symlink_to(tmp_path / "there" / "a.ome.zarr", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    write_image(tmp_path / "link.ome.zarr", 255 - image, MADE_BY)
    assert (tmp_path / "link.ome.zarr").is_symlink()
    np.testing.assert_array_equal(read_image(tmp_path / "there" / "a.ome.zarr"), 255 - image)
