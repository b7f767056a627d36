from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file

from counts import cases, count
from disks import room_for
from loopback import INDEX, Handler, address
from napari_neural_style.cache import pretrained_path
from napari_neural_style.cli import main
from napari_neural_style.engine import fetch, tensors
from napari_neural_style.engine.download import LOCK, DownloadError, download_pretrained, hash_in, torchvision_url
from napari_neural_style.engine.weights import KNOWN_HASHES, is_whole, load_features


def left_behind() -> list[Path]:
    return [p for p in pretrained_path().parent.rglob("*") if p.name not in (pretrained_path().name, LOCK)]


def part_of(url: str) -> Path:
    return pretrained_path().with_name(f".vgg19-{hash_in(url)}.pth.part")


def is_complete(path: Path) -> bool:
    return path == pretrained_path() and is_whole(path) and not left_behind()


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
        ("wrong hash", "not the expected file"),
        ("not there", "answered 404"),
        ("no weights", "cannot be read as a state dict"),
    ],
)
def test_faults_leave_nothing_behind(server, whole_file, fault, words):
    if fault == "wrong hash":
        url = address(server, whole_file, "0123abcd")
    elif fault == "not there":
        url = address(server, whole_file).replace("vgg19-", "other-")
    else:
        url = address(server, b"this is no state dict")
    with pytest.raises(DownloadError, match=words):
        download_pretrained(url=url)
    assert not pretrained_path().exists()
    assert not left_behind()


