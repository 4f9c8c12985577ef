"""FedMosaic with a proxy model: two models on every client, of which all share one."""

import csv
import dataclasses
from contextlib import nullcontext

import pytest
import torch
from tests.federation.scenario import small
from tests.methods.lab import Lab, make_samples, same

from fedmosaic import events
from fedmosaic.errors import ModelError, RunError, SettingsError
from fedmosaic.evaluation import likeliest_options
from fedmosaic.events import Trained
from fedmosaic.experiments.dry_run import dry_run, with_null_models
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.peers import Peer, check_fit
from fedmosaic.io import load_tensors
from fedmosaic.methods.familiarity import familiar
from fedmosaic.methods.registry import make_method
from fedmosaic.methods.uploads import Uploads
from fedmosaic.models.likelihoods import log_likelihoods
from fedmosaic.training import Budget, ClientState

UNLIKE = ("wide", "foreign", "narrow")


def trained(lab, number=0, round_=1):
    client = lab.client(number, round_)
    return client, lab.train(client)


def with_noise(lab, client):
    """Let both adapters say something."""
    client.adapter.load_slot("local", lab.noise(client, "local", seed=1))
    client.proxy.adapter.load_slot("proxy", lab.noise(client.proxy, "proxy", seed=2))
    return client


def choices(count=6):
    """Questions with three options of one to three tokens, whatever the tokenizer."""
    return [dataclasses.replace(one, options=("3", "5 7", "9 4 2"), answer="5 7") for one in make_samples(5, count)]


def by_hand(model, sample, option):
    """Log-likelihood of one option, alone in its batch."""
    answers = model.answer_logits(model.collate([dataclasses.replace(sample, answer=option)]))
    return float(torch.log_softmax(answers.logits.detach(), -1).gather(1, answers.targets[:, None]).sum())


@pytest.mark.slow
@pytest.mark.parametrize("training", [{}, {"steps": 5, "batch_size": 2}])
def test_the_own_model_trains_exactly_as_in_local_training(training):
    own, alone = Lab("fedmosaic-proxy", models=UNLIKE, **training), Lab("sft", models=UNLIKE, **training)
    state = other = None
    for round_ in (1, 2):
        client, single = own.client(0, round_, state), alone.client(0, round_, other)
        download = {} if round_ == 1 else {name: tensor + 1 for name, tensor in own.method.upload(client).items()}
        own.train(client, download)
        alone.train(single)
        assert same(client.snapshot("local"), single.snapshot("local"))
        state, other = client.state(), single.state()


@pytest.mark.slow
def test_all_proxies_start_alike_and_learn_from_the_clients_own_batches():
    lab = Lab("fedmosaic-proxy", models=UNLIKE)
    clients = [lab.client(number) for number in range(3)]
    starts = [client.proxy.snapshot("proxy") for client in clients]
    assert same(starts[0], starts[1])
    assert same(starts[0], starts[2])
    batches = [[each.samples for each in one.batches(Budget(3))] for one in (clients[0], clients[0].proxy)]
    assert batches[0] == batches[1]
    ends = [lab.train(client).tensors for client in clients]
    assert not same(ends[0], ends[1])
    assert {client.proxy.base.architecture for client in clients} == {"narrow"}


@pytest.mark.slow
def test_nothing_of_a_private_model_leaves_and_a_shared_one_does():
    for own, expected in (("private", {True}), ("shared", {True, False})):
        lab = Lab("fedmosaic-proxy", {"own": own}, models=UNLIKE)
        client, upload = trained(lab)
        assert {name.startswith("proxy.") for name in upload.tensors} == expected
        assert {name: tuple(each.shape) for name, each in upload.tensors.items()} == dict(
            lab.method.upload_shapes(client.adapter)
        )


@pytest.mark.slow
def test_proxies_of_all_clients_are_averaged_and_own_models_within_their_architecture():
    lab = Lab("fedmosaic-proxy", {"own": "shared"}, models=("narrow", "wide", "foreign", "wide"))
    uploads = [trained(lab, number)[1] for number in range(4)]
    downloads = lab.server().aggregate(Uploads(uploads), {}, 2).downloads
    proxies = [name for name in uploads[0].tensors if name.startswith("proxy.")]
    for name in proxies:
        mean = sum(upload.tensors[name] for upload in uploads) / 4
        for client in range(4):
            torch.testing.assert_close(downloads[client][name], mean)
    for name in downloads[1].keys() - set(proxies):
        torch.testing.assert_close(downloads[1][name], (uploads[1].tensors[name] + uploads[3].tensors[name]) / 2)
    client = lab.client(3, 2)
    lab.method.receive(client, downloads[3])
    assert same(client.proxy.snapshot("proxy"), {name[6:]: downloads[3][name] for name in proxies})
    assert torch.equal(lab.method.upload(client)[proxies[0]], downloads[3][proxies[0]])


