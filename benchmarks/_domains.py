"""What the relevance benchmarks share: what each client's probe sees in each round, without training anything.

The probe is frozen, so its sketches do not depend on what the clients train: they can be made before, exactly as a run
would make them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fedmosaic import seeding
from fedmosaic.api.reference import start_or_resume
from fedmosaic.config import RunSettings
from fedmosaic.data.sample import Sample
from fedmosaic.data.stream import Stream
from fedmosaic.federation import Assets, engines
from fedmosaic.models import BaseModel
from fedmosaic.relevance import Probe, SketchKind, cosine_similarity, make_sketch, probe_target


@dataclass(frozen=True)
class Seen:
    """One client's new samples in one round.

    Attributes:
        client, round: whose and when.
        skills, families: of the tasks whose samples arrive.
        samples: that arrive.
    """

    client: int
    round: int
    skills: frozenset[str]
    families: frozenset[str]
    samples: Sequence[Sample]


def finished(settings: RunSettings, path: Path) -> dict[str, Any]:
    """The results of a run; it goes on where its folder stands, and a finished one is not run again."""
    folder = start_or_resume(settings, path)
    if folder.results() is None:
        engines.run(settings, folder)
    results = folder.results()
    assert results is not None
    return results.as_json()


def probe_model(box: Assets) -> BaseModel:
    scenario = box.settings.scenario
    return box.pool.probe(scenario.probe or box.pool.smallest(scenario.models))


def arrivals(box: Assets, *, seed: int, rounds: int = 0) -> list[Seen]:
    """All clients' arrivals in all rounds, ordered by client, then round, as a run of this seed has them."""
    scenario, rounds = box.settings.scenario, rounds or box.settings.rounds
    found = []
    for client in scenario.clients:
        tasks = [box.benchmark.task(name) for name in client.tasks]
        stream = Stream(tasks, scenario.protocol, rounds, seeding.derive(seed, "stream", client.id))
        for round_ in range(1, rounds + 1):
            now = stream.tasks_at(round_)
            skills, families = frozenset(t.name.split("@")[0] for t in now), frozenset(t.family for t in now)
            found.append(Seen(client.id, round_, skills, families, stream.arrivals(round_)))
    return found


def make_probe(model: BaseModel, kind: SketchKind, *, size: int = 1024, ratio: float = 0.4, seed: int = 0) -> Probe:
    where = probe_target(model.decoder)
    sketch = make_sketch(kind, d_out=where.out_features, d_in=where.in_features, size=size, ratio=ratio, seed=seed)
    return Probe(model, sketch)


def running(seen: Sequence[Seen], released: Sequence[Tensor], ema: float = 0.5) -> Tensor:
    """(n, size) each client's running mean of its releases, in the order of ``seen``."""
    rows: list[Tensor] = []
    for here, release in zip(seen, released, strict=True):
        rows.append(release if here.round == 1 else torch.lerp(rows[-1], release, ema))
    return torch.stack(rows)


def same_skill(one: Seen, other: Seen) -> bool:
    return bool(one.skills & other.skills)


def same_family(one: Seen, other: Seen) -> bool:
    return bool(one.families & other.families)


def auc_by_round(seen: Sequence[Seen], sketches: Tensor, alike: Callable[[Seen, Seen], bool]) -> dict[int, float]:
    """AUC of telling pairs of clients whose current tasks are alike from other pairs; rounds that have both kinds."""
    similarity, table = cosine_similarity(sketches), {}
    for round_ in sorted({each.round for each in seen}):
        rows = [row for row, each in enumerate(seen) if each.round == round_]
        pairs = [(a, b) for i, a in enumerate(rows) for b in rows[:i]]
        truth = [alike(seen[a], seen[b]) for a, b in pairs]
        if len(set(truth)) == 2:
            table[round_] = float(roc_auc_score(truth, [float(similarity[a, b]) for a, b in pairs]))
    return table
