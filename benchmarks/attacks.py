"""What hostile uploads do to honest clients, with and without robust rules of aggregation (docs/robust.md).

    python benchmarks/attacks.py                     every cell that results/attacks.json lacks, then the table
    python benchmarks/attacks.py --method fedavg     of one method; several processes may share the work
    python benchmarks/attacks.py --show              the table alone

All cells of a method begin after the same honest rounds. Then the attackers send what their attack makes of their last
honest upload; honest clients receive, train a round and are scored after training, as in the published protocol. Who
attacks first is fixed. Self and Others are those of the six clients that are honest in every cell, so cells compare.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from fedmosaic import seeding
from fedmosaic.config import RunSettings, load_scenario, resolve
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.evaluator import Evaluator
from fedmosaic.federation.participant import Participant
from fedmosaic.federation.server_context import ServerContext
from fedmosaic.io import write_atomically
from fedmosaic.methods.uploads import Tensors, Upload, Uploads
from fedmosaic.training import ClientState

RESULTS = Path(__file__).parents[1] / "results" / "attacks.json"
ATTACKERS = (7, 2, 5, 0)
SHARES = (0, 40, 20, 10)
RULES = {"mean": 0.0, "norm-bound": 0.4, "trimmed-mean": 0.2, "median": 0.4, "multi-krum": 0.4}
HONEST_ROUNDS, ATTACKED_ROUNDS, STEPS = 3, 1, 8
OWN_SAMPLES, OTHER_SAMPLES = 16, 3  # of each task


# ---- attacks: what is sent instead of an honest upload -------------------------------------------------------------


def scaled(mine: Upload, others: list[Upload]) -> Tensors:
    """A hundred times the own weights."""
    return _with_weights(mine, lambda _, tensor: 100 * tensor)


def flipped(mine: Upload, others: list[Upload]) -> Tensors:
    """The own update with the other sign: of a product of two matrices only one is negated."""
    return _with_weights(mine, lambda name, tensor: -tensor if name.endswith((".B", ".P", ".Q")) else tensor)


def random(mine: Upload, others: list[Upload]) -> Tensors:
    """Noise of ten times the weights' size."""
    noise = seeding.generator(0, "attack", mine.client, mine.round)

    def drawn(_: str, tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=noise) * 10 * tensor.square().mean().sqrt()

    return _with_weights(mine, drawn)


def cloned(mine: Upload, others: list[Upload]) -> Tensors:
    """``flipped``, with the sum of the others' sketches, so that everyone takes it for a near peer."""
    units = [upload.tensors["sketch"] / upload.tensors["sketch"].norm().clamp(min=1e-12) for upload in others]
    return {**flipped(mine, others), "sketch": torch.stack(units).sum(0)}


def _with_weights(mine: Upload, change: Callable[[str, Tensor], Tensor]) -> Tensors:
    return {name: each if name == "sketch" else change(name, each) for name, each in mine.tensors.items()}


ATTACKS = {"scaled": scaled, "flipped": flipped, "random": random, "cloned": cloned}
OF_METHOD = {"fedavg": ("scaled", "flipped", "random"), "fedmosaic": tuple(ATTACKS)}


@dataclass(frozen=True)
class Cell:
    """One number pair of the table."""

    method: str
    attack: str
    share: int
    rule: str

    @property
    def key(self) -> str:
        return f"{self.method} {self.attack} {self.share} {self.rule}"


def cells(method: str) -> Iterator[Cell]:
    for share, attack, rule in product(SHARES, OF_METHOD[method], RULES):
        if share or attack == OF_METHOD[method][0]:
            yield Cell(method, attack if share else "none", share, rule)


# ---- rounds --------------------------------------------------------------------------------------------------------


