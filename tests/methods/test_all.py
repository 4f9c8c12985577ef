"""Every registered method in the real surroundings: base models, streams, wire, server."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tests.federation.scenario import small

from fedmosaic.federation import RunFolder, engines, wire
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.methods.base import Uploads
from fedmosaic.methods.registry import method_classes

METHODS = sorted(method_classes())


@pytest.fixture(scope="module")
def first():
    """A machine whose data and base models the methods take turns with."""
    return Runtime(small("sft"), Path("unused"))


@pytest.fixture(params=METHODS)
def machine(request, first):
    made = Runtime(small(request.param), Path("unused"))
    made.benchmark = first.benchmark
    made.pool._models = first.pool._models
    yield made
    for adapter in made.pool._adapters.values():
        adapter.detach()


def test_a_round_and_the_next(machine):
    method, context = machine.method, ServerContext(machine.settings)
    context._machine.benchmark = machine.benchmark
    uploads = []
    for number in (0, 1, 2):
        participant = Participant(machine, number)
        upload, meter, _ = participant.dry_round()
        assert meter.flops > 0
        shapes = method.upload_shapes(participant.adapter)
        content = wire.pack({}, upload.tensors)
        sent = wire.unpack(content, shapes, sender="x", complete=not method.elastic, elastic=method.elastic)
        uploads.append(dataclasses.replace(upload, tensors=sent, round=1))
    downloads = context.aggregate(Uploads(uploads), {}, 2).downloads
    participant = Participant(machine, 0)
    allowed = method.download_shapes(participant.adapter)
    download = wire.unpack(wire.pack({}, downloads.get(0, {})), allowed, sender="x", elastic=method.elastic)
    client = participant._client(2)
    method.receive(client, download)
    client.timed(lambda each: method.train(each, each.budget()))
    samples = machine.benchmark.task("trend@lines").test[:4]
    with method.answering(client) as model, torch.inference_mode():
        answers = model.answer_logits(model.collate(samples))
    assert answers.logits.isfinite().all()
    state = client.state()
    again = participant._client(2)  # in the same adapter modules
    again.restore(state)
    with method.answering(again) as model, torch.inference_mode():
        assert torch.equal(model.answer_logits(model.collate(samples)).logits, answers.logits)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_whole_run_keeps_the_contract(tmp_path, method):
    settings = small(method, rounds=2)
    folder = RunFolder.create(tmp_path / "run", settings)
    engines.run(settings, folder)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["method"] == method
    assert 0 <= results["self"]["last"] <= 1
    assert results["flops"] > 0
    assert (results["bytes_up"] > 0) == (method != "sft")
