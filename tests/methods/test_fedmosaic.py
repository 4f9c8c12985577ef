"""FedMosaic's client half and its ablations, on tiny random text models."""

import pytest
import torch
from tests.methods.lab import Lab, NumbersModel, spied

from fedmosaic.errors import RunError
from fedmosaic.methods.registry import make_method
from fedmosaic.relevance import EntrySketch, probe_target


def lab(settings=None, **options):
    return Lab("fedmosaic", {"sketch_size": 32, **(settings or {})}, **options)


def client(made, number=0, round_=1, state=None):
    return made.client(number, round_, state)


def sketches(made, rounds=3, number=0):
    """The running sketch after each round, and the last client."""
    state, found = None, []
    for round_ in range(1, rounds + 1):
        here = client(made, number, round_, state)
        upload = made.train(here)
        found.append(upload.tensors["sketch"])
        state = here.state()
    return found, here


def test_the_first_sketch_is_the_mean_of_the_new_samples_and_later_ones_are_mixed_in_half():
    made = lab({"sketch": "full", "sanitise": "clip", "clip": 1e9})
    found, here = sketches(made, rounds=2)
    probe = made.method._sketch.probe
    means = [probe(made.stream(here).arrivals(round_)).mean(0) for round_ in (1, 2)]
    torch.testing.assert_close(found[0], means[0])
    torch.testing.assert_close(found[1], (means[0] + means[1]) / 2)


@pytest.mark.slow
def test_the_sketch_does_not_depend_on_what_the_client_has_trained():
    fast, slow = (lab(learning_rate=rate) for rate in (1e-1, 1e-4))
    for one, other in zip(sketches(fast)[0], sketches(slow)[0], strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])
def test_the_probe_looks_at_least_once_a_round_however_few_the_steps(steps):
    for probe_on in ("arrivals", "batches"):
        made = lab({"probe_on": probe_on, "sanitise": "clip"}, steps=steps)
        assert all(sketch.norm() > 0 for sketch in sketches(made)[0])


def test_a_client_looks_again_at_what_arrived_while_it_was_away():
    made = lab({"sketch": "full", "sanitise": "clip", "clip": 1e9, "ema": 1.0})
    first = client(made)
    made.train(first)
    third = client(made, round_=3, state=first.state())
    upload = made.train(third)
    missed = [*made.stream(third).arrivals(2), *made.stream(third).arrivals(3)]
    torch.testing.assert_close(upload.tensors["sketch"], made.method._sketch.probe(missed).mean(0))


@pytest.mark.slow
def test_the_budget_of_new_samples_does_not_grow_over_the_rounds_and_that_of_batches_does():
    spent = {}
    for probe_on in ("arrivals", "batches"):
        made = lab({"probe_on": probe_on, "privacy": {"noise_multiplier": 1.0}})
        state, spent[probe_on] = None, []
        for round_ in (1, 2, 3):
            here = client(made, 0, round_, state)
            made.train(here)
            state = here.state()
            spent[probe_on].append(here.meter.privacy["epsilon"])
    assert spent["arrivals"] == [spent["arrivals"][0]] * 3
    assert spent["batches"][0] == spent["arrivals"][0]
    assert spent["batches"] == sorted(set(spent["batches"]))


@pytest.mark.slow
def test_a_silent_client_repeats_its_sketch_or_uploads_zeros():
    budget = {"noise_multiplier": 1.0, "epsilon": 5.0}
    found, here = sketches(lab({"probe_on": "batches", "privacy": budget}))
    assert found[0].norm() > 0
    assert torch.equal(found[0], found[1])
    assert here.meter.privacy["epsilon"] <= 5.0
    found, _ = sketches(lab({"privacy": {**budget, "epsilon": 0.1}}))
    assert all(torch.equal(sketch, torch.zeros(32)) for sketch in found)
    with pytest.raises(RunError, match="client 0"):
        sketches(lab({"privacy": {**budget, "epsilon": 0.1, "when_spent": "stop"}}))


@pytest.mark.slow
def test_noise_follows_the_seed_unless_it_is_to_be_private():
    def first(settings, secret):
        made = lab(settings)
        here = client(made)
        here.secret = lambda: secret
        return made.train(here).tensors["sketch"]

    private = {"privacy": {"reproducible_noise": False}}
    assert torch.equal(first({}, b"a" * 32), first({}, b"b" * 32))
    assert torch.equal(first(private, b"a" * 32), first(private, b"a" * 32))
    assert not torch.equal(first(private, b"a" * 32), first(private, b"b" * 32))
    assert not torch.equal(first(private, b"a" * 32), first({}, b"a" * 32))


@pytest.mark.parametrize("reproducible", [True, False])
def test_private_noise_follows_from_the_samples_too(reproducible):
    made = lab({"privacy": {"reproducible_noise": reproducible}})
    assert made.method._sketch._releases(client(made)).by_samples != reproducible


@pytest.mark.slow
def test_in_deployment_noise_is_private_by_default():
    made = lab()
    made.settings = made.settings.model_copy(update={"engine": "deployment"})
    sketch = []
    for secret in (b"a" * 32, b"b" * 32):
        here = client(made)
        here.secret = lambda secret=secret: secret
        sketch.append(made.train(here).tensors["sketch"])
    assert not torch.equal(*sketch)


