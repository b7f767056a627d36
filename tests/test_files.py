from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageFile

from disks import room_for
from napari_neural_style import reading, whole
from napari_neural_style.contents import look_at
from napari_neural_style.engine.tensors import write_tensors
from napari_neural_style.files import check_writable, read_image, read_made_by, write_image
from napari_neural_style.stack_store import StackStore
from napari_neural_style.whole import own_part_of, whole_file

MADE_BY = {"settings": {"size": 32}, "sources": {"content": "Käse ×"}, "step": 3}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["out.png", "out.tif", "out.TIFF", "out.jpg", "with space und Ümlaut.png"])
def test_what_is_written_comes_back_with_what_made_it(tmp_path, image, name):
    path = tmp_path / name
    write_image(path, image, MADE_BY)
    back = read_image(path)
    assert back.shape == image.shape
    assert back.flags.writeable
    if not name.endswith("jpg"):
        np.testing.assert_array_equal(back, image)
    assert read_made_by(path) == MADE_BY
    assert [p.name for p in tmp_path.iterdir()] == [name]
    for other in ("called.png", "called.jpg", "called.tif"):
        path = path.rename(tmp_path / other)
        assert read_made_by(path) == MADE_BY


def test_nothing_half_written_stays(tmp_path, image):
    (tmp_path / "out.png").write_bytes(b"earlier")
    with room_for(500), pytest.raises(OSError, match="large"):
        write_image(tmp_path / "out.png", np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8), MADE_BY)
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_bytes() == b"earlier"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.gif", "must end in one of"),
        ("none/out.png", "no folder"),
        ("folder.png", "is a folder"),
        ("ü" * 123 + ".png", "too long"),
    ],
)
def test_where_nothing_can_be_written(tmp_path, name, words):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=words):
        check_writable(tmp_path / name)


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.tif", "out.ome.zarr"])
def test_only_rgb_of_eight_bits_is_written(tmp_path, image, name):
    for wrong in (image / 255, image.astype(np.uint16), image[..., 0], image[:0], image[..., [0, 1, 2, 0]], "picture"):
        with pytest.raises(ValueError, match=r"shape \(height, width, 3\) and dtype uint8, not"):
            write_image(tmp_path / name, wrong, MADE_BY)
    assert not list(tmp_path.iterdir())


def test_a_link_to_nowhere_is_told_before_the_run(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "gone" / "real.png")
    with pytest.raises(ValueError, match=r"There is no folder .*gone"):
        check_writable(tmp_path / "link.png")


def test_what_a_link_leads_to_is_replaced(tmp_path, image):
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    for picture in (image, image[::-1]):
        write_image(tmp_path / "link.png", picture, MADE_BY)
        np.testing.assert_array_equal(read_image(tmp_path / "real.png"), picture)
    assert (tmp_path / "link.png").is_symlink()


def test_the_longest_name_can_be_written(tmp_path, image):
    write_image(tmp_path / ("n" * 223 + ".png"), image, {})  # a process's number has up to ten digits


def test_two_processes_write_one_file(tmp_path, monkeypatch):
    path, nobody = tmp_path / "out.png", 2**31 - 1
    parts = [own_part_of(path)]
    for machine, number in (("here", os.getppid()), ("here", nobody), ("elsewhere", nobody), ("elsewhere", 1)):
        name = parts[0].name if machine == "here" else parts[0].name.replace(whole._MACHINE, f"{0:08x}")
        parts.append(path.with_name(name.replace(str(os.getpid()), str(number))))
        parts[-1].touch()
    os.utime(parts[-1], (0, 0))  # nobody has written to it for long
    path.with_name(parts[2].name.replace("out.png", "other\n.tif")).touch()
    with whole_file(path) as ours:
        ours.write_text("ours")
        monkeypatch.setattr(os, "getpid", lambda: nobody - 1)
        monkeypatch.setattr(Path, "glob", None)  # what takes a while in a folder of very many files is done once
        with whole_file(path) as theirs:
            theirs.write_text("theirs")
        assert path.read_text() == "theirs"
    assert path.read_text() == "ours"
    assert {path, parts[1], parts[3]} == set(tmp_path.iterdir())


def publish(path, image):
    store = StackStore(path)
    store.create({"t": 1}, image.shape[:2], {}, MADE_BY)
    store.publish()


