"""Every registered method in the real surroundings: base models, streams, wire, server."""

import dataclasses

import pytest
import torch
from tests.federation.scenario import small
from tests.methods.every import marked

from fedmosaic.federation import wire
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.methods.uploads import Uploads

METHODS = marked()


@pytest.fixture(scope="module")
def first():
    """Data and base models, which the methods take turns with."""
    return Assets(small("sft"))


@pytest.fixture(params=METHODS)
def assets(request, first):
    settings = small(request.param)
    models = {name: first.pool.model(name) for name in settings.scenario.models}
    return Assets(settings, benchmark=first.benchmark, models=models)


@pytest.fixture
def adapters(assets):
    made = AdapterFactory(assets)
    yield made
    made.detach()


def test_a_round_and_the_next(assets, adapters):
    method, context = assets.method, ServerContext(assets, adapters)
    uploads = []
    for number in (0, 1, 2):
        participant = Participant(assets, adapters, number)
        upload, meter, _ = participant.train(participant.client(1), {})
        assert meter.flops > 0
        shapes = method.upload_shapes(participant.adapter)
        assert shapes.keys() >= set(method.needed)
        content = wire.pack({}, upload.tensors)
        sent = wire.unpack(content, shapes, sender="x", complete=not method.elastic, elastic=method.elastic)
        uploads.append(dataclasses.replace(upload, tensors=sent, round=1))
    downloads = context.aggregate(Uploads(uploads), {}, 2).downloads
    participant = Participant(assets, adapters, 0)
    allowed = method.download_shapes(participant.adapter)
    download = wire.unpack(wire.pack({}, downloads.get(0, {})), allowed, sender="x", elastic=method.elastic)
    client = participant.client(2)
    method.receive(client, download)
    client.timed(lambda each: method.train(each, each.budget()))
    samples = assets.benchmark.task("trend@lines").test[:4]
    with method.answering(client) as model, torch.inference_mode():
        answers = model.answer_logits(model.collate(samples))
    assert answers.logits.isfinite().all()
    state = client.state()
    again = participant.client(2)  # in the same adapter modules
    again.restore(state)
    with method.answering(again) as model, torch.inference_mode():
        assert torch.equal(model.answer_logits(model.collate(samples)).logits, answers.logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fedavg", "fedmosaic", "feddpa", "hetlora", "nefl"])
def test_every_method_trains_a_tower_adapter_and_sends_it(first, name):
    settings = small(name)
    settings = settings.model_copy(update={"adapter": settings.adapter.model_copy(update={"tower_rank": 256})})
    models = {model: first.pool.model(model) for model in settings.scenario.models}
    assets = Assets(settings, benchmark=first.benchmark, models=models)
    adapters, uploads = AdapterFactory(assets), []
    try:
        for number in (1, 2):
            participant = Participant(assets, adapters, number)
            uploads.append(dataclasses.replace(participant.train(participant.client(1), {}).upload, round=1))
        names = [{name for name in upload.tensors if name.startswith("tower.")} for upload in uploads]
        towers = [{name for name in each if name.endswith((".P", ".Q"))} for each in names]
        assert len(towers[0]) == 2
        assert towers[0] == towers[1]  # of two architectures
        assert all(upload.tensors[name].abs().max() > 0 for upload in uploads for name in towers[0])
        client = Participant(assets, adapters, 1).client(2)
        downloads = ServerContext(assets, adapters).aggregate(Uploads(uploads), {}, 2).downloads
        assets.method.receive(client, downloads.get(1, {}))
        client.timed(lambda each: assets.method.train(each, each.budget()))
        samples = assets.benchmark.task("trend@lines").test[:3]
        with assets.method.answering(client) as model, torch.inference_mode():  # of feddpa with weights by sample
            assert model.answer_logits(model.collate(samples)).logits.isfinite().all()
    finally:
        adapters.detach()