@pytest.mark.slow
def test_a_newcomer_receives_the_mean_of_proxies_of_other_architectures():
    lab = Lab("fedmosaic-proxy", models=UNLIKE)
    uploads = [trained(lab, number)[1] for number in (0, 1)]
    shapes = lab.method.upload_shapes(lab.client(2).adapter)
    welcome = lab.method.initial_download("narrow", shapes, Uploads(uploads))
    assert welcome.keys() == shapes.keys()
    name = next(iter(welcome))
    torch.testing.assert_close(welcome[name], (uploads[0].tensors[name] + uploads[1].tensors[name]) / 2)


@pytest.mark.parametrize("weight", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("number", [0, 1])
def test_options_are_weighed_by_the_product_of_both_models(weight, number):
    lab = Lab("fedmosaic-proxy", {"weight": weight}, models=UNLIKE)
    client, samples = with_noise(lab, lab.client(number)), choices()
    with torch.inference_mode(), lab.method.answering(client) as model:
        found, chosen = log_likelihoods(model, samples), likeliest_options(model, samples)
    for sample, likelihoods, choice in zip(samples, found, chosen, strict=True):
        with torch.inference_mode(), client.adapter.mixed("local"), client.proxy.adapter.mixed("proxy"):
            expected = [
                by_hand(client.base, sample, option) + weight * by_hand(client.proxy.base, sample, option)
                for option in sample.options
            ]
        torch.testing.assert_close(likelihoods, torch.tensor(expected), atol=1e-3, rtol=1e-3)
        assert choice == (sample.options[int(torch.tensor(expected).argmax())],)


@pytest.mark.parametrize(("weight", "who"), [(0.0, 0), (1e4, 1)])
def test_open_answers_are_the_likelier_one_of_two_proposals(weight, who):
    lab = Lab("fedmosaic-proxy", {"weight": weight}, models=UNLIKE)
    client, samples = with_noise(lab, lab.client(0)), make_samples(8, 12)
    with client.adapter.mixed("local"), client.proxy.adapter.mixed("proxy"):
        proposals = [each.answer(samples, max_tokens=2) for each in (client.base, client.proxy.base)]
        with torch.inference_mode(), lab.method.answering(client) as model:
            answers = model.answer(samples, max_tokens=2)
        judge = (client.base, client.proxy.base)[who]
        for sample, one, two, answer in zip(samples, *proposals, answers, strict=True):
            assert answer in (one, two)
            if not (one and two):
                assert answer == one + two  # what says nothing is no answer
                continue
            other = two if answer == one else one
            assert by_hand(judge, sample, answer) >= by_hand(judge, sample, other) - 1e-3
    assert proposals[0] != proposals[1]


def test_the_weight_follows_the_familiarity_of_the_question():
    settings = {"weighting": "familiarity", "weight_familiar": 0.5, "weight_foreign": 4.0, "novelty_quantile": 0.35}
    lab = Lab("fedmosaic-proxy", {**settings, "known_per_round": 8}, models=UNLIKE)
    client, upload = trained(lab)
    assert not any("known" in name for name in upload.tensors)
    samples = list(lab.stream(client).tasks[0].train)
    base = client.proxy.base
    with torch.no_grad(), client.proxy.adapter.disabled():
        batch = base.collate(samples, with_answers=False)
        asked = base.hidden_states(batch)[torch.arange(len(samples)), batch.last]
    own = familiar(asked, client.memory["known"], novelty_quantile=0.35)
    assert own.any()
    assert not own.all()
    with lab.method.answering(client) as model:
        weights = model.weigh(samples)
    assert weights.tolist() == [0.5 if each else 4.0 for each in own]


def test_the_proxy_has_its_own_share_of_steps_and_its_own_learning_rate():
    lab = Lab("fedmosaic-proxy", {"proxy_steps": 2 / 3, "proxy_learning_rate": 0.0}, steps=3)
    client, upload = trained(lab)
    assert (client.meter.steps, client.proxy.meter.steps) == (3, 2)
    assert upload.samples == client.meter.samples == 12
    assert same(dict(upload.tensors), lab.method.upload(lab.client()))
    assert client.spent.flops == client.meter.flops + client.proxy.meter.flops > client.meter.flops
    assert client.spent.steps == 3


def flops_of(method, settings=None, *, models):
    lab = Lab(method, settings, models=models)
    client = lab.client()
    lab.train(client)
    return client.spent.flops


@pytest.mark.slow
def test_all_flops_are_counted():
    """Those of both models, each as if it alone were trained on these samples, and of the sketch's own pass."""
    own, small = (flops_of("sft", models=(name, "narrow")) for name in ("foreign", "narrow"))
    together = flops_of("fedmosaic-proxy", models=("foreign", "narrow"))
    assert together == own + small
    sketches = [
        flops_of("fedmosaic", {"relevance": kind}, models=("foreign", "narrow")) for kind in ("rela", "uniform")
    ]
    with_sketch = flops_of("fedmosaic-proxy", {"relevance": "sketch"}, models=("foreign", "narrow"))
    assert with_sketch - together == sketches[0] - sketches[1] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("relevance", "numbers"), [("uniform", 0), ("update", 1024), ("sketch", 1024)])