WRITERS = {
    "image.png": lambda path, image: write_image(path, image, MADE_BY),
    "image.ome.zarr": lambda path, image: write_image(path, image, MADE_BY),
    "stack.ome.zarr": publish,
    "run.safetensors": lambda path, image: write_tensors(path, {"image": torch.from_numpy(image)}, {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_scanner_holds_for_a_moment_is_written_all_the_same(tmp_path, image, monkeypatch, name):
    """On Windows nothing that is open can be renamed."""
    replace, refusals = Path.replace, [PermissionError(13, "The process cannot access the file")] * 2

    def held(path, target):
        if Path(target).name == name and refusals:
            raise refusals.pop()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", held)
    monkeypatch.setattr(whole.sys, "platform", "win32")
    WRITERS[name](tmp_path / name, image)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    refusals += [PermissionError(13, "Access is denied")] * 1000
    monkeypatch.setattr(whole, "_HELD", 0.1)
    with pytest.raises(PermissionError):
        WRITERS[name](tmp_path / name, image)


def test_other_images_were_made_by_nothing_known(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "plain.png")
    tifffile.imwrite(tmp_path / "plain.tif", image)
    (tmp_path / "broken.png").write_bytes(b"x")
    for name in ("plain.png", "plain.tif", "broken.png", "absent.png"):
        assert read_made_by(tmp_path / name) is None


@pytest.mark.parametrize("name", ["ours.png", "ours.jpg", "ours.tif", "plain.png", "plain.jpg", "plain.tif"])
def test_what_made_an_image_is_read_without_its_pixels(tmp_path, monkeypatch, name):
    path = tmp_path / name
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    if name.startswith("ours"):
        write_image(path, image, MADE_BY)
    else:
        Image.fromarray(image).save(path)
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self))
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda self, *_, **__: decoded.append(self))
    assert read_made_by(path) == (MADE_BY if name.startswith("ours") else None)
    assert not decoded


def test_sixteen_bits(tmp_path):
    gray = np.random.default_rng(1).integers(0, 65536, (5, 7), dtype=np.uint16)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    tifffile.imwrite(tmp_path / "gray.tif", gray)
    tifffile.imwrite(tmp_path / "color.tif", np.stack([gray] * 3, -1), photometric="rgb")
    tifffile.imwrite(tmp_path / "planes.tif", np.stack([gray] * 3), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "one of each.tif", gray[None, None])
    tifffile.imwrite(tmp_path / "one color.tif", np.stack([gray] * 3, -1)[None], photometric="rgb")
    for name in ("gray.png", "gray.tif", "one of each.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name), gray)
    for name in ("color.tif", "planes.tif", "one color.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name), np.stack([gray] * 3, -1))


def test_a_tiff_that_is_packed_in_another_way(tmp_path, image):
    pages = [Image.fromarray(page) for page in (image, image[::-1])]
    pages[0].save(tmp_path / "one.tif", compression="tiff_lzw")
    pages[0].save(tmp_path / "two.tif", compression="tiff_lzw", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "one.tif"), image)
    np.testing.assert_array_equal(look_at(tmp_path / "two.tif").planes().read((1,)), image[::-1])


def test_large_images_are_read_unless_they_are_tiny_files(tmp_path, image, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6 * 9 - 1)  # Pillow warns above it, and refuses above twice as many
    monkeypatch.setattr(reading, "_LARGE", 100)
    for name in ("a.png", "a.jpg", "a.tif"):
        Image.fromarray(image).save(tmp_path / name)
        assert read_image(tmp_path / name).shape == image.shape
        np.testing.assert_array_equal(look_at(tmp_path / name).planes().read(()), read_image(tmp_path / name))
        monkeypatch.setattr(reading, "_MOST_PACKED", 0.01)
        with pytest.raises(ValueError, match=rf"{name}' unpacks to more pixels .*\(6, 9, 3\) out of"):
            read_image(tmp_path / name)
        monkeypatch.setattr(reading, "_MOST_PACKED", 1100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6 * 9 / 2 - 1)
    for read in (read_image, look_at):
        with pytest.raises(ValueError, match=r"more pixels than are read .* as a TIFF"):
            read(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)


@pytest.mark.parametrize(("mode", "key"), [("RGB", (1, 2, 3)), ("L", 1), ("1", 255), ("P", 0)])
def test_one_colour_of_a_png_can_be_see_through(tmp_path, image, mode, key):
    picture = Image.fromarray(image).convert(mode)
    picture.putpixel((2, 3), key)
    picture.save(tmp_path / "key.png", transparency=key)
    found = read_image(tmp_path / "key.png")
    np.testing.assert_array_equal(found[..., :3], np.asarray(picture.convert("RGB")))
    alike = (found[..., :3] == found[3, 2, :3]).all(-1)
    np.testing.assert_array_equal(found[..., 3], np.where(alike, 0, 255))


@pytest.mark.parametrize("planar", [False, True])
def test_grey_and_alpha_of_a_tiff(tmp_path, image, planar):
    gray, alpha = image[..., 0], image[..., 1]
    tifffile.imwrite(
        tmp_path / "la.tif",
        np.stack([gray, alpha], 0 if planar else -1),
        photometric="minisblack",
        extrasamples=["unassalpha"],
        planarconfig="separate" if planar else "contig",
    )
    expected = np.dstack([gray, gray, gray, alpha])
    np.testing.assert_array_equal(read_image(tmp_path / "la.tif"), expected)
    np.testing.assert_array_equal(look_at(tmp_path / "la.tif").planes().read(()), expected)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32])
