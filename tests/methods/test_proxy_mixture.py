"""Mixtures of proxies by relevance, over all clients whatever their architectures."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from tests.methods.lab import Lab, same

from fedmosaic.methods import mixtures, proxy_mixture
from fedmosaic.methods.proxy_mixture import RelevanceShare
from fedmosaic.methods.registry import make_method
from fedmosaic.methods.uploads import Upload, Uploads
from fedmosaic.relevance.update_sketch import update_sketch

NAME, OWN = "proxy.layer.0.q.A", "layer.0.q.A"
EVERYONE = torch.arange(3)


@dataclass
class State:
    """What a method's server half is given."""

    scratch: Path = Path("never")
    round: int = 2
    tensors: dict = field(default_factory=dict)


def three(sketches=((1.0, 0.0), (1.0, 0.0), (0.0, 1.0)), **more):
    """Clients 0 and 1 do the same; each is of another architecture."""
    return Uploads(
        Upload(
            client,
            f"model-{client}",
            {NAME: torch.full((2, 5), 2.0**client), "sketch": torch.tensor(sketch), **more},
            round=1,
        )
        for client, sketch in enumerate(sketches)
    )


def received(uploads, **settings):
    result = make_method("fedmosaic-proxy", settings).aggregate(uploads, State())
    return torch.stack([result.downloads[client][NAME][0, 0] for client in uploads]), result


def test_weights_follow_their_formula_and_the_limits_are_the_mean_and_the_likest():
    similarity = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    share = RelevanceShare(temperature=0.5, own=0.25, relevance=0.6)
    one, none = torch.tensor(2.0).exp() / (torch.tensor(2.0).exp() + 1), 1 / (torch.tensor(2.0).exp() + 1)
    relevant = torch.tensor([[0.25, 0.75 * one, 0.75 * none], [0.75 * one, 0.25, 0.75 * none], [0.375, 0.375, 0.25]])
    torch.testing.assert_close(share.weights(similarity, EVERYONE, 3), 0.4 / 3 + 0.6 * relevant)
    torch.testing.assert_close(
        share.weights(similarity[1:], EVERYONE[1:], 3), share.weights(similarity, EVERYONE, 3)[1:]
    )
    mean = torch.full((3, 3), 1 / 3)
    for like in (RelevanceShare(temperature=1e9), RelevanceShare(temperature=0.1, relevance=0.0)):
        torch.testing.assert_close(like.weights(similarity, EVERYONE, 3), mean)
    alone = RelevanceShare(temperature=1.0, own=0.2).weights(torch.ones(1, 1), torch.tensor([0]), 1)
    assert alone.tolist() == [[1.0]]


def test_each_client_receives_the_mixture_of_all_by_how_alike_their_sketches_are():
    found, result = received(three(), relevance="sketch", temperature=1e-3, self_weight=0.5)
    torch.testing.assert_close(found, torch.tensor([1.5, 1.5, 2.75]))  # the third is as unlike both of the others
    torch.testing.assert_close(result.relevance[0], torch.tensor([0.5, 0.5, 0.0]))
    assert result.similarity[0].tolist() == [1.0, 1.0, 0.0]


def test_of_updates_what_all_have_in_common_does_not_count():
    common = torch.tensor([5.0, 5.0, 0.0])
    sketches = [(common + torch.tensor(own)).tolist() for own in ((0.0, 0.0, 1.0), (0.0, 0.0, 1.0), (0.0, 0.0, -2.0))]
    found, result = received(three(sketches), relevance="update", temperature=1e-3, self_weight=0.0)
    torch.testing.assert_close(found[:2], torch.tensor([2.0, 1.0]))
    assert result.similarity[0].tolist() == pytest.approx([1.0, 1.0, -1.0], abs=0.01)