def test_what_is_sent_is_the_proxys_lora_and_a_sketch(relevance, numbers):
    """Three layers of four 16 x 16 linears and three of 16 x 32, of rank 4."""
    lab = Lab("fedmosaic-proxy", {"relevance": relevance}, models=("wide", "foreign"))
    _, upload = trained(lab)
    lora = 3 * 4 * (4 * (16 + 16) + 3 * (16 + 32))
    assert sum(tensor.nbytes for tensor in upload.tensors.values()) == 4 * (lora + numbers)
    download = lab.server().aggregate(Uploads([upload]), {}, 2).downloads[0]
    assert sum(tensor.nbytes for tensor in download.values()) == 4 * lora


def test_both_models_are_part_of_the_private_state():
    lab = Lab("fedmosaic-proxy", models=UNLIKE)
    client, _ = trained(lab)
    state = ClientState.from_tensors(client.state().tensors())
    again = lab.client(0, 2, state)
    assert same(again.proxy.snapshot("proxy"), client.proxy.snapshot("proxy"))
    assert same(again.proxy.optimiser.moments(), client.proxy.optimiser.moments())
    assert same(again.snapshot("local"), client.snapshot("local"))
    with pytest.raises(RunError, match="no proxy model"):
        again.restore(dataclasses.replace(state, proxy=None))


@pytest.mark.slow
def test_steps_say_which_of_the_two_models_has_taken_them():
    lab, heard = Lab("fedmosaic-proxy", {"proxy_steps": 2}), []
    client = lab.client(0)
    with events.listening(heard.append):
        lab.train(client)
    steps = [(each.proxy, each.step) for each in heard if isinstance(each, events.Step)]
    assert steps == [*((False, step) for step in (1, 2, 3)), *((True, step) for step in range(1, 7))]


@pytest.mark.slow
def test_a_dry_run_counts_what_the_run_will_count():
    settings = small("fedmosaic-proxy", rounds=2)
    steps, half = (
        sum(each.flops for each in dry_run(with_null_models(settings.model_copy(update={"method_settings": more}))))
        for more in ({}, {"proxy_steps": 0.5})
    )
    local = sum(each.flops for each in dry_run(with_null_models(settings.model_copy(update={"method": "sft"}))))
    assert local < half < steps


def test_sites_with_different_proxy_models_are_refused():
    peers = [Peer(client, client, "a", "", {}, proxy) for client, proxy in enumerate(("one", "two"))]
    check_fit(peers[:1])
    with pytest.raises(RunError, match="proxy model"):
        check_fit(peers)


def test_own_model_and_proxy_divide_the_steps():
    lab = Lab("fedmosaic-proxy", {"own_steps": 0.25, "proxy_steps": 1.5}, steps=8)
    client, _ = trained(lab)
    assert (client.meter.steps, client.proxy.meter.steps) == (2, 12)


