"""A folder of image files: which paths and links lead to a picture, whose bytes are whose, and images held as text."""

from __future__ import annotations

import base64
import io
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmosaic.data import content
from fedmosaic.data.images import FileSource, GivenImages
from fedmosaic.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder, with files beside it that are not part of it."""
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    draw(tmp_path / "data" / "sub" / "a.png", "red")
    draw(tmp_path / "elsewhere" / "b.png", "blue")
    return tmp_path / "data"


def draw(path: Path, colour: str) -> None:
    Image.new("RGB", (4, 4), colour).save(path, "BMP")  # files of equal size


def colour(source: FileSource, key: str) -> tuple[int, ...]:
    pixel = source.load(key).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def one_line(error: pytest.ExceptionInfo[DataError], *, longest: int = 600) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < longest
    return text


# ---- paths and links


def test_links_lead_where_the_owner_of_the_folder_pointed_them(root: Path) -> None:
    (root / "one.png").symlink_to(root.parent / "elsewhere" / "b.png")
    (root / "folder").symlink_to(root.parent / "elsewhere")
    (root / "relative.png").symlink_to("../elsewhere/b.png")
    source = FileSource(root)
    for key in ("one.png", "folder/b.png", "relative.png"):
        assert colour(source, key) == (0, 0, 255)
        source.check(key, decode=True)
    assert source.digest("one.png") == source.digest("folder/b.png")
    (root.parent / "link").symlink_to(root)
    assert colour(FileSource(root.parent / "link"), "sub/a.png") == (255, 0, 0)


def test_a_path_alone_never_leaves_the_folder(root: Path) -> None:
    (root / "folder").symlink_to(root.parent / "elsewhere")
    draw(root / "b.png", "green")
    source = FileSource(root)
    for key in ("../elsewhere/b.png", "sub/../../elsewhere/b.png", "/etc/hostname", "..", ".", "", "/"):
        with pytest.raises(DataError, match="lies outside the data folder") as error:
            source.load(key)
        one_line(error)
    assert colour(source, "folder/../b.png") == (0, 128, 0)  # not elsewhere/../b.png, where the link would lead


def test_keys_of_paths_are_relative_whatever_the_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    (root.parent / "link").symlink_to(root)
    for folder in (root, Path("data"), root.parent / "link"):
        source = FileSource(folder)
        for path in ("sub/a.png", "./sub//a.png", "sub/../sub/a.png", root / "sub" / "a.png"):
            assert source.key_of(path) == "sub/a.png"
        assert colour(source, str(root / "sub" / "a.png")) == (255, 0, 0)


def test_all_pictures_are_known_whatever_they_are_called(root: Path) -> None:
    for name in ("b.jfif", "c", "d.JPEG", "e.txt"):
        draw(root / name, "green")
    (root / "notes.json").write_text("[]")
    (root / "folder").symlink_to(root.parent / "elsewhere")
    (root / "sub" / "loop").symlink_to(root)
    (root / "dangling.png").symlink_to(root / "nowhere")
    assert FileSource(root).keys() == ["b.jfif", "c", "d.JPEG", "e.txt", "folder/b.png", "sub/a.png"]


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "not a file"),
        (Path.mkdir, "is a folder"),
        (os.mkfifo, "is a pipe"),
        (_socket, "is a pipe, socket"),
        (Path.touch, "is empty"),
        (lambda path: path.symlink_to("nowhere"), "not a file"),
        (_loop, "symbolic links"),
        (lambda path: path.symlink_to("/dev/zero"), "device"),
    ],
)
@pytest.mark.parametrize("use", ["check", "load", "digest"])
def test_what_is_no_file_gives_one_line(root: Path, make: Callable[[Path], object], words: str, use: str) -> None:
    make(root / "x.png")
    source = FileSource(root)
    uses = {"check": lambda key: source.check(key, decode=False), "load": source.load, "digest": source.digest}
    with pytest.raises(DataError, match=words) as error:
        uses[use]("x.png")
    assert "'x.png'" in one_line(error)


@pytest.mark.parametrize(
    "key", ["a" * 300, "a/" * 3000 + "a.png", "nul\0.png", "half\ud800.png", "sub/a.png/b.png", "iVBORw0KGgo" * 10_000]
)
def test_paths_that_no_system_takes_give_one_short_line(root: Path, key: str) -> None:
    for use in (FileSource(root).load, FileSource(root).digest):
        with pytest.raises(DataError) as error:
            use(key)
        one_line(error).encode()


def test_files_that_must_not_be_read_give_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # as root may read everything
    for use in (FileSource(root).load, FileSource(root).digest, lambda _: GivenImages([root / "sub/a.png"]).load("0")):
        with pytest.raises(DataError, match=r"a\.png.* cannot be read \(Permission denied\)") as error:
            use("sub/a.png")
        one_line(error)


# ---- digests


def _copied_keeping_times(path: Path, other: Path) -> None:
    shutil.copystat(path, other)
    shutil.copy2(other, path)


def _replaced_keeping_times(path: Path, other: Path) -> None:
    shutil.copystat(path, other)
    other.replace(path)


def _written_over_keeping_times(path: Path, other: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.write(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _wait_for_a_tick(path: Path) -> None:
    """File systems count in ticks of some milliseconds; without a false clock, two seconds must have passed."""
    probe = path.with_name("probe")
    probe.touch()
    while probe.stat().st_ctime_ns == path.stat().st_ctime_ns:
        probe.touch()


def _linked_elsewhere(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize(
    "change", [_copied_keeping_times, _replaced_keeping_times, _written_over_keeping_times, _linked_elsewhere]
)
@pytest.mark.parametrize("name", ["x.png", "x.jfif", "x", "x.txt"])
@pytest.mark.parametrize("old", [False, True])
def test_a_digest_is_of_the_bytes_that_are_read_now(
    root: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, Path], None], name: str, old: bool
) -> None:
    path, other = root / name, root / "other"
    draw(path, "red")
    draw(other, "blue")
    os.utime(path, ns=(10**18, 10**18))
    if old:  # as if long ago: nothing but the time of change tells the files apart
        monkeypatch.setattr(time, "time_ns", lambda: 2 * 10**18)
    _wait_for_a_tick(path)
    source = FileSource(root)
    before = source.digest(name)
    assert before == source.digest(name) == FileSource(root).digest(name) != source.digest("other")
    expected = source.digest("other")
    change(path, other)
    assert colour(source, name) == (0, 0, 255)
    assert source.digest(name) == FileSource(root).digest(name) == expected


def _count_reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    opened: list[str] = []
    monkeypatch.setattr(content, "open_file", lambda path, name: opened.append(name) or path.open("rb"))
    return opened


def test_an_unchanged_file_is_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = _count_reading(monkeypatch)
    source = FileSource(root)
    source.digest("sub/a.png")
    source.digest("sub/a.png")
    assert len(opened) == 2  # just written: the next write could get the same times
    monkeypatch.setattr(time, "time_ns", lambda: 2 * 10**18)
    for _ in range(3):
        source.digest("sub/a.png")
    assert len(opened) == 3


def test_times_that_may_be_copies_prove_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT, and many remote mounts, show the time of writing as the time of change."""
    stamp = (1, 2, 3, 10**18, 10**18)
    monkeypatch.setattr(content, "_stamp", lambda file: stamp)
    source = FileSource(root)
    before = source.digest("sub/a.png")
    draw(root / "sub" / "a.png", "blue")
    assert source.digest("sub/a.png") != before


