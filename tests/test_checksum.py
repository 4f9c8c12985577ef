"""Whatever a disk does to a file, nothing else than what was written is ever read from it."""

import errno
import os
import subprocess
import sys

import pytest
import torch

from fedmosaic import io
from fedmosaic.errors import RunError
from fedmosaic.federation.client_store import ClientStore

TENSORS = {"a": torch.arange(5.0), "b": torch.ones(2, 2)}
TABLE = {"round": 3, "losses": [0.5, None], "name": "é"}


def damaged(data):
    """Every file that one flipped bit of each byte, or a cut, makes of this one."""
    for place in range(len(data)):
        yield data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]
        yield data[:place]


@pytest.mark.parametrize(
    ("save", "load", "content"),
    [
        (lambda path: io.save_tensors(path, TENSORS, {"round": "3"}), io.load_tensors, TENSORS),
        (lambda path: io.save_json(path, TABLE), lambda path: io.load_json(path, advice="go back"), TABLE),
    ],
)
def test_a_flipped_bit_or_a_cut_is_noticed_or_changes_nothing(tmp_path, save, load, content):
    path = tmp_path / "file"
    save(path)
    whole, noticed, same = path.read_bytes(), 0, 0
    for data in damaged(whole):
        path.write_bytes(data)
        try:
            found = load(path)
        except RunError as error:
            assert str(path) in str(error)
            noticed += 1
        else:
            assert all(equal(found[name], value) for name, value in content.items())
            same += 1
    assert noticed > 2 * len(whole) - 200
    assert same < 60  # bits of the checksum's own entry only


def equal(one, other):
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_files_of_versions_without_checksums_are_read(tmp_path):
    import safetensors.torch

    safetensors.torch.save_file(TENSORS, tmp_path / "old")
    assert io.load_tensors(tmp_path / "old").keys() == TENSORS.keys()


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_told_with_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, call, code):
    path = tmp_path / "file"
    io.write_atomically(path, "before")

    def failing(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OSError, match="file") as caught:
        io.write_atomically(path, "after")
    assert (caught.value.errno, caught.value.filename) == (code, str(path))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_half_written_is_cleared(tmp_path):
    dead = 2**22 + 1  # above any system's largest number of a process
    (tmp_path / f".round-0003.{dead}.part").mkdir()
    (tmp_path / f".round-0003.{dead}.part" / "x").write_text("half")
    (tmp_path / f".scores.json.{dead}.part").write_text("half")
    others = {".lock", f".scores.json.{os.getppid()}.part"}
    for name in others:
        (tmp_path / name).write_text("somebody's")
    io.clear_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others
    io.clear_temporaries(tmp_path / "missing")


def test_a_changed_key_is_noticed_and_one_of_an_earlier_version_is_taken(tmp_path):
    store = ClientStore(tmp_path)
    key, path = store.secret(), tmp_path / "secret"
    whole = path.read_bytes()
    for data in damaged(whole):
        path.write_bytes(data)
        try:
            assert store.secret() == key
        except RunError:
            continue
        assert data == key  # cut to what an earlier version wrote
    path.write_bytes(key)
    assert store.secret() == key


LIMITED = """
import resource, signal, sys
from pathlib import Path
import fedmosaic.io as io
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
io.write_atomically(path, b"x" * 1000)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    io.write_atomically(path, b"y" * 100_000)
except OSError as error:
    print(error.filename)
"""


def test_a_real_limit_on_a_file_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(path)
    assert path.read_bytes() == b"x" * 1000
    assert list(tmp_path.iterdir()) == [path]