@pytest.mark.parametrize("length", [1e-6, 1e6, 1e30])
def test_of_updates_one_of_another_length_does_not_make_all_others_look_alike(length):
    """A client says for what it uploads which direction it has; how long it is must not decide what is common."""
    skills = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    method = make_method("fedmosaic-proxy", {"relevance": "update"})

    def similarity(sketches):
        uploads = Uploads(
            Upload(client, "a", {NAME: torch.ones(1, 1), "sketch": sketch}, round=1)
            for client, sketch in enumerate(sketches)
        )
        return method.aggregate(uploads, State()).similarity

    scaled = skills.clone()
    scaled[3] *= length
    torch.testing.assert_close(similarity(scaled), similarity(skills))
    assert similarity(scaled)[0, 2] < 0
    assert similarity(scaled)[0, 1] > 0.9


def test_shared_own_models_are_averaged_within_their_architecture_whatever_the_relevance():
    uploads = Uploads(
        Upload(c, "ab"[c // 2], {NAME: torch.full((1, 1), 2.0**c), OWN: torch.full((3, 1), 3.0**c),
                                 "sketch": torch.tensor([1.0, float(c)])}, round=1)
        for c in range(4)
    )  # fmt: skip
    downloads = make_method("fedmosaic-proxy", {"own": "shared", "relevance": "sketch"}).aggregate(uploads, State())
    found = [downloads.downloads[client][OWN][0, 0].item() for client in range(4)]
    assert found == pytest.approx([2.0, 2.0, 18.0, 18.0])


@pytest.mark.parametrize("relevance", ["sketch", "update"])
def test_through_disk_every_client_receives_what_it_receives_in_memory(monkeypatch, tmp_path, relevance):
    uploads, method = three().towards([0, 2]), make_method("fedmosaic-proxy", {"relevance": relevance})
    expected = method.aggregate(uploads, State())
    monkeypatch.setattr(mixtures, "_MOST_VALUES_IN_MEMORY", 0)
    monkeypatch.setattr(proxy_mixture, "MOST_CLIENTS_IN_A_MATRIX", 2)
    found = method.aggregate(uploads, State(tmp_path))
    assert list(found.downloads) == list(expected.downloads) == [0, 2]
    torch.testing.assert_close(dict(found.downloads), dict(expected.downloads))
    assert found.relevance is None


@pytest.mark.slow
def test_an_update_is_told_from_what_was_received_and_is_a_running_mean():
    lab = Lab("fedmosaic-proxy", {"relevance": "update", "ema": 0.25, "sketch_size": 64}, models=("wide", "foreign"))
    expected = state = None
    for round_ in (1, 2):
        client = lab.client(0, round_, state)
        download = {f"proxy.{name}": each for name, each in lab.noise(client.proxy, "proxy", seed=round_).items()}
        upload = lab.train(client, download)
        start = {name.removeprefix("proxy."): each for name, each in download.items()}
        now = update_sketch(start, client.proxy.snapshot("proxy"), size=64, seed=lab.settings.seed)
        expected = now if expected is None else 0.75 * expected + 0.25 * now
        state = client.state()
    torch.testing.assert_close(upload.tensors["sketch"], expected)
    shapes = {name: tuple(each.shape) for name, each in upload.tensors.items()}
    assert shapes == dict(lab.method.upload_shapes(client.adapter))


@pytest.mark.slow
@pytest.mark.parametrize("relevance", ["sketch", "update"])
def test_sketching_changes_nothing_of_the_training(relevance):
    uploads = []
    for kind in ("uniform", relevance):
        lab = Lab("fedmosaic-proxy", {"relevance": kind}, models=("wide", "foreign"))
        client = lab.client()
        uploads.append(dict(lab.train(client).tensors))
    assert "sketch" in uploads[1]
    assert same(uploads[0], {name: each for name, each in uploads[1].items() if name != "sketch"})


def test_only_a_sanitised_sketch_has_a_guarantee():
    promises = {kind: make_method("fedmosaic-proxy", {"relevance": kind}).guarantee for kind in ("uniform", "update")}
    assert promises["uniform"] == ""
    assert promises["update"].startswith("no guarantee")
    lab = Lab("fedmosaic-proxy", {"relevance": "sketch"}, models=("wide", "foreign"))
    client = lab.client()
    lab.train(client)
    assert "differentially private" in lab.method.guarantee
    assert 0 < client.spent.privacy["epsilon"] <= 10.001
