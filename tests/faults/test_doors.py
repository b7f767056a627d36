"""Whatever comes in at the doors works or gets one sentence: images, settings, files, layers, the command line."""

from __future__ import annotations

import dataclasses
import json
import pickle
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from safetensors.torch import save_file

from counts import cases, count
from napari_neural_style import StyleSettings, stylize
from napari_neural_style.cli import main
from napari_neural_style.command import command_of
from napari_neural_style.contents import look_at
from napari_neural_style.engine.snapshot import read_snapshot, write_snapshot
from napari_neural_style.engine.weights import features_from_file
from napari_neural_style.files import read_image, read_made_by, write_image
from napari_neural_style.settings import LAYERS, SETTINGS
from napari_neural_style.settings_text import from_text
from test_settings import SETTINGS_OF_ANY_KIND

ALL_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def many(few: int, soak: int) -> settings:
    return settings(max_examples=cases(few, soak), deadline=None, suppress_health_check=ALL_CHECKS)


def works_or_one_sentence(what: str, call: Callable[[], Any]) -> Any:
    """Return what a call returns, or None where it says in one sentence why it does nothing."""
    count(what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    except (ValueError, OSError) as error:
        words = str(error)
        assert 10 < len(words) < 1500, words
        assert "Traceback" not in words
        return None


SIDES = st.sampled_from([0, 1, 2, 15, 16, 17, 40])
PLAIN = st.tuples(SIDES, SIDES) | st.sampled_from([(3000, 20), (20, 3000)])
SHAPES = st.one_of(
    PLAIN,
    st.tuples(PLAIN, st.integers(1, 5)).map(lambda pair: (*pair[0], pair[1])),
    st.sampled_from([(), (0,), (7,), (2, 16, 16, 3), (0, 0, 0)]),
)
DTYPES = st.sampled_from(
    ["?", "i1", "u1", "i2", "u2", ">u2", "i4", "u4", "i8", "u8", "f2", "f4", ">f4", "f8", "g", "c8", "c16", "O",
     "m8[s]", "M8[D]", "U3", "S3"]
)  # fmt: skip
FILLS = st.sampled_from(["random", "zero", "lowest", "highest", "negative", "huge", "one NaN", "NaN", "inf", "clear"])


def filled(shape: tuple[int, ...], dtype: str, fill: str, seed: int) -> np.ndarray:
    """Return an array of any kind, quickly."""
    random = np.random.default_rng(seed)
    with np.errstate(all="ignore"), suppress(TypeError, ValueError):
        kind = np.dtype(dtype)
        array = (random.random(shape) * (1 if kind.kind in "fc" else 127)).astype(kind)
        if kind.kind in "iuf" and array.size:
            ends = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
            if fill in ("lowest", "highest"):
                array[...] = ends.min if fill == "lowest" else ends.max
            if fill == "huge":
                array.flat[0], array.flat[-1] = ends.min, ends.max
            if fill == "negative":
                array = array - array.max()
            if fill in ("one NaN", "NaN", "inf") and kind.kind == "f":
                array.flat[0 if fill == "one NaN" else slice(None)] = np.inf if fill == "inf" else np.nan
        if fill == "clear" and array.ndim == 3:
            array[..., 3:] = 0
        return np.zeros_like(array) if fill == "zero" else array
    return np.zeros(shape, dtype)


IMAGES = st.builds(filled, SHAPES, DTYPES, FILLS, st.integers(0, 9))
GOOD_IMAGES = st.builds(
    filled,
    st.sampled_from([(16, 17), (40, 40, 3), (17, 40, 4), (40, 16, 1)]),
    st.sampled_from(["?", "i1", "u2", "i8", "u8", "f2", "f8"]),
    st.sampled_from(["random", "zero", "lowest", "highest", "negative"]),
    st.integers(0, 9),
)
RANGES = st.none() | st.tuples(st.floats(), st.floats())


@given(IMAGES, GOOD_IMAGES, IMAGES | st.none(), RANGES, st.booleans())
@many(500, 40_000)
def test_images(quick, odd, good, third, value_range, swapped):
    """Any array as content, style, start or regions."""
    content, style = (good, odd) if swapped else (odd, good)
    given_ = {"value_range": value_range}
    if third is not None:
        given_["initial" if swapped else "content_regions"] = third
    works_or_one_sentence("arrays as images", lambda: stylize(content, style, quick, **given_))


@given(GOOD_IMAGES, GOOD_IMAGES, SETTINGS_OF_ANY_KIND)
@many(30, 3000)
def test_one_step_with_any_settings(quick, content, style, values):
    """Odd but possible images and any settings: the first picture is finite and in its range."""
    used = {"size", "tile", "scales", "steps", "features", "device", "content_layers", "style_layers", "mode"}
    plain = {name: value for name, value in values.items() if name not in used}
    tried = dataclasses.replace(quick, size=32, **plain)

    def first():
        return next(iter(stylize(content, style, tried)))

    with suppress(ArithmeticError):  # weights of 1e9 may be too much for bfloat16: it says so
        step = works_or_one_sentence("first steps", first)
        if step is not None and step.image is not None:
            assert np.isfinite(step.image).all()
            assert 0 <= step.image.min() <= step.image.max() <= 1


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(list(LAYERS))
    | st.binary(max_size=3) | st.just(10**400) | st.builds(complex) | st.just(np.float32(3)) | st.just(Path("x"))
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=2) | st.tuples(inner, inner),
    max_leaves=4,
)
NAMES = st.sampled_from(list(SETTINGS))


