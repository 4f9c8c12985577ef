"""Files that are whole or not there, and readable whatever is in them."""

import pytest
import torch

from fedmosaic.errors import RunError
from fedmosaic.federation import RunFolder
from fedmosaic.io import load_tensors, save_tensors


@pytest.mark.parametrize("tensors", [{}, {"a": torch.arange(3.0)}])
@pytest.mark.parametrize("metadata", [None, {}, {"round": "3"}])
def test_what_was_saved_is_read_again_also_nothing(tmp_path, tensors, metadata):
    save_tensors(tmp_path / "t.safetensors", tensors, metadata)
    loaded = load_tensors(tmp_path / "t.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


@pytest.mark.parametrize("content", [b"", b'{"rounds": 3', b"\xff\xfe{}", b"\0" * 8, b"[1]"])
def test_a_damaged_table_of_a_run_is_one_line_that_names_it(tmp_path, content):
    folder = RunFolder(tmp_path / "run")
    folder.save_checkpoint(3, {"round": 3}, {})
    readers = {
        folder.path / "results.json": folder.results,
        folder.path / "scores.json": folder.scores,
        folder.path / "checkpoints" / "round-0003" / "progress.json": folder.latest_checkpoint,
    }
    for path, read in readers.items():
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"^\S+ is damaged .*; remove [^\n]*$") as caught:
            read()
        assert str(path) in str(caught.value)
