"""Whatever comes in at the doors works or gets one sentence: files, and the command line that names them."""

from __future__ import annotations

import pickle
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from counts import count
from doors import NAMES, many, works_or_one_sentence
from napari_neural_style import StyleSettings, stylize
from napari_neural_style.cli import main
from napari_neural_style.contents import look_at
from napari_neural_style.engine.snapshot import read_snapshot, write_snapshot
from napari_neural_style.engine.weights import features_from_file
from napari_neural_style.files import read_image, read_made_by, write_image


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
