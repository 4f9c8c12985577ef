"""Every client's own mixture through disk is that in memory."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from fedmosaic.federation.upload_store import StoredTensors, UploadStore
from fedmosaic.methods import fedmosaic, mixtures
from fedmosaic.methods.registry import make_method
from fedmosaic.methods.uploads import Upload, Uploads

SHAPES = {"layer.0.q.A": (3, 8), "layer.0.q.B": (8, 3), "block.0.q.P": (4, 4), "block.0.q.Q": (4,)}


@dataclass
class State:
    """What a method's server half is given."""

    scratch: Path
    round: int = 2
    tensors: dict = field(default_factory=dict)


def made_uploads(count: int) -> Uploads:
    random = torch.Generator().manual_seed(3)

    def upload(client: int) -> Upload:
        tensors = {name: torch.randn(shape, generator=random) for name, shape in SHAPES.items()}
        return Upload(client, f"model-{client % 2}", {**tensors, "sketch": torch.randn(16, generator=random)}, 8, 1)

    return Uploads(upload(client) for client in range(0, 3 * count, 3))


@pytest.mark.parametrize("peers", [0, 3])
@pytest.mark.parametrize("relevance", ["rela", "uniform"])
def test_through_disk_every_client_receives_what_it_receives_in_memory(monkeypatch, tmp_path, peers, relevance):
    uploads = made_uploads(11).towards([0, 3, 9, 24, 30])
    method = make_method("fedmosaic", {"peers": peers, "relevance": relevance})
    expected = method.aggregate(uploads, State(tmp_path / "never"))
    monkeypatch.setattr(mixtures, "_MOST_VALUES_IN_MEMORY", 0)
    monkeypatch.setattr(mixtures, "_RECEIVERS", 2)
    found = method.aggregate(uploads, State(tmp_path))
    assert list(found.downloads) == [0, 3, 9, 24, 30]
    torch.testing.assert_close(dict(found.downloads), dict(expected.downloads))
    torch.testing.assert_close(found.relevance, expected.relevance)


def test_where_nobody_of_an_architecture_receives_anything_nothing_is_mixed(monkeypatch, tmp_path):
    uploads = made_uploads(4).towards([0, 6])  # both of model-0
    expected = make_method("fedmosaic", {}).aggregate(uploads, State(tmp_path / "never"))
    monkeypatch.setattr(mixtures, "_MOST_VALUES_IN_MEMORY", 0)
    found = make_method("fedmosaic", {}).aggregate(uploads, State(tmp_path))
    assert list(found.downloads) == [0, 6]
    torch.testing.assert_close(dict(found.downloads), dict(expected.downloads))


def test_of_many_clients_there_is_no_matrix(monkeypatch, tmp_path):
    monkeypatch.setattr(mixtures, "_MOST_VALUES_IN_MEMORY", 0)
    monkeypatch.setattr(fedmosaic, "MOST_CLIENTS_IN_A_MATRIX", 10)
    found = make_method("fedmosaic", {}).aggregate(made_uploads(11), State(tmp_path))
    assert found.relevance is None and found.similarity is None


def test_a_stored_upload_reads_as_it_was_written(tmp_path):
    upload = made_uploads(1)[0]
    stored = UploadStore(tmp_path, in_memory=0).store(upload)
    assert isinstance(stored.tensors, StoredTensors)
    assert stored.size == upload.size == sum(tensor.numel() for tensor in upload.tensors.values())
    torch.testing.assert_close(dict(stored.tensors), dict(upload.tensors), rtol=0, atol=0)
    with pytest.raises(KeyError):
        stored.tensors["another"]
