"""Files that are whole or not there, and readable whatever is in them."""

import pytest
import torch

from fedmosaic.federation.files import load_tensors, save_tensors


@pytest.mark.parametrize("tensors", [{}, {"a": torch.arange(3.0)}])
@pytest.mark.parametrize("metadata", [None, {}, {"round": "3"}])
def test_what_was_saved_is_read_again_also_nothing(tmp_path, tensors, metadata):
    save_tensors(tmp_path / "t.safetensors", tensors, metadata)
    loaded = load_tensors(tmp_path / "t.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]