@given(st.dictionaries(NAMES | st.text(max_size=4), ANYTHING, min_size=1, max_size=3))
@many(500, 30_000)
def test_settings(values):
    """Out of range, contradictory, of the wrong type, or of a newer version; what is taken can be kept as JSON."""
    found = works_or_one_sentence("settings", lambda: StyleSettings.from_dict(values))
    if found is not None:
        assert StyleSettings.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@given(NAMES, st.text(max_size=12) | st.text("0123456789.x:;,=-+einfaconv_1 ", max_size=14))
@many(300, 10_000)
def test_typed_settings(name, text):
    works_or_one_sentence("settings as text", lambda: StyleSettings(**{name: from_text(name, text)}))


@given(st.dictionaries(st.sampled_from(["settings", "versions", "step", "sources"]), ANYTHING), SETTINGS_OF_ANY_KIND)
@many(150, 5000)
def test_provenance(made_by, values):
    made_by = {"settings": StyleSettings(**values).to_dict() | {"seed": 3}, **made_by}
    works_or_one_sentence("provenances", lambda: command_of(made_by))


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A file cut, with other bytes in it, or with a piece twice."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        new = draw(st.binary(min_size=1, max_size=6))
        data[at : at + len(new)] = new
    cut = draw(st.none() | st.integers(0, len(data)))
    return bytes(data[:cut])


@pytest.fixture(scope="module")
def picture_files(tmp_path_factory) -> list[tuple[str, bytes]]:
    folder = tmp_path_factory.mktemp("whole")
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    for suffix in ("png", "jpg", "tif"):
        write_image(folder / f"ours.{suffix}", image, {"settings": {"size": 64}})
    tifffile.imwrite(folder / "stack.tif", image[None].repeat(3, 0), photometric="rgb")
    tifffile.imwrite(folder / "deep.tiff", image[..., 0].astype(np.float32), metadata={"axes": "YX"})
    Image.fromarray(image).save(folder / "moving.gif", save_all=True, append_images=[Image.fromarray(image)])
    Image.fromarray(image).convert("P").save(folder / "palette.png")
    Image.fromarray(image).save(folder / "a.webp")
    return [(path.suffix, path.read_bytes()) for path in sorted(folder.iterdir())]


@given(st.data())
@many(250, 10_000)
def test_pictures(tmp_path, picture_files, data):
    suffix, whole = data.draw(st.sampled_from(picture_files))
    path = tmp_path / f"ein Bild × {suffix}"
    path.write_bytes(data.draw(damaged(st.just(whole))))
    for read in (read_image, read_made_by):
        works_or_one_sentence("picture files", lambda read=read: read(path))
    content = works_or_one_sentence("stack files", lambda: look_at(path))
    if content is not None and content.stacked:
        index = content.planes().indices()[:1]
        with suppress(Exception):  # told of the plane alone by read_plane
            content.planes().read(index[0])


@pytest.fixture(scope="module")
def number_files(tmp_path_factory, pair) -> list[tuple[str, bytes]]:
    """A features file in three formats, and a stopped run."""
    folder = tmp_path_factory.mktemp("numbers")
    numbers = {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}
    save_file(numbers, folder / "a.safetensors", {"convention": "caffe"})
    torch.save(numbers, folder / "b.pth")
    torch.save(numbers, folder / "c.pt", _use_new_zipfile_serialization=False)
    (folder / "d.pth").write_bytes(pickle.dumps({"features.0.weight": np.zeros(3)}))
    tiny = StyleSettings(size=32, scales=1, steps=3, features="self-taught", device="cpu", history=1,
                         content_layers={"conv1_1": 1}, style_layers={"conv1_1": 1})  # fmt: skip
    steps = stylize(*pair, tiny)
    write_snapshot(folder / "run.safetensors", next(steps).snapshot())
    return [(path.suffix, path.read_bytes()) for path in sorted(folder.iterdir())]


@given(st.data())
@many(150, 7000)
def test_files_of_numbers(tmp_path, number_files, data):
    suffix, whole = data.draw(st.sampled_from(number_files))
    path = tmp_path / f"Gewichte{suffix}"
    path.write_bytes(data.draw(damaged(st.just(whole))))
    works_or_one_sentence("features files", lambda: features_from_file(path, ["conv1_1"], "torchvision"))
    works_or_one_sentence("stopped runs", lambda: read_snapshot(path))


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that unpacks to side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