class Federation:
    """The clients of one method after the honest rounds."""

    def __init__(self, method: str) -> None:
        self.assets = Assets(self._settings(method))
        self.adapters = AdapterFactory(self.assets)
        ids = [spec.id for spec in self.assets.settings.scenario.clients]
        self.clients = {client: Participant(self.assets, self.adapters, client) for client in ids}
        names = self.assets.settings.scenario.task_names
        tasks = [self.assets.benchmark.task(name) for name in names]
        self.assets.pool.prepare(
            self.assets.settings.scenario.models, [s for task in tasks for s in (*task.train, *task.test[:OWN_SAMPLES])]
        )
        self.states: dict[int, ClientState] = {}
        self.uploads = Uploads([])
        for round_ in range(1, HONEST_ROUNDS + 1):
            self.states, self.uploads = self._round(round_, self.states, self.uploads, self._server("mean", 0.0), ids)

    def attacked(self, cell: Cell) -> dict[str, float]:
        """Return Self and Others of the clients that are never hostile."""
        hostile = ATTACKERS[: round(len(self.clients) * cell.share / 100)]
        honest = [client for client in self.clients if client not in hostile]
        server = self._server(cell.rule, RULES[cell.rule])
        states, uploads = self.states, self._poisoned(cell, self.uploads, hostile)
        for round_ in range(HONEST_ROUNDS + 1, HONEST_ROUNDS + ATTACKED_ROUNDS + 1):
            states, sent = self._round(round_, states, uploads, server, honest)
            uploads = self._poisoned(cell, self.uploads.updated(sent), hostile)
        return self._scores(states)

    def _round(
        self,
        round_: int,
        states: Mapping[int, ClientState],
        uploads: Uploads,
        server: ServerContext,
        training: list[int],
    ) -> tuple[dict[int, ClientState], Uploads]:
        downloads = server.aggregate(uploads, {}, round_).downloads if uploads else {}
        done = {}
        for number in training:
            me = self.clients[number]
            done[number] = me.train(me.client(round_, states.get(number)), downloads.get(number, {}))
        return {client: each.state for client, each in done.items()}, Uploads(each.upload for each in done.values())

    def _poisoned(self, cell: Cell, uploads: Uploads, hostile: tuple[int, ...]) -> Uploads:
        honest = [upload for client, upload in uploads.items() if client not in hostile]
        poisoned = [
            replace(uploads[client], tensors=ATTACKS[cell.attack](uploads[client], honest)) for client in hostile
        ]
        return Uploads([*honest, *poisoned])

    def _scores(self, states: Mapping[int, ClientState]) -> dict[str, float]:
        evaluator, names = Evaluator(self.assets, self.adapters), self.assets.settings.scenario.task_names
        own, others = [], []
        for number, me in self.clients.items():
            if number in ATTACKERS:
                continue
            client = me.client(HONEST_ROUNDS + ATTACKED_ROUNDS, states[number])
            with self.assets.method.answering(client) as model:
                mine = evaluator.scores(model, me.spec.tasks, OWN_SAMPLES)
                foreign = evaluator.scores(model, [task for task in names if task not in mine], OTHER_SAMPLES)
            own.append(fmean(score.mean for score in mine.values()))
            others.append(fmean(score.mean for score in foreign.values()))
        return {"self": round(fmean(own), 4), "others": round(fmean(others), 4)}

    def _server(self, rule: str, attackers: float) -> ServerContext:
        changed = {"aggregation": {"rule": rule, "attackers": attackers}}
        settings = RunSettings.model_validate(self.assets.settings.model_dump() | changed)
        return ServerContext(self.assets.with_settings(settings), self.adapters)

    @staticmethod
    def _settings(method: str) -> RunSettings:
        rounds = HONEST_ROUNDS + ATTACKED_ROUNDS
        return resolve(
            load_scenario("mosaic40-homo"), overrides=[f"training.steps={STEPS}"], method=method, rounds=rounds, seed=0
        )


# ---- results -------------------------------------------------------------------------------------------------------


def known() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    return found


def keep(cell: Cell, scores: dict[str, float]) -> None:
    with (Path(tempfile.gettempdir()) / "fedmosaic-attacks.lock").open("w") as lock:  # another process may write, too
        fcntl.flock(lock, fcntl.LOCK_EX)
        table = known() | {cell.key: scores}
        write_atomically(RESULTS, (json.dumps(dict(sorted(table.items())), indent=1) + "\n").encode())


def table() -> str:
    """One line for each method, attack and share; Self / Others by rule."""
    found = known()
    lines = ["| method | attack | attackers | " + " | ".join(RULES) + " |", "|---|---|---|" + "---|" * len(RULES)]
    for method in OF_METHOD:
        rows = dict.fromkeys((cell.attack, cell.share) for cell in cells(method))
        for attack, share in sorted(rows, key=lambda row: (list({"none": 0, **ATTACKS}).index(row[0]), row[1])):
            scores = [found.get(Cell(method, attack, share, rule).key) for rule in RULES]
            shown = [f"{100 * each['self']:.1f} / {100 * each['others']:.1f}" if each else "" for each in scores]
            lines.append(f"| {method} | {attack} | {share} % | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=list(OF_METHOD), action="append", help="default: all")
    parser.add_argument("--show", action="store_true", help="run nothing")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for method in () if asked.show else asked.method or OF_METHOD:
        missing = [cell for cell in cells(method) if cell.key not in known()]
        federation = Federation(method) if missing else None
        for cell in missing:
            before = time.process_time()
            assert federation is not None
            keep(cell, federation.attacked(cell))
            print(f"{cell.key}: {known()[cell.key]}, {time.process_time() - before:.1f} CPU-s", flush=True)
    print(table())


if __name__ == "__main__":
    main()