def test_colours_that_were_multiplied_with_alpha(tmp_path, kind):
    full = 1 if kind is np.float32 else np.iinfo(kind).max
    seen = np.full((4, 5, 3), (0.8, 0.4, 0.2)) * full
    alpha = np.linspace(0, 1, 20).reshape(4, 5, 1)
    stored = np.dstack([seen * alpha, alpha * full]).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    back = read_image(tmp_path / "a.tif")
    assert back.dtype == kind
    np.testing.assert_array_equal(back[..., 3], stored[..., 3])
    np.testing.assert_allclose(back[alpha[..., 0] > 0.5, :3] / full, [[0.8, 0.4, 0.2]] * 10, atol=0.01)
    assert not back[0, 0].any()
    tifffile.imwrite(tmp_path / "s.tif", np.stack([stored] * 2), photometric="rgb", extrasamples=["assocalpha"])
    with pytest.raises(ValueError, match="multiplied with its alpha"):
        look_at(tmp_path / "s.tif")


def test_multiplied_colours_above_their_alpha_are_full(tmp_path):
    stored = np.array([[[128, 127, 64, 127]]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), [[[255, 255, 129, 127]]])


def test_alpha_beside_other_colours(tmp_path, image):
    """It is taken off before a profile's colours are changed, and is not turned over with grey."""
    alpha = np.full((6, 9, 1), 128, np.uint8)
    image //= 2
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = srgb.replace(b"bXYZ", b"????").replace(b"wtpt", b"bXYZ").replace(b"????", b"wtpt")  # its blue is white
    for kind, color in (("unassalpha", image), ("assocalpha", (image * (alpha / 255)).round().astype(np.uint8))):
        pixels = np.dstack([color, alpha])
        tifffile.imwrite(tmp_path / f"{kind}.tif", pixels, photometric="rgb", extrasamples=[kind], iccprofile=profile)
    found = [read_image(tmp_path / f"{kind}.tif").astype(int) for kind in ("unassalpha", "assocalpha")]
    np.testing.assert_allclose(*found, atol=3)
    white = np.dstack([image[..., 0], np.full((6, 9), 255, np.uint8)])
    kept = {"photometric": "miniswhite", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "w.tif", white, **kept)
    seen = read_image(tmp_path / "w.tif")
    np.testing.assert_array_equal(seen[..., 3], 255)
    np.testing.assert_array_equal(seen[..., 0], 255 - image[..., 0])