@pytest.mark.parametrize("kind", ["projection", "subset", "full"])
def test_uploads_have_the_announced_shapes(kind):
    made = lab({"sketch": kind, "subset_ratio": 0.25})
    here = client(made)
    announced = made.method.upload_shapes(here.adapter)
    upload = made.train(here)
    assert {name: tuple(tensor.shape) for name, tensor in upload.tensors.items()} == announced
    where = probe_target(NumbersModel("narrow").decoder)
    entries = where.in_features * where.out_features
    assert announced["sketch"] == ({"projection": 32, "subset": entries // 4, "full": entries}[kind],)


def test_all_clients_share_the_subset():
    one, other = (lab({"sketch": "subset"}) for _ in range(2))
    for number, made in enumerate((one, other)):
        made.train(client(made, number))
    assert isinstance(one.method._sketch.probe.sketch, EntrySketch)
    assert torch.equal(one.method._sketch.probe.sketch._kept, other.method._sketch.probe.sketch._kept)


def test_the_probe_counts_as_compute():
    with_probe, without = (lab({"relevance": kind}) for kind in ("rela", "uniform"))
    flops = []
    for made in (with_probe, without):
        here = client(made)
        made.train(here)
        flops.append(here.meter.flops)
    assert flops[0] > flops[1] > 0


# ---- ablations ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_rela_no_sketch_travels_and_all_others_weigh_the_same():
    made = lab({"relevance": "uniform"}, models=("narrow", "narrow", "narrow"))
    uploads = [made.train(client(made, number)) for number in range(3)]
    assert all("sketch" not in upload.tensors for upload in uploads)
    from fedmosaic.methods.uploads import Uploads

    result = made.method.aggregate(Uploads(uploads), None)
    torch.testing.assert_close(result.relevance, (1 - torch.eye(3)) / 2)
    for name in result.downloads[0]:
        expected = (uploads[1].tensors[name] + uploads[2].tensors[name]) / 2
        torch.testing.assert_close(result.downloads[0][name], expected)
    assert made.method.guarantee == ""


def test_without_colora_nothing_crosses_architectures():
    made = lab({"colora": False}, models=("narrow", "narrow", "wide"))
    uploads = [made.train(client(made, number)) for number in range(3)]
    assert not any(name.endswith((".P", ".Q")) for upload in uploads for name in upload.tensors)
    from fedmosaic.methods.uploads import Uploads

    downloads = made.method.aggregate(Uploads(uploads), None).downloads
    assert downloads[2] == {}
    assert set(downloads[0]) == {name for name in uploads[0].tensors if name != "sketch"}


def test_without_a_gate_both_slots_count_half_for_ever():
    made = lab({"gate": False})
    assert made.method.answers_with == {"local": 0.5, "personal_global": 0.5}
    here = client(made)
    made.train(here)
    assert not here.adapter.gate_tensors()


def test_a_restart_in_the_mean_of_all_is_fedavgs():
    """By uniform weights the others' mean is received; N - 1 parts of it and one of the client's own are FedAvg's."""
    from fedmosaic.methods.uploads import Uploads

    made = lab({"relevance": "uniform", "restart": 2 / 3}, models=("narrow", "narrow", "narrow"))
    clients = [client(made, number) for number in range(3)]
    uploads = Uploads([made.train(each) for each in clients])
    downloads = made.method.aggregate(uploads, None).downloads
    for number, each in enumerate(clients):
        made.method.receive(each, downloads[number])
        for name, tensor in each.snapshot("local").items():
            expected = torch.stack([upload.tensors[name] for upload in uploads.values()]).mean(0)
            torch.testing.assert_close(tensor, expected)


def test_without_restart_or_peers_the_local_slot_stays_its_own():
    for settings, download in (({}, True), ({"restart": 0.5}, False)):
        made = lab(settings)
        here = client(made)
        made.train(here)
        own = here.snapshot("local")
        made.method.receive(here, made.noise(here, "local") if download else {})
        assert all(torch.equal(tensor, own[name]) for name, tensor in here.snapshot("local").items())


def test_the_ablations_of_one_method_leave_others_alone():
    make_method("fedmosaic", {"gate": False, "colora": False})
    method = make_method("fedmosaic", {})
    assert (method.answers_with, method.colora) == ("gate", True)
    assert "differentially private" in method.guarantee
    assert make_method("fedmosaic", {"sanitise": "paper"}).guarantee.startswith("no guarantee")


def test_answers_can_lean_on_the_received_slot_while_training_mixes_in_halves():
    made = lab({"share": 0.75, "relevance": "uniform"})
    here = client(made)
    calls = spied(here, "step")
    made.train(here, made.noise(here, "personal_global"))
    assert all(call["mix"] == {"local": 0.5, "personal_global": 0.5} and not call["gate"] for call in calls)
    batch = made.batch(here).inputs
    with torch.no_grad(), made.method.answering(here) as model:
        found = model.hidden_states(batch)
    with torch.no_grad(), here.adapter.mixed({"local": 0.25, "personal_global": 0.75}):
        torch.testing.assert_close(found, here.base.hidden_states(batch), atol=1e-5, rtol=1e-5)
    assert made.method.answers_by_mixing
