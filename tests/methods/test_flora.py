"""FLoRA: stacks whose product is the exact mean, merged into the base once, by everybody."""

from types import SimpleNamespace

import pytest
import torch
from tests.federation.scenario import SMALL
from tests.methods.lab import Lab, same

from fedmosaic.config import resolve
from fedmosaic.errors import SettingsError
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.methods.registry import make_method
from fedmosaic.methods.uploads import Upload, Uploads

A, B, D = "layer.0.q_proj.A", "layer.0.q_proj.B", "layer.0.q_proj.D"


def uploads(ranks, *, round_=1, architecture="x"):
    torch.manual_seed(sum(ranks) + round_)
    return Uploads(
        [
            Upload(client, architecture, {A: torch.randn(rank, 7), B: torch.randn(5, rank)}, round=round_)
            for client, rank in enumerate(ranks)
        ]
    )


def mean_product(sent):
    return torch.stack([each.tensors[B] @ each.tensors[A] for each in sent.values()]).mean(0)


def at(round_, tensors=None):
    return SimpleNamespace(round=round_, tensors=tensors or {})


@pytest.mark.parametrize("ranks", [(2, 2, 2), (1, 3, 4)])
def test_the_stacks_hold_the_mean_update_exactly_whatever_the_ranks(ranks):
    sent = uploads(ranks)
    for download in Lab("flora").method.aggregate(sent, at(2)).downloads.values():
        assert download[A].shape == (sum(ranks), 7)
        torch.testing.assert_close(download[B] @ download[A], mean_product(sent))


def test_who_sends_no_pair_is_sent_none():
    odd = Upload(2, "y", {"layer.0.q_proj.P": torch.ones(2, 2)}, round=1)
    sent = Uploads([*uploads((2, 2)).values(), odd])
    downloads = Lab("flora").method.aggregate(sent, at(2)).downloads
    assert downloads[2] == {}
    assert downloads[0].keys() == {A, B}


def test_every_update_is_merged_once_also_by_those_who_were_absent():
    """Clients 0 and 1 train in round 1, client 0 in round 2; in round 3 both train, and a newcomer joins."""
    method = Lab("flora").method
    first = uploads((2, 3))
    one = method.aggregate(first, at(2))
    again = Uploads([Upload(0, "x", uploads((2,), round_=2)[0].tensors, round=2)])
    two = method.aggregate(first.updated(again), at(3, one.state))
    total = mean_product(first) + mean_product(again)
    there = one.downloads[0][B] @ one.downloads[0][A] + two.downloads[0][B] @ two.downloads[0][A]
    torch.testing.assert_close(there, total)
    torch.testing.assert_close(two.downloads[1][D], total)
    torch.testing.assert_close(method.initial_download("x", {}, first)[D], total)
    assert method.initial_download("y", {}, first) == {}


@pytest.mark.slow
def test_a_client_merges_what_it_receives_and_starts_anew():
    lab = Lab("flora", {"ranks": (2, 3)})
    clients = [lab.client(number) for number in range(2)]
    base = {name: tensor.clone() for name, tensor in clients[0].base.module.state_dict().items()}
    sent = Uploads([lab.train(client) for client in clients])
    held = [client.adapter.linears()[0] for client in clients]
    for each in clients:
        each.adapter.mix("shared")
    mean = torch.stack([each.linear.folded().change for each in held]).mean(0)
    download = lab.method.aggregate(sent, at(2)).downloads[0]
    allowed = lab.method.download_shapes(clients[0].adapter)
    assert all(tensor.shape[0] <= allowed[name][0] and tensor.shape[1] <= allowed[name][1]
               for name, tensor in download.items())  # fmt: skip
    client = lab.client(0, round_=2, state=clients[0].state())
    lab.method.receive(client, download)
    linear = client.adapter.linears()[0].linear
    with lab.method.answering(client):
        now = client.adapter.linears()[0].parent.get_submodule(held[0].path.rpartition(".")[2])
        torch.testing.assert_close(now.weight.double(), linear.base.weight.double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(now.weight.double() - base[f"{held[0].path}.base.weight"], mean, atol=1e-6, rtol=0)
    after = client.base.module.state_dict()
    assert all(
        torch.equal(after[name], tensor) for name, tensor in base.items() if ".A_" not in name and ".B_" not in name
    )
    start, fresh = lab.client(0).snapshot("shared"), client.snapshot("shared")
    assert not any(tensor.any() for name, tensor in fresh.items() if name.endswith(".B"))
    assert all(tensor[:2].all() and not tensor[2:].any() for name, tensor in fresh.items() if name.endswith(".A"))
    assert not same(fresh, start)
    assert client.optimiser.moments() == {}
    upload = lab.train(client, download)
    assert {tensor.shape[0] for name, tensor in upload.tensors.items() if name.endswith(".A")} == {2}


def test_training_sees_what_was_merged():
    lab = Lab("flora")
    client = lab.client()
    batch, losses, step = lab.batch(client), [], client.step
    name = f"{client.adapter.linears()[0].target.prefix}"
    shape = client.adapter.linears()[0].linear.base.weight.shape
    client.batches = lambda budget: [batch]
    client.step = lambda *args, **kwargs: (
        losses.append(client.loss(batch, mix="shared").item()),
        step(*args, **kwargs),
    )
    lab.method.receive(client, {f"{name}.D": torch.randn(shape)})
    lab.method.train(client, client.budget())
    assert losses[0] != client.loss(batch, mix="shared").item()
    state = client.state()
    other = lab.client(state=state)
    with lab.method.answering(client) as model, lab.method.answering(other) as restored, torch.no_grad():
        assert torch.equal(model.answer_logits(batch.inputs).logits, restored.answer_logits(batch.inputs).logits)


def test_means_over_rounds_are_refused():
    lab = Lab("flora", averaged_rounds=2)
    with pytest.raises(SettingsError, match="averaged_rounds is 2"):
        lab.method.check(lab.settings)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_results(tmp_path, monkeypatch):
    """Also what the server keeps for those who are absent."""
    settings = resolve(SMALL, method="flora", rounds=4, overrides=["participation.fraction=0.5"])
    whole = RunFolder.create(tmp_path / "whole", settings)
    engines.run(settings, whole)
    deliver, trained = InProcessGrid._deliver, []

    def failing(self, message):
        trained.append(message.metadata.message_type)
        if trained.count("train") == 6:  # of the third round
            raise InterruptedError
        return deliver(self, message)

    monkeypatch.setattr(InProcessGrid, "_deliver", failing)
    part = RunFolder.create(tmp_path / "part", settings)
    with pytest.raises(InterruptedError):
        engines.run(settings, part)
    monkeypatch.setattr(InProcessGrid, "_deliver", deliver)
    engines.run(settings, RunFolder.resume(tmp_path / "part", settings))
    assert (tmp_path / "part" / "scores.json").read_bytes() == (tmp_path / "whole" / "scores.json").read_bytes()
    assert (tmp_path / "part" / "rounds.csv").read_bytes() == (tmp_path / "whole" / "rounds.csv").read_bytes()


def test_a_tower_adapter_is_refused():
    with pytest.raises(SettingsError, match=r"adapter\.tower_rank is 4"):
        make_method("flora", {}).check(resolve(SMALL, overrides=["adapter.tower_rank=4"]))