BAD_COMMANDS = st.sampled_from(
    ["bomb.png", "broken png.png", "kein Bild ×.tif", "empty.jpg", "none.png", "folder.png", "text.txt", "/dev/null",
     "", "a\nb.png", "-", "~", "good.png"]
)  # fmt: skip


OUTPUTS = st.sampled_from(
    ["o.png", "/proc/o.png", "none/o.png", "good.png/o.png", "folder.png", "o.bmp", "", "x" * 300 + ".png"]
)
OPTIONS = st.lists(st.tuples(NAMES, st.text(max_size=6)), max_size=1)


@given(BAD_COMMANDS, BAD_COMMANDS, OUTPUTS, OPTIONS)
@many(60, 2000)
def test_the_command_line(tmp_path_factory, monkeypatch, capsys, content, style, output, options):
    folder = tmp_path_factory.mktemp("with space ü")
    monkeypatch.chdir(folder)
    Path("bomb.png").write_bytes(bomb(60_000))
    Path("broken png.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("kein Bild ×.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    Path("empty.jpg").touch()
    Path("text.txt").write_text("text")
    Path("folder.png").mkdir()
    Image.fromarray(np.full((40, 40, 3), 7, np.uint8)).save("good.png")
    named = [f"--{name.replace('_', '-')}={text}" for name, text in options if name != "rescale_features"]
    if content == style == "good.png" and (output in ("o.png",)):
        return  # that works
    count("command lines")
    before = sorted(path for path in folder.iterdir() if path.name != "good.png")
    try:
        status = main(["stylize", f"./{content}", f"./{style}", f"--output={output}", "--device=cpu", "--size=32",
                       "--steps=1", *named])  # fmt: skip
    except SystemExit as error:  # what argparse refuses
        status = error.code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    if status == 0:
        assert "good.png" in (content, style)
    else:
        assert status in (1, 2)
        assert "napari-neural-style" in error
        assert sorted(path for path in folder.iterdir() if path.name != "good.png") == before


def test_a_decompression_bomb_is_not_unpacked(tmp_path):
    (tmp_path / "bomb.png").write_bytes(bomb(60_000))
    with pytest.raises(ValueError, match="more pixels"):
        read_image(tmp_path / "bomb.png")
    assert read_made_by(tmp_path / "bomb.png") is None
    tifffile.imwrite(tmp_path / "bomb.tif", np.zeros((64, 64, 3), np.uint8), compression="zlib", photometric="rgb")
    with tifffile.TiffFile(tmp_path / "bomb.tif", mode="r+") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(60_000)
    with pytest.raises(ValueError, match="more pixels"):
        read_image(tmp_path / "bomb.tif")


LARGE = arrays.arrays(np.float64, (2, 2), elements=st.floats(-100, 100))


@given(
    st.sampled_from([(20, 24), (20, 24, 3), (3, 20, 24)]),
    st.tuples(*[st.floats(-3, 3).filter(lambda s: abs(s) > 1e-3)] * 2),
    LARGE,
    st.sampled_from(["um", "s", "pixel", "ms", "nm"]),
    st.floats(-360, 360),
)
@many(60, 2000)
@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_layers_anywhere(shape, scale, affine, unit, rotate):
    """Mirrored, sheared, in seconds: a result covers its content, or there is one sentence."""
    from napari.layers import Image as Layer

    from napari_neural_style.viewer.layers import image_of, placed_like, shown_plane

    rgb = shape[-1] == 3
    ndim = len(shape) - rgb
    matrix = np.eye(ndim + 1)
    matrix[-3:-1, -3:-1] = affine
    assume(abs(np.linalg.det(affine)) > 1e-6)
    count("layers in the world")
    try:
        turned = {"rotate": rotate} if ndim == 2 else {}
        units = (unit,) * ndim
        scale = (1,) * (ndim - 2) + scale
        layer = Layer(np.ones(shape, np.uint8), rgb=rgb, scale=scale, affine=matrix, units=units, **turned)
    except (ValueError, np.linalg.LinAlgError):
        return  # napari's own no
    plane = shown_plane(layer)
    assert image_of(layer, plane).shape == (20, 24, 3)
    data, place = placed_like(layer, plane, np.zeros((10, 12, 3), np.uint8))
    result = Layer(data, **place)
    far = [0.0] * ndim
    near = [0.0] * ndim
    far[-2:], near[-2:] = (19.5, 23.5), (9.5, 11.5)
    expected = np.array(layer.data_to_world(far))
    np.testing.assert_allclose(result.data_to_world(near), expected, atol=1e-6 * (1 + np.abs(expected).max()))
    assert result.units == layer.units
