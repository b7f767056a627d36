from __future__ import annotations

import ntpath
import os
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from filelock import Timeout

from napari_neural_style.files import write_image
from napari_neural_style.ledger import NAME, Ledger, alone_in

MADE_WITH = {
    "settings": {"steps": 3, "style_layers": {"conv1_1": 1.0}},
    "style": ["abc"],
    "chain": True,
    "features": "123",
}


def test_what_is_finished_is_known_again(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.begin(MADE_WITH)
    assert ledger.output_for(Path("/in/a.png"), Path("/s.png"), "a-s", ".png") == "a-s.png"
    ledger.finish("a-s.png", ())
    ledger.finish("stack", (0, 3))
    again = Ledger(tmp_path)
    again.begin(MADE_WITH)
    assert again.finished("a-s.png") == {()}
    assert again.finished("stack") == {(0, 3)}
    assert again.finished("other") == set()
    assert again.outputs() == {tmp_path / "a-s.png"}
    (tmp_path / "a-s.png").write_bytes(b"without what made it, as other programs save it")
    assert again.outputs() == {tmp_path / "a-s.png"}
    again.begin_output("stack")
    again.finish("stack", (0, 1))
    assert again.finished("stack") == Ledger(tmp_path).finished("stack") == {(0, 1)}


def test_names_never_collide(tmp_path):
    (tmp_path / "b-s.png").touch()
    ledger = Ledger(tmp_path)
    names = {
        path: ledger.output_for(Path(path), Path("/s.png"), Path(path).stem + "-s", ".png")
        for path in ("/one/a.png", "/one/a.jpg", "/two/a.png", "/three/A.png", "/two/b.png",
                     "/one/\u00e9.png", "/two/e\u0301.png")  # é, as macOS has it too
    }  # fmt: skip
    assert list(names.values()) == ["a-s.png", "a-s-2.png", "a-s-3.png", "A-s-4.png", "b-s-2.png",
                                    "\u00e9-s.png", "e\u0301-s-2.png"]  # fmt: skip
    again = Ledger(tmp_path)
    for path, name in reversed(names.items()):
        assert again.output_for(Path(path), Path("/s.png"), "a-s", ".png") == name


def test_on_windows_a_content_is_the_same_however_its_path_is_typed(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "normcase", ntpath.normcase)
    for path in ("C:/In/a.png", "c:/in/A.PNG"):
        assert Ledger(tmp_path).output_for(Path(path), Path("S.png"), "a-s", ".png") == "a-s.png"
        (tmp_path / "a-s.png").touch()
        Ledger(tmp_path).finish("a-s.png", ())


def test_a_name_that_was_taken_before_there_was_a_picture_is_left_to_its_owner(tmp_path):
    def name() -> str:
        return Ledger(tmp_path).output_for(Path("/a.png"), Path("/s.png"), "a-s", ".png")

    assert name() == "a-s.png"
    (tmp_path / "a-s.png").write_bytes(b"a picture of another origin")
    assert name() == name() == "a-s-2.png"
    write_image(tmp_path / "a-s-2.png", np.zeros((2, 2, 3), np.uint8), MADE_WITH)  # and then the batch was stopped
    assert name() == "a-s-2.png"
    assert {path.name for path in Ledger(tmp_path).outputs()} == {"a-s-2.png"}


def test_long_names_are_cut_and_stay_apart(tmp_path):
    ledger = Ledger(tmp_path)
    names = [
        ledger.output_for(Path(path), Path("/s.png"), f"{'ö' * 110}-{path}", ".ome.zarr") for path in ("1.tif", "2.tif")
    ]
    assert names == [f"{'ö' * 100}.ome.zarr", f"{'ö' * 100}-2.ome.zarr"]
    (tmp_path / f".{names[1]}.part").touch()


def test_every_cut_of_the_file_can_be_gone_on_with(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.begin(MADE_WITH)
    for number in range(3):
        ledger.finish("stack", (number,))
    text = (tmp_path / NAME).read_bytes()
    for end in range(len(text)):
        (tmp_path / NAME).write_bytes(text[:end])
        cut = Ledger(tmp_path)
        cut.begin(MADE_WITH)
        assert len(cut.finished("stack")) == max(0, text[:end].count(b"\n") - 1)
        cut.finish("stack", (7,))
        assert (7,) in Ledger(tmp_path).finished("stack")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settings": {"steps": 4, "style_layers": {"conv1_1": 1.0}}}, r"settings.steps was 3 and is 4 now\. Choose"),
        ({"style": ["abd", "c"]}, r"with other style images, or .* order: s\.png, as it was then\. Choose"),
        ({"chain": False}, "chain was True"),
        ({"features": "124"}, r"with other features than there are now\. Choose"),
    ],
)
def test_other_settings_are_refused(tmp_path, changed, words):
    ledger = Ledger(tmp_path)
    ledger.begin(MADE_WITH)
    ledger.output_for(Path("/in/a.png"), Path("/s.png"), "a-s", ".png")
    with pytest.raises(ValueError, match=words):
        Ledger(tmp_path).begin({**MADE_WITH, **changed})


@pytest.mark.parametrize(
    "text",
    [
        "{}\n",
        "3\n",
        "nonsense\n",
        '{"format": 1}\n',
        '{"content": "a", "style": "b", "output": 5}\n',
        '{"format": 99}\n',
        "\0" * 40 + '{"format": 1, "made_with": {}}\n',  # what some file systems leave when the power fails
        '{"format": 1, "made_with": {"a": "\xff"}}\n',
    ],
)
def test_damage_gets_a_sentence(tmp_path, text):
    (tmp_path / NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"damaged; remove it|newer version"):
        Ledger(tmp_path)


def test_two_batches_do_not_share_a_folder(tmp_path):
    with alone_in(tmp_path), pytest.raises(ValueError, match="Another batch"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_to_is_not_taken_for_anothers(tmp_path, monkeypatch):
    """On Windows a lock waits where its file cannot be made."""
    refused = PermissionError(13, "Permission denied")
    monkeypatch.setattr(Path, "touch", Mock(side_effect=refused))
    monkeypatch.setattr("filelock.FileLock.acquire", Mock(side_effect=Timeout("lock")))
    with pytest.raises(ValueError, match="cannot be written to: Permission denied"), alone_in(tmp_path):
        pass