def test_another_process_need_not_read_what_did_not_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(root / "b", "green")
    os.utime(root / "b", ns=(10**18, 10**18))
    monkeypatch.setattr(time, "time_ns", lambda: 2 * 10**18)
    opened = _count_reading(monkeypatch)

    def digests() -> list[str]:
        source = FileSource(root)
        source.remember(root.parent / "home")
        return [source.digest("sub/a.png"), source.digest("b")]

    first = digests()
    assert digests() == first
    assert len(opened) == 2
    _wait_for_a_tick(root / "b")
    _written_over_keeping_times(root / "b", root / "sub" / "a.png")
    assert digests() == [first[0], first[0]]
    assert len(opened) == 3
    (note,) = (root.parent / "home" / "digests").iterdir()
    note.write_bytes(note.read_bytes()[:-20])  # a crash, or a full disk
    assert digests() == digests() == [first[0], first[0]]
    assert "a.png" not in note.read_text()


def test_a_note_that_cannot_be_written_only_costs_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 2 * 10**18)
    source = FileSource(root)
    source.remember(root / "sub" / "a.png" / "no folder")
    assert source.digest("sub/a.png") == FileSource(root).digest("sub/a.png")


def test_equal_bytes_have_equal_digests_wherever_they_are(root: Path) -> None:
    shutil.copy(root / "sub" / "a.png", root / "copy")
    uri = f"data:image/bmp;base64,{base64.b64encode((root / 'copy').read_bytes()).decode()}"
    source = FileSource(root)
    given = GivenImages([root / "copy"])
    digests = {source.digest(key) for key in ("sub/a.png", "copy", source.add_embedded(uri))} | {given.digest("0")}
    assert len(digests) == 1