@pytest.mark.slow
@pytest.mark.parametrize("own", ["private", "shared"])
def test_answers_mix_what_was_received_with_what_was_trained(own):
    lab = Lab("fedmosaic-proxy", {"own": own, "share": 0.25, "weight": 2.0}, models=UNLIKE)
    client, samples = lab.client(0), choices()
    given = {name: tensor + 0.1 for name, tensor in lab.method.upload(client).items()}
    lab.train(client, given)
    received, trained_ = client.proxy.snapshot("received"), client.proxy.snapshot("proxy")
    assert same(received, {name[6:]: tensor for name, tensor in given.items() if name.startswith("proxy.")})
    assert not same(received, trained_)
    later = {name: tensor + 0.2 for name, tensor in given.items()}
    lab.method.receive_final(client, later)
    assert same(client.proxy.snapshot("proxy"), trained_)
    assert same(client.proxy.snapshot("received"), {name[6:]: later[name] for name in later if name[:6] == "proxy."})
    own_mix = "local" if own == "private" else {"local": 0.75, "received": 0.25}
    with torch.inference_mode(), lab.method.answering(client) as model:
        found = log_likelihoods(model, samples)
    proxy_mix = {"proxy": 0.75, "received": 0.25}
    for sample, likelihoods in zip(samples, found, strict=True):
        with torch.inference_mode(), client.adapter.mixed(own_mix), client.proxy.adapter.mixed(proxy_mix):
            expected = [
                by_hand(client.base, sample, option) + 2 * by_hand(client.proxy.base, sample, option)
                for option in sample.options
            ]
        torch.testing.assert_close(likelihoods.tolist(), expected, atol=1e-4, rtol=1e-4)


def test_with_restart_a_round_starts_between_what_was_trained_and_what_was_received():
    lab = Lab("fedmosaic-proxy", {"own": "shared", "share": 0.5, "restart": 0.75}, models=UNLIKE)
    client, upload = trained(lab)
    given = {name: tensor + 0.1 for name, tensor in upload.tensors.items()}
    before = lab.method.upload(client)
    lab.method.receive(client, given)
    start = lab.method.upload(client)
    for name, tensor in before.items():
        torch.testing.assert_close(start[name], 0.25 * tensor + 0.75 * given[name])
    assert same(_in_slots(client, "received", "received"), start)
    lab.method.receive(client, {})
    assert same(lab.method.upload(client), start)
    later = {name: tensor + 0.3 for name, tensor in given.items()}
    lab.train(client)
    last = lab.method.upload(client)
    lab.method.receive_final(client, later)
    assert same(lab.method.upload(client), last)
    for name, tensor in _in_slots(client, "received", "received").items():
        torch.testing.assert_close(tensor, 0.25 * last[name] + 0.75 * later[name])


def _in_slots(client, own, proxy):
    """What a slot of each adapter holds, named as in an upload."""
    return client.snapshot(own) | {f"proxy.{name}": each for name, each in client.proxy.snapshot(proxy).items()}


