"""Whole runs with clients side by side: they end as without, bit for bit the same again, and also after a stop."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from tests.federation.scenario import small

from fedmosaic.config import resolve
from fedmosaic.errors import SettingsError
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.grid import InProcessGrid
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.post import Post
from fedmosaic.io import load_tensors
from fedmosaic.training import LocalBatch
from fedmosaic.training import cohort as cohorts
from fedmosaic.training.cohort import Cohort


def states(path):
    files = sorted((path / "clients").glob("client-*/round-0003.safetensors"))
    assert len(files) == 4
    return {f"{file.parent.name}/{name}": tensor for file in files for name, tensor in load_tensors(file).items()}


def run(path, settings):
    folder = RunFolder.create(path, settings)
    engines.run(settings, folder)
    return states(path), folder.scores()


class StoppedError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedmosaic", "fedmosaic-proxy"])
def test_a_run_ends_as_without_a_cohort_and_goes_on_after_a_stop_to_the_same_bits(method, tmp_path, monkeypatch):
    settings = small(method, cohort=3)  # of four clients
    together, scores = run(tmp_path / "together", settings)
    alone, _ = run(tmp_path / "alone", small(method))
    assert together.keys() == alone.keys()
    for name, tensor in alone.items():  # each round begins from the rounding of the one before
        torch.testing.assert_close(together[name], tensor, atol=3e-5, rtol=1e-5, msg=partial("{1}: {0}".format, name))
    calls, step_together = 0, cohorts.step_together

    def failing(*args):
        nonlocal calls
        calls += 1
        if calls == 4:  # in the second round
            raise KeyboardInterrupt
        return step_together(*args)

    monkeypatch.setattr(cohorts, "step_together", failing)
    folder = RunFolder.create(tmp_path / "stopped", settings)
    with pytest.raises(KeyboardInterrupt):
        engines.run(settings, folder)
    monkeypatch.setattr(cohorts, "step_together", step_together)
    engines.run(settings, RunFolder.resume(tmp_path / "stopped", settings))
    again = states(tmp_path / "stopped")
    assert again.keys() == together.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in together.items())
    assert json.dumps(RunFolder(tmp_path / "stopped").scores()) == json.dumps(scores)


def without_images(client, batch):
    samples = [
        dataclasses.replace(each, images=(), prompt=each.prompt.replace("<image>", "")) for each in batch.samples
    ]
    return LocalBatch(samples, client.base.collate(samples))


@pytest.mark.slow
def test_a_tower_adapter_is_trained_by_each_clients_own_images(monkeypatch):
    settings = small("fedmosaic")
    settings = settings.model_copy(
        update={
            "adapter": settings.adapter.model_copy(update={"tower_rank": 16}),
            "training": settings.training.model_copy(update={"steps": 20}),
        }
    )
    found = []
    for together in (True, False):
        assets = Assets(settings)
        adapters = AdapterFactory(assets)
        original = assets.method.train

        def train(client, budget, original=original):
            batches = client.batches

            def some_without_images(budget):
                for step, batch in enumerate(batches(budget)):
                    yield without_images(client, batch) if client.id == 1 and step % 3 == 1 else batch

            client.batches = some_without_images
            original(client, budget)

        monkeypatch.setattr(assets.method, "train", train)
        participants = [Participant(assets, adapters, number) for number in (0, 1, 3)]
        works = [partial(lambda each: each.train(each.client(1), {}).state.tensors(), each) for each in participants]
        found.append(Cohort(3).run(works, raises=True) if together else [work() for work in works])
        adapters.detach()
    for one, other in zip(*found, strict=True):
        assert any("|tower." in name for name in other)
        for name, tensor in other.items():
            torch.testing.assert_close(one[name], tensor, atol=3e-5, rtol=1e-5, msg=partial("{1}: {0}".format, name))


def make_grid(answered, most):
    app = ClientApp()

    @app.train()
    def train(message, context):
        number = context.node_config["partition-id"]
        answered.append(number)
        if message.content["ask"]["fails"] == number:
            raise ValueError("/secret/path")
        return Message(RecordDict({"answer": ConfigRecord({"id": number})}), reply_to=message)

    nodes = [{"partition-id": number} for number in range(5)]
    return InProcessGrid(app, node_configs=nodes, run_config={}, catch=True, cohorts={"": Cohort(most)})


def test_messages_to_train_wait_for_each_other_and_answers_come_in_order():
    answered: list[int] = []
    grid = make_grid(answered, most=3)
    known = []

    def contents():
        for node in grid.get_node_ids():
            known.append(list(answered))
            yield node, RecordDict({"ask": ConfigRecord({"fails": 3})})

    answers = list(Post(grid).ask("train", contents(), round_=1))
    assert known == [[], [], [], [0, 1, 2], [0, 1, 2]]
    assert [answer.node for answer in answers] == list(grid.get_node_ids())
    assert [answer.content["answer"]["id"] for answer in answers if answer.content] == [0, 1, 2, 4]
    assert answers[3].why == "failed: ValueError"


@pytest.mark.parametrize("value", ["0", "-2", "1.5", "many", "true"])
def test_a_cohort_of_nobody_is_refused_in_one_line(value):
    with pytest.raises(SettingsError, match=r"cohort=.*expected off, auto, or how many") as error:
        resolve(small().scenario, overrides=[f"cohort={value}"])
    assert "\n" not in str(error.value)


def test_a_cohort_is_refused_where_clients_do_not_share_a_process_or_a_device(tmp_path):
    settings = small(engine="simulation", cohort=4)
    with pytest.raises(SettingsError, match="cohort=4 is not for engine 'simulation'"):
        engines.run(settings, RunFolder(tmp_path / "none"))
    with pytest.raises(SettingsError, match="choose one"):
        resolve(small().scenario, overrides=["cohort=4", "model.offload=true"])


def test_without_a_cohort_a_run_keeps_its_name():
    names = {small(cohort=cohort).digest for cohort in ("off", "auto", 4)}
    assert len(names) == 3 and small().digest in names
