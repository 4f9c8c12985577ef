"""Synthetic run folders, written by the code that writes real ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from fedmosaic.config import ClientSpec, RunSettings, Scenario
from fedmosaic.config.settings import EvaluationSettings, ParticipationSettings
from fedmosaic.evaluation import Measurement
from fedmosaic.federation import participation
from fedmosaic.federation.callbacks import Checkpoint, Measured, RoundStart
from fedmosaic.federation.event_log import headline
from fedmosaic.federation.history import RunHistory
from fedmosaic.federation.results import ExchangeCosts, Missing
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.relevance import relevance_weights

MODELS = ("tiny-llama", "tiny-qwen2", "tiny-gemma")
MakeRun = Callable[..., Path]


def make_run(
    path: Path,
    *,
    clients: int = 4,
    rounds: int = 8,
    upto: int | None = None,
    method: str = "fedmosaic",
    gain: float = 0.3,
    relevance: bool = True,
    others_every: int = 1,
    seed: int = 0,
    name: str = "mosaic40-small",
    title: str = "Four clients, three base models",
    tasks: int = 2,
    task_prefix: str = "task",
    models: tuple[str, ...] = MODELS,
    leaves: Mapping[int, int] | None = None,
    joins: Mapping[int, int] | None = None,
    fraction: float = 1.0,
    exchange: float | None = None,
    missing: Sequence[Missing] = (),
    steps: int = 25,
    split: Literal["test", "validation"] = "test",
) -> Path:
    """Write a run: scores grow from chance by ``gain``; ``upto`` less than ``rounds`` leaves the run unfinished.

    ``leaves`` and ``joins`` are rounds by client, ``fraction`` the share of the clients there that trains in a round.
    ``exchange`` is what the last exchange adds to every score (0: nothing was sent); None: there was none.
    ``missing`` says who was missing when, ``steps`` how many a client took in a round, ``split`` what scored it.
    """
    specs = [
        ClientSpec(
            id=k,
            model=models[k % len(models)],
            tasks=tuple(f"{task_prefix}-{k}{chr(97 + t)}" for t in range(tasks)),
            leaves=(leaves or {}).get(k, 0),
            joins=(joins or {}).get(k, 1),
        )
        for k in range(clients)
    ]
    scenario = Scenario(name=name, title=title, clients=tuple(specs))
    settings = RunSettings(
        scenario=scenario,
        method=method,
        rounds=rounds,
        seed=seed,
        participation=ParticipationSettings(fraction=fraction),
        evaluation=EvaluationSettings(split=split),
    )
    folder = RunFolder.create(path, settings)
    rng = random.Random(f"{seed} {method}")
    progress = RunHistory({spec.id: list(spec.tasks) for spec in specs})
    last = rounds if upto is None else upto
    for round_ in range(last + 1):
        if round_:
            folder.log(RoundStart(round_, rounds))
            away = {each.client for each in missing if (each.exchange, each.round) == ("training", round_)}
            here = set(participation.participants(settings, round_)) - away
            for spec in [each for each in specs if each.id in here]:
                done = {"loss": 2.0 / (1 + round_) + rng.random() / 10, "flops": 1.5e11, "seconds": 1.25}
                done["steps"] = steps
                progress.add_training(spec.id, round_, done, up=120_000, down=80_000)
            progress.round = round_
        measured = _measure(scenario, round_, rounds, gain, rng, others=round_ % others_every == 0)
        unmeasured = {each.client for each in missing if (each.exchange, each.round) == ("evaluation", round_)}
        there = [each for each in participation.present(settings, round_) if each not in unmeasured]
        for each in [each for each in missing if each.round == round_]:
            folder.log(each)
            progress.missing.append(each)
        progress.history.append(Measurement(round_, {each: measured.scores[each] for each in there}))
        folder.log(headline(Measured.from_scores(progress.history[-1], progress.tasks)))
        folder.log(Checkpoint(round_))
        if relevance and 0 < round_ < rounds:
            _relevance(folder, round_, scenario, rng)
    progress.seconds = 83.4
    folder.write_rounds(progress.rows())
    folder.write_scores(_samples(progress.history[0]), when="start")
    if last == rounds:
        samples = _samples(progress.history[-1])
        folder.write_scores(samples)
        if exchange is not None:
            after = {k: {task: (s[0] + exchange,) for task, s in tasks.items()} for k, tasks in samples.items()}
            folder.write_scores(after, when="exchanged")
            costs = ExchangeCosts(0.0, len(after), 80_000.0, 80_000 * len(after)) if exchange else None
            progress.exchanged = progress.exchanged_scores(after, costs)
        folder.write_results(progress.results(settings, samples))
    return path


def _samples(measured: Measurement) -> dict[int, dict[str, tuple[float, ...]]]:
    """One sample for each task, which scores what the task does."""
    return {client: {task: (score,) for task, score in tasks.items()} for client, tasks in measured.scores.items()}


def _measure(
    scenario: Scenario, round_: int, rounds: int, gain: float, rng: random.Random, *, others: bool
) -> Measurement:
    scores: dict[int, dict[str, float]] = {}
    for spec in scenario.clients:
        wanted = scenario.task_names if others else list(spec.tasks)
        scores[spec.id] = {
            task: 0.3
            + (gain if task in spec.tasks else gain / 4) * (round_ / rounds) ** 0.5
            + rng.uniform(-0.04, 0.04)
            + 0.15 * spec.id / len(scenario.clients)
            for task in wanted
        }
    return Measurement(round_, scores)


def _relevance(folder: RunFolder, round_: int, scenario: Scenario, rng: random.Random) -> None:
    count = len(scenario.clients)
    similarity = torch.tensor([[rng.uniform(-0.2, 0.9) for _ in range(count)] for _ in range(count)])
    similarity = ((similarity + similarity.T) / 2).fill_diagonal_(1.0)
    folder.write_relevance(round_, relevance_weights(similarity, temperature=0.5), similarity)


@pytest.fixture(name="make_run")
def _make_run(tmp_path: Path) -> MakeRun:
    """``make_run`` below the test's temporary folder: ``make_run("name", ...)``."""

    def make(folder: str = "run", /, **options: Any) -> Path:
        return make_run(tmp_path / folder, **options)

    return make