@pytest.mark.slow
def test_what_was_received_has_a_say_beside_what_was_made_of_it():
    settings = {"restart": 0.5, "share": 0.5, "weight": 2.0, "common": 0.25}
    lab = Lab("fedmosaic-proxy", settings, models=UNLIKE)
    client, upload = trained(lab)
    given = {name: tensor + 0.1 for name, tensor in upload.tensors.items()}
    lab.train(client, given)
    mine = [client.proxy.snapshot(slot) for slot in ("proxy", "received")]
    for download in (given, {name: tensor + 0.2 for name, tensor in given.items()}):
        if download is not given:
            lab.method.receive_final(client, download)
        assert all(
            same(client.proxy.snapshot(slot), each) for slot, each in zip(("proxy", "received"), mine, strict=True)
        )
        assert same(client.proxy.snapshot("common"), {name[6:]: download[name] for name in download})
        parts = ({"proxy": 0.5, "received": 0.5}, 1.5), ("common", 0.5)
        with torch.inference_mode(), lab.method.answering(client) as model:
            found = log_likelihoods(model, choices())
        for sample, likelihoods in zip(choices(), found, strict=True):
            expected = torch.zeros(3, dtype=torch.float64)
            for place, option in enumerate(sample.options):
                with torch.inference_mode(), client.adapter.mixed("local"):
                    expected[place] += by_hand(client.base, sample, option)
                for mix, weight in parts:
                    with torch.inference_mode(), client.proxy.adapter.mixed(mix):
                        expected[place] += weight * by_hand(client.proxy.base, sample, option)
            torch.testing.assert_close(likelihoods.double(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("open_answers", ["proposals", "tokens"])
def test_two_proxies_that_agree_count_like_one(open_answers):
    answers = []
    for common in (0.0, 0.4):
        lab = Lab("fedmosaic-proxy", {"common": common, "weight": 1.5, "open_answers": open_answers}, models=UNLIKE)
        client = with_noise(lab, lab.client(0))
        if common:
            client.proxy.adapter.load_slot("common", client.proxy.snapshot("proxy"))
        with torch.inference_mode(), lab.method.answering(client) as model:
            options = log_likelihoods(model, choices())
            answers.append((model.answer(make_samples(8, 12), max_tokens=3), torch.stack(options)))
    assert answers[0][0] == answers[1][0]
    torch.testing.assert_close(answers[0][1], answers[1][1], atol=1e-4, rtol=1e-4)


def test_the_common_proxy_has_its_own_share_of_familiar_and_foreign_questions():
    settings = {
        "weighting": "familiarity",
        "novelty_quantile": 0.35,
        "known_per_round": 8,
        "weight_familiar": 2.0,
        "weight_foreign": 4.0,
        "common_foreign": 0.75,
    }
    lab = Lab("fedmosaic-proxy", settings, models=UNLIKE)
    client, _ = trained(lab)
    samples = list(lab.stream(client).tasks[0].train)
    with torch.no_grad():
        asked = client.proxy.embed(samples, mix={})
        own = familiar(asked, client.memory["known"], novelty_quantile=0.35)
        weights = lab.method.proxy_weight(client)(samples, lambda some: client.proxy.embed(some, mix={}))
    assert own.any()
    assert not own.all()
    assert weights.tolist() == [[2.0, 0.0] if each else [1.0, 3.0] for each in own]


def test_without_a_say_what_was_received_is_not_kept():
    for settings in ({}, {"weighting": "familiarity", "common": 0.5}, {"common_foreign": 0.5}):
        lab = Lab("fedmosaic-proxy", settings, models=UNLIKE)
        assert [slot.name for slot in lab.client(0).proxy.adapter.slots] == ["proxy"]


@pytest.mark.parametrize("share", [None, 0.5])
def test_a_download_of_another_shape_is_refused_before_it_is_mixed_with_what_was_trained(share):
    lab = Lab("fedmosaic-proxy", {"restart": 0.75, "share": share}, models=UNLIKE)
    client, upload = trained(lab)
    name = next(iter(upload.tensors))
    given = {**upload.tensors, name: upload.tensors[name][:1]}
    with pytest.raises(ModelError, match=r"has shape"):
        lab.method.receive(client, given)
    assert same(lab.method.upload(client), upload.tensors)


def test_before_the_first_download_the_common_start_counts_as_received():
    lab = Lab("fedmosaic-proxy", {"own": "shared", "share": 1.0}, models=UNLIKE)
    client = lab.client(0)
    start = client.proxy.snapshot("proxy")
    lab.train(client)
    assert same(client.proxy.snapshot("received"), start)


@pytest.mark.slow
def test_a_run_can_train_the_proxy_alone(tmp_path):
    folder = RunFolder.create(tmp_path / "run", small("fedmosaic-proxy", method_settings={"own_steps": 0.0}, rounds=1))
    engines.run(folder.settings, folder)
    state = load_tensors(folder.path / "clients" / "client-000" / "round-0001.safetensors")
    moved = {name for name, tensor in state.items() if "slot" in name and name.endswith(".B") and tensor.any()}
    assert moved
    assert all(name.startswith("proxy.") for name in moved)
    assert {row["loss"] for row in csv.DictReader((folder.path / "rounds.csv").open())} == {""}
    trained = [line.what for line in folder.events() if isinstance(line.what, Trained)]
    assert [each.loss for each in trained] == [None] * 4


@pytest.mark.parametrize(("own_steps", "loss"), [(0.0, False), (1.0, True)])
def test_an_own_model_without_a_step_has_no_loss(own_steps, loss):
    lab = Lab("fedmosaic-proxy", {"own_steps": own_steps}, steps=1)
    client = lab.client()
    lab.train(client)
    assert (client.spent.loss is not None) == loss
    assert client.proxy.meter.loss > 0


@pytest.mark.parametrize(
    ("own_steps", "steps", "refused"),
    [(0.25, 2, True), (0.5, 1, True), (0.0, 2, False), (0.25, 3, False), (0.25, 2.5, False)],
)
def test_an_own_model_that_is_to_train_and_never_would_is_refused(own_steps, steps, refused):
    settings = small("fedmosaic-proxy", training={"steps": steps}, method_settings={"own_steps": own_steps})
    method = make_method(settings.method, settings.method_settings)
    told = rf"own_steps={own_steps} of training\.steps={steps} is rounded to no step[^\n]*$"
    with pytest.raises(SettingsError, match=told) if refused else nullcontext():
        method.check(settings)


@pytest.mark.parametrize("needs", [{"relevance": "sketch"}, {"weighting": "familiarity"}])
def test_what_is_made_of_the_own_models_questions_needs_a_step_of_it(needs):
    settings = small("fedmosaic-proxy", method_settings={"own_steps": 0.2, **needs})  # of two steps
    with pytest.raises(SettingsError, match=r"own_steps=0\.2 of training\.steps=2 leaves the own model no step"):
        make_method(settings.method, settings.method_settings).check(settings)
