from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from loopback import INDEX, address
from napari_neural_style.cache import pretrained_path
from napari_neural_style.cli import main
from napari_neural_style.engine.download import DownloadError, download_pretrained
from napari_neural_style.engine.weights import KNOWN_HASHES, hash_in, torchvision_url


def left_behind() -> list[Path]:
    return [p for p in pretrained_path().parent.rglob("*") if p != pretrained_path()]


def test_only_the_sixteen_convolutions_are_kept(server, whole_file):
    told = []
    path = download_pretrained(lambda done, total: told.append((done, total)), address(server, whole_file))
    assert path == pretrained_path()
    kept = load_file(path)
    assert set(kept) == {f"features.{i}.{part}" for i in INDEX for part in ("weight", "bias")}
    assert kept["features.34.weight"].shape == (512, 512, 3, 3)
    assert kept["features.5.bias"].unique().tolist() == pytest.approx([0.003])
    assert told[-1] == (len(whole_file), len(whole_file))
    assert not left_behind()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("cut", r"cut after [\d,]+ of [\d,]+ bytes"),
        ("wrong hash", "not the expected file"),
        ("not there", "answered 404"),
        ("no weights", "cannot be read as a state dict"),
    ],
)
def test_faults_leave_nothing_behind(server, whole_file, fault, words):
    if fault == "cut":
        url = address(server, whole_file) + "?cut"
    elif fault == "wrong hash":
        url = address(server, whole_file, "0123abcd")
    elif fault == "not there":
        url = address(server, whole_file).replace("vgg19-", "other-")
    else:
        url = address(server, b"this is no state dict")
    with pytest.raises(DownloadError, match=words):
        download_pretrained(url=url)
    assert not pretrained_path().exists()
    assert not left_behind()


def test_no_network():
    with pytest.raises(DownloadError, match="Check the network"):
        download_pretrained(url="http://127.0.0.1:9/vgg19-dcbb9e9d.pth")


@pytest.mark.parametrize(
    "url",
    ["http://example.org/vgg19-dcbb9e9d.pth", "ftp://127.0.0.1/vgg19-dcbb9e9d.pth", "https://127.0.0.1/vgg19.pth"],
)
def test_only_https_and_only_with_a_hash(url):
    with pytest.raises(DownloadError, match="no https address"):
        download_pretrained(url=url)


def test_cancelling(server, whole_file):
    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_pretrained(cancel, address(server, whole_file))
    assert not pretrained_path().exists()
    assert not left_behind()


def test_full_disk(server, whole_file, monkeypatch):
    """/dev/full refuses every byte with the error of a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    real_open = Path.open

    def open_full(path: Path, mode: str = "r", *args, **kwargs):
        return real_open(Path("/dev/full") if mode == "wb" else path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(DownloadError, match="is full"):
        download_pretrained(url=address(server, whole_file))
    assert not pretrained_path().exists()


def test_the_address_is_torchvisions_own():
    assert torchvision_url().startswith("https://")
    assert KNOWN_HASHES[hash_in(torchvision_url())] == "torchvision"


def test_a_torchvision_of_another_build_gets_a_sentence(monkeypatch, capsys, tmp_path):
    """What the mismatch raises is a RuntimeError inside torchvision's own import."""
    (tmp_path / "torchvision.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert main(["features", "download"]) == 2
    said = capsys.readouterr().err
    assert "same build" in said
    assert "pip install --force-reinstall torch torchvision" in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


def test_command_line(server, whole_file, capsys):
    assert main(["features", "list"]) == 0
    assert "not on this machine" in capsys.readouterr().out
    assert main(["features", "verify"]) == 2
    assert main(["features", "download", "--url", address(server, whole_file)]) == 0
    assert "Kept the convolutions" in capsys.readouterr().out
    assert main(["features", "list"]) == 0
    assert "MB)" in capsys.readouterr().out
    assert main(["features", "verify"]) == 1
    assert "DIFFERS" in capsys.readouterr().out
    assert main(["features", "download", "--url", address(server, whole_file, "0123abcd")]) == 1
    assert "not the expected file" in capsys.readouterr().err