@given(st.data())
@settings(max_examples=cases(4, 100), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_download_that_is_cut_anywhere_goes_on_from_there(server, whole_file, data):
    """Connection after connection brings a piece; only the first asks for the beginning."""
    cut = data.draw(st.integers(len(whole_file) // 12, len(whole_file) - 1))
    server.asked.clear()
    assert is_complete(download_pretrained(url=f"{address(server, whole_file)}?cut={cut}"))
    assert [told for _, told in server.asked] == [
        None, *(f"bytes={start}-" for start in range(cut, len(whole_file), cut))
    ]  # fmt: skip
    pretrained_path().unlink()
    count("downloads cut at a random byte")


def test_a_server_that_knows_no_ranges_and_cuts_is_given_up(server, whole_file, monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    url = address(server, whole_file) + "?cut"
    monkeypatch.setattr(Handler, "headers", property(lambda self: {}, lambda self, value: None), raising=False)
    with pytest.raises(DownloadError, match=r"cut after [\d,]+ of [\d,]+ bytes"):
        download_pretrained(url=url)
    assert not pretrained_path().exists()
    assert len(server.asked) == 1 + fetch.TRIES


def test_what_came_before_a_kill_or_a_stop_is_gone_on_with(server, whole_file):
    url = address(server, whole_file)
    part_of(url).write_bytes(whole_file[:5000])
    assert is_complete(download_pretrained(url=url))
    assert server.asked[-1][1] == "bytes=5000-"


def test_a_whole_part_is_not_fetched_again(server, whole_file):
    """Killed before its convolutions were kept."""
    url = address(server, whole_file)
    part_of(url).write_bytes(whole_file)
    assert is_complete(download_pretrained(url=url))
    assert [told for _, told in server.asked] == [f"bytes={len(whole_file)}-"]


@pytest.mark.parametrize("earlier", ["of another file", "longer", "as long"])
def test_an_earlier_part_that_is_no_good_is_fetched_anew(server, whole_file, earlier):
    url = address(server, whole_file)
    as_long = b"x" * len(whole_file)
    part_of(url).write_bytes({"of another file": b"x" * 500, "longer": whole_file + b"x", "as long": as_long}[earlier])
    assert is_complete(download_pretrained(url=url))


@pytest.mark.parametrize("fault", ["norange", "length", "slow"])
def test_odd_servers(server, whole_file, fault, monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    url = f"{address(server, whole_file)}?{fault}"
    told = []
    if fault == "norange":
        part_of(url).write_bytes(whole_file[:5000])
    assert is_complete(download_pretrained(lambda done, total: told.append(done), url=url))
    if fault == "slow":
        assert len(told) > 20


def test_silence_counts_as_a_cut(server, whole_file, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.5)
    url = f"{address(server, whole_file)}?stall"
    seen = []

    def stop_after_two(done: int, total: int) -> None:
        seen.append(done)
        if len(server.asked) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_pretrained(stop_after_two, url=url)
    assert [told for _, told in server.asked][1] == f"bytes={len(whole_file) // 2}-"
    assert part_of(url).stat().st_size > len(whole_file) // 2


@pytest.mark.parametrize("where", ["http://example.org/vgg19.pth", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_to_an_unsafe_address_is_refused(server, whole_file, where):
    with pytest.raises(DownloadError, match=r"must be an https address|not an https address|not allowed"):
        download_pretrained(url=f"{address(server, whole_file)}?redirect={where}")
    assert not left_behind()


def test_a_redirect_to_a_safe_address_is_followed(server, whole_file):
    url = address(server, whole_file)
    assert is_complete(download_pretrained(url=f"{url}?redirect={url}"))


def test_through_a_proxy(server, whole_file, monkeypatch):
    url = address(server, whole_file)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert is_complete(
        download_pretrained(url=url.replace("127.0.0.1", "localhost").replace(url.split(":")[2][:5], "9"))
    )
    assert server.asked[-1][0].startswith("http://localhost")
    pretrained_path().unlink()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="Check the network"):
        download_pretrained(url=url)


ASKING = """
import sys
from napari_neural_style.engine import fetch, tensors
from napari_neural_style.engine.download import download_pretrained
download_pretrained(lambda done, total: print(done, total, flush=True), sys.argv[1])
print("whole", flush=True)
"""


def test_two_processes_at_once_download_once(server, whole_file):
    url = f"{address(server, whole_file)}?slow"
    both = [subprocess.Popen([sys.executable, "-c", ASKING, url], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=100)[0].endswith("whole\n")
    assert len(server.asked) == 1
    assert is_complete(pretrained_path())


def test_who_stops_waiting_takes_nothing_from_who_downloads(server, whole_file):
    url = address(server, whole_file)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with FileLock(pretrained_path().parent / LOCK), part_of(url).open("ab") as theirs:
        with pytest.raises(KeyboardInterrupt):
            download_pretrained(stop, url)
        theirs.write(whole_file)
    assert part_of(url).read_bytes() == whole_file


def test_who_waits_downloads_when_the_other_gave_up(server, whole_file):
    url = address(server, whole_file)
    lock = FileLock(pretrained_path().parent / LOCK)
    lock.acquire()

    def give_up(done: int, total: int) -> None:
        if lock.is_locked:
            part_of(url).unlink()
            lock.release()

    assert is_complete(download_pretrained(give_up, url))


@pytest.mark.parametrize("damage", ["a flipped bit", "cut", "empty", "another file"])
def test_a_corrupted_cache_is_noticed_and_mended(server, whole_file, quick, damage):
    url = address(server, whole_file)
    path = download_pretrained(url=url)
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[5_000] ^= 1  # in conv1_1
    path.write_bytes({"a flipped bit": bytes(flipped), "cut": good[:-5], "empty": b""}.get(damage, whole_file))
    pretrained = dataclasses.replace(quick, features="pretrained")
    with pytest.raises(ValueError, match=r"damaged.*features download"):
        load_features(pretrained, ["conv2_1"], [])
    assert not path.exists()
    path.write_bytes(bytes(flipped))
    download_pretrained(url=url)
    assert is_complete(path)
    assert load_features(pretrained, ["conv2_1"], []).source == "pretrained"
    assert len(server.asked) == 2
    download_pretrained(url=url)
    assert len(server.asked) == 2  # it is there and whole


def test_no_network():
    with pytest.raises(DownloadError, match="Check the network"):
        download_pretrained(url="http://127.0.0.1:9/vgg19-dcbb9e9d.pth")


@pytest.mark.parametrize(
    "url",
    ["http://example.org/vgg19-dcbb9e9d.pth", "ftp://127.0.0.1/vgg19-dcbb9e9d.pth", "https://127.0.0.1/vgg19.pth"],
)
def test_only_https_and_only_with_a_hash(url):
    with pytest.raises(DownloadError, match="must be an https address"):
        download_pretrained(url=url)


def test_cancelling_keeps_what_came(server, whole_file):
    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    url = address(server, whole_file)
    with pytest.raises(KeyboardInterrupt):
        download_pretrained(cancel, url)
    assert not pretrained_path().exists()
    assert left_behind() == [part_of(url)]
    assert is_complete(download_pretrained(url=url))


@pytest.mark.parametrize("room", [5_000, 1_000_000], ids=["while it comes", "while it is kept"])
def test_full_disk(server, whole_file, room):
    url = address(server, whole_file)
    with room_for(room), pytest.raises(DownloadError, match="is full"):
        download_pretrained(url=url)
    assert not pretrained_path().exists()
    assert not left_behind()
    assert is_complete(download_pretrained(url=url))


def test_full_disk_as_windows_tells_it(server, whole_file, monkeypatch):
    said = SafetensorError("I/O error: There is not enough space on the disk. (os error 112)")
    monkeypatch.setattr(tensors, "save_file", Mock(side_effect=said))
    monkeypatch.setattr(tensors.sys, "platform", "win32")
    with pytest.raises(DownloadError, match="is full"):
        download_pretrained(url=address(server, whole_file))


@pytest.mark.parametrize("folder", ["file", "file/inside", *["/proc"] * (sys.platform == "linux")])
def test_a_cache_folder_that_cannot_be_written_to(server, whole_file, tmp_path, monkeypatch, folder):
    (tmp_path / "file").write_text("a file")
    monkeypatch.setenv("NAPARI_NEURAL_STYLE_CACHE", str(tmp_path / folder))
    with pytest.raises(DownloadError, match=r"NAPARI_NEURAL_STYLE_CACHE|could not be kept"):
        download_pretrained(url=address(server, whole_file))
    assert not server.asked


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
    pretrained_path().unlink()
    assert main(["features", "download", "--url", address(server, whole_file, "0123abcd")]) == 1
    assert "not the expected file" in capsys.readouterr().err