def test_a_fourth_channel_that_is_no_alpha_hides_nothing(tmp_path, image):
    """Near infrared, or a selection that Photoshop kept."""
    other = np.dstack([image, np.zeros(image.shape[:2], np.uint8)])
    tifffile.imwrite(tmp_path / "n.tif", other, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_image(tmp_path / "n.tif"), image)
    tifffile.imwrite(tmp_path / "s.tif", np.stack([other] * 2), photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(ValueError, match="not said to be alpha"):
        look_at(tmp_path / "s.tif")


def test_a_palette_and_alpha_of_a_tiff(tmp_path, image):
    """As GIMP writes indexed pictures with alpha."""
    picture = Image.fromarray(image).convert("RGB").quantize(16)
    picture.putalpha(Image.fromarray(image[..., 0]))
    assert picture.mode == "PA"
    picture.save(tmp_path / "pa.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "pa.tif") >> 8, np.asarray(picture.convert("RGBA")))


def test_ycbcr_of_a_tiff(tmp_path, image):
    for packed in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"):
        Image.fromarray(image).convert("YCbCr").save(tmp_path / "y.tif", compression=packed)
        np.testing.assert_allclose(read_image(tmp_path / "y.tif"), image, atol=3)
    stack = np.stack([image, image])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="ycbcr")
    with pytest.raises(ValueError, match="Its colours are YCbCr"):
        look_at(tmp_path / "stack.tif")


def test_another_image_that_is_called_a_tiff(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "x.tif", format="PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), image)
    assert not look_at(tmp_path / "x.tif").stacked


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_tiff_that_is_called_otherwise(tmp_path, image, order, bigtiff):
    """Microscopes call theirs .lsm and .stk."""
    tifffile.imwrite(tmp_path / "x.lsm", image[..., 0], byteorder=order, bigtiff=bigtiff)
    np.testing.assert_array_equal(read_image(tmp_path / "x.lsm"), image[..., 0])
    planes = np.moveaxis(image, -1, 0)
    tifffile.imwrite(tmp_path / "s.stk", planes, byteorder=order, bigtiff=bigtiff, photometric="minisblack")
    with pytest.raises(ValueError, match="holds a stack"):
        read_image(tmp_path / "s.stk")
    stack = look_at(tmp_path / "s.stk")
    assert stack.stacked == (0,)
    np.testing.assert_array_equal(stack.planes().read((2,)), planes[2])


def test_of_a_telephones_two_pictures_in_one_file_the_first_is_read(tmp_path, image):
    first = Image.fromarray(image)
    first.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[first.transpose(Image.ROTATE_180)])
    with Image.open(tmp_path / "x.jpg") as opened:
        assert opened.n_frames == 2
        np.testing.assert_array_equal(read_image(tmp_path / "x.jpg"), np.asarray(opened))
    assert not look_at(tmp_path / "x.jpg").stacked


def test_alpha_and_palette(tmp_path, image):
    rgba = np.dstack([image, np.full(image.shape[:2], 7, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), rgba)
    Image.fromarray(image).convert("P").save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").shape == image.shape
    Image.fromarray(image[..., 0]).convert("LA").save(tmp_path / "la.png")
    assert read_image(tmp_path / "la.png").shape == (*image.shape[:2], 4)


@pytest.mark.parametrize(("bits", "kind"), [(4, np.uint8), (12, np.uint16)])
def test_numbers_of_few_bits_have_their_own_range(tmp_path, bits, kind):
    most, full = 2**bits - 1, np.iinfo(kind).max
    values = np.array([[0, most, 1, most // 3]], kind)
    for white, seen in (("minisblack", values), ("miniswhite", most - values)):
        try:
            tifffile.imwrite(tmp_path / f"{white}.tif", values, photometric=white, bitspersample=bits)
        except NotImplementedError:
            pytest.skip("this imagecodecs reads such files, but writes none")
        np.testing.assert_allclose(read_image(tmp_path / f"{white}.tif") / full, seen / most, atol=1 / full)


def test_colours_as_they_are_seen(tmp_path, image):
    """Other ways to store colours than RGB give what Pillow shows of them, or a sentence."""
    cmyk = Image.fromarray(image).convert("CMYK")
    cmyk.save(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "cmyk.tif"), np.asarray(cmyk.convert("RGB")))
    deep = np.asarray(cmyk).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="separated")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif"), np.asarray(cmyk.convert("RGB")))
    gray = image[..., 0]
    tifffile.imwrite(tmp_path / "white.tif", 255 - gray, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "white.tif"), gray)
    tifffile.imwrite(tmp_path / "lab.tif", image, photometric="cielab")
    with pytest.raises(ValueError, match=r"lab\.tif.*CIELAB. Save it as RGB"):
        read_image(tmp_path / "lab.tif")
    deep = gray.astype(np.uint16) * 256 + 1
    (tmp_path / "deep.pgm").write_bytes(b"P5 9 6 65535\n" + deep.astype(">u2").tobytes())
    found = read_image(tmp_path / "deep.pgm")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, deep)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_colours_of_a_profile_become_those_that_are_seen(tmp_path, suffix):
    """The profile has the primaries of sRGB, but what is called red is green."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    seen = np.zeros((16, 16, 4), np.uint8)
    seen[:, :8], seen[:, 8:] = (200, 30, 90, 255), (10, 120, 250, 80)
    if suffix == "jpg":
        seen = seen[..., :3]
    stored = seen.copy()
    stored[..., :2] = seen[..., 1::-1]
    exact = {"webp": {"lossless": True, "exact": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})

    def read(profile: bytes) -> np.ndarray:
        Image.fromarray(stored).save(tmp_path / f"image.{suffix}", icc_profile=profile, **exact)
        return read_image(tmp_path / f"image.{suffix}")

    as_stored = read(b"")
    np.testing.assert_array_equal(read(srgb), as_stored)
    np.testing.assert_array_equal(read(b"no profile"), as_stored)
    found = read(swapped)
    assert found.shape == seen.shape
    np.testing.assert_allclose(found.astype(int), seen, atol=12 if suffix == "jpg" else 2)
    if suffix == "tif":
        deep = stored.astype(np.uint16) * 257
        for profile, expected in ((swapped, found), (srgb, deep)):
            tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb", extrasamples=[2], iccprofile=profile)
            np.testing.assert_array_equal(read_image(tmp_path / "deep.tif"), expected)


def test_a_picture_is_kept_where_a_jpeg_cannot_hold_what_made_it(tmp_path, image):
    long = {"settings": {"changes": {str(step): {"style_weight": 16.0 + step} for step in range(3000)}}}
    with pytest.warns(UserWarning, match="too long for a JPEG"):
        write_image(tmp_path / "long.jpg", image, long)
    assert read_image(tmp_path / "long.jpg").shape == image.shape
    assert read_made_by(tmp_path / "long.jpg") is None


def test_images_of_a_tiff_that_are_left_out_are_told(tmp_path, image):
    with tifffile.TiffWriter(tmp_path / "scan.tif") as file:
        for rows, kind in ((6, 0), (6, 0), (5, 0), (4, 0), (3, 1)):  # the last is a smaller copy
            file.write(image[:rows], photometric="rgb", subfiletype=kind, metadata=None)
    with pytest.warns(UserWarning, match=r"scan\.tif' also holds 2 other images: save each as a file of its own"):
        assert look_at(tmp_path / "scan.tif").shape[0] == 2
    with tifffile.TiffWriter(tmp_path / "slide.svs") as file:
        for side, tile in ((image.shape[0], (16, 16)), (4, None)):  # the second is a thumbnail
            file.write(image[:side], photometric="rgb", tile=tile, description="Aperio Image Library", metadata=None)
    assert read_image(tmp_path / "slide.svs").shape == image.shape


def test_a_tiff_of_which_only_the_beginning_is_left(tmp_path):
    (tmp_path / "cut.tif").write_bytes(b"II*\0\x08\0\0\0")
    for read in (read_image, look_at):
        with pytest.raises(ValueError, match=r"cannot be read: there is no image in it\. Copy the file again"):
            read(tmp_path / "cut.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation(tmp_path, orientation, suffix):
    """Both readers agree with Pillow on how an oriented picture is seen."""
    picture = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "seen.png", exif=exif)
    expected = read_image(tmp_path / "seen.png")
    assert expected.shape == ((4, 6) if orientation < 5 else (6, 4))
    if suffix == "tif":
        tifffile.imwrite(tmp_path / "seen.tif", picture, extratags=[("Orientation", "H", 1, orientation, True)])
        np.testing.assert_array_equal(read_image(tmp_path / "seen.tif"), expected)
        colors = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256)
        tifffile.imwrite(
            tmp_path / "palette.tif",
            picture,
            photometric="palette",
            colormap=colors,
            extratags=[("Orientation", "H", 1, orientation, True)],
        )
        np.testing.assert_array_equal(read_image(tmp_path / "palette.tif"), np.moveaxis(colors[:, expected], 0, -1))
        cmyk = Image.fromarray(picture).convert("CMYK")
        cmyk.save(tmp_path / "cmyk.tif", tiffinfo={0x0112: orientation})
        np.testing.assert_array_equal(read_image(tmp_path / "cmyk.tif"), np.stack([expected] * 3, -1))


@pytest.mark.parametrize(
    "name", ["text.png", "text.tif", "cut.png", "cut.tif", "empty.jpg", "absent.png", "stack.tif", "moving.gif"]
)
def test_what_is_no_image_gets_a_sentence(tmp_path, image, name):
    path = tmp_path / name
    if name == "stack.tif":
        tifffile.imwrite(path, np.zeros((5, 6, 7), np.uint8), photometric="minisblack")
    elif name == "moving.gif":
        Image.fromarray(image).save(path, save_all=True, append_images=[Image.fromarray(image[::-1])])
    elif name.startswith("cut"):
        write_image(path, np.random.default_rng(2).integers(0, 256, (90, 90, 3), dtype=np.uint8), {})
        path.write_bytes(path.read_bytes()[:2000])
    elif name != "absent.png":
        path.write_bytes(b"" if name == "empty.jpg" else b"no image at all")
    with pytest.raises(ValueError, match=name):
        read_image(path)
