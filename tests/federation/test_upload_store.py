"""Where the server's uploads are: in memory while they are small, always on disk, and in checkpoints of before."""

import json
import shutil

import pytest
import torch
from tests.federation.scenario import small

from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.upload_store import StoredTensors, UploadStore
from fedmosaic.io import load_tensors, save_tensors
from fedmosaic.methods.uploads import Upload

pytestmark = pytest.mark.slow  # whole runs


def upload(client, round_, values=4):
    return Upload(client, "one", {"layer.0.q.A": torch.full((values,), float(client))}, 8, round_)


def test_the_memory_for_uploads_is_bounded_and_serves_each_clients_last_one(tmp_path):
    store = UploadStore(tmp_path, in_memory=10)
    kept = [isinstance(store.store(upload(client, 1)).tensors, dict) for client in range(3)]
    assert kept == [True, True, False]
    assert [isinstance(store.store(upload(client, 2)).tensors, dict) for client in (0, 2)] == [True, False]
    assert isinstance(store.store(upload(1, 2, values=11)).tensors, StoredTensors)
    assert isinstance(store.store(upload(2, 3)).tensors, dict)  # client 1 has left room
    torch.testing.assert_close(dict(store.load(2, 3)), dict(upload(2, 3).tensors), rtol=0, atol=0)


class StopAfterTheFirstRound(Callback):
    """As if the process had been killed."""

    def on_checkpoint(self, record):
        raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["sft", "fedavg"])
def test_a_run_goes_on_from_a_checkpoint_that_holds_its_uploads(tmp_path, method):
    """As checkpoints did before uploads had files of their own; local training's uploads hold nothing."""
    settings = small(method)
    whole, old = (RunFolder.create(tmp_path / name, settings) for name in ("whole", "old"))
    engines.run(settings, whole)
    with pytest.raises(KeyboardInterrupt):
        engines.run(settings, old, callbacks=[StopAfterTheFirstRound()])
    (checkpoint,) = old.checkpoints.glob("round-*")
    about = json.loads((checkpoint / "progress.json").read_text())["uploads"]
    store, tensors = UploadStore(old.path / "uploads"), load_tensors(checkpoint / "server.safetensors")
    for client, (_, _, round_) in about.items():
        tensors |= {f"{client}|{name}": tensor for name, tensor in store.load(int(client), round_).items()}
    save_tensors(checkpoint / "server.safetensors", tensors)
    shutil.rmtree(old.path / "uploads")
    engines.run(settings, old)
    assert old.scores() == whole.scores()