# ---- images held as text


def encoded(kind: str = "PNG") -> tuple[bytes, str]:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), (0, 0, 255)).save(file, kind)
    return file.getvalue(), base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    "write",
    [
        lambda raw, text: f"data:image/png;base64,{text}",
        lambda raw, text: f"DATA:IMAGE/PNG;BASE64,{text}",
        lambda raw, text: f" data:image/png;base64,{text}\n",
        lambda raw, text: f"data:image/png;charset=utf-8;name=x.png;base64,{text}",
        lambda raw, text: f"data:;base64,{text}",
        lambda raw, text: f"data:image/jpeg;base64,{text}",  # the bytes decide
        lambda raw, text: "data:image/png;base64," + "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76)),
        lambda raw, text: f"data:image/png;base64,{text.rstrip('=')}",
        lambda raw, text: f"data:image/png;base64,{text.replace('+', '%2B').replace('/', '%2f').replace('=', '%3D')}",
        lambda raw, text: f"data:image/png;base64,{base64.urlsafe_b64encode(raw).decode()}",
        lambda raw, text: "data:image/png," + "".join(f"%{byte:02X}" for byte in raw),
    ],
)
def test_data_uris_become_images(root: Path, write: Callable[[bytes, str], str]) -> None:
    source = FileSource(root)
    key = source.add_embedded(write(*encoded()))
    assert key == source.add_embedded(f"data:image/png;base64,{encoded()[1]}")
    assert len(key) < 40
    source.check(key, decode=True)
    np.testing.assert_array_equal(np.asarray(source.load(key)), np.full((4, 5, 3), (0, 0, 255)))
    assert key in source.keys()  # noqa: SIM118 - not a mapping


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "x.png",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,????",
        "data:image/png;base64,aGFsbG8=",
        "data:image/png;base64,\ud800",
        "data:image/png;base64,aGFsb",
        f"data:image/png;base64,{encoded()[1][:40]}",
        f"data:image/png;base64,{encoded('BMP')[1][:90]}",
        f"data:text/plain;base64,{encoded()[1]}",
        f"data:application/pdf;base64,{'A' * 100_000}",
        "data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg'/>",
        f"data:image/png,{'%FF' * 1000}",
    ],
)
def test_other_texts_are_refused_in_one_short_line(root: Path, uri: str) -> None:
    source = FileSource(root)
    with pytest.raises(DataError) as error:
        source.add_embedded(uri)
    one_line(error).encode()
    assert source.keys() == ["sub/a.png"]
