"""What hostile uploads do to honest clients, with and without robust rules of aggregation (docs/robust.md).

    python benchmarks/attacks.py                     every cell that results/attacks.json lacks, then the tables
    python benchmarks/attacks.py --method fedavg     of one method; several processes may share the work
    python benchmarks/attacks.py --drift             only how far downloads are moved: seconds, not minutes
    python benchmarks/attacks.py --show              the tables alone

All cells of a method begin after the same honest rounds. Then the attackers send what their attack makes of their last
honest upload; honest clients receive, train a round and are scored after training, as in the published protocol. Who
attacks first is fixed. Self and Others are those of the six clients that are honest in every cell, so cells compare.

Drift is how far an attacked download lies from the mean's download without the attackers, as a share of the distance of
the client's own upload from that: 0 is no harm, at 1 the client could as well keep what it has.
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
SHARES = (0, 40, 20, 10)  # %
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


ATTACKS = {"cloned": cloned, "scaled": scaled, "flipped": flipped, "random": random}
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
    """All, the most telling first."""
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

    def drift(self, cell: Cell) -> float:
        """Return the mean drift of the downloads of the clients that are never hostile."""
        hostile = self._hostile(cell)
        alone = Uploads(upload for client, upload in self.uploads.items() if client not in hostile)
        clean = self._server("mean", 0.0).aggregate(alone, {}, HONEST_ROUNDS + 1).downloads
        server = self._server(cell.rule, RULES[cell.rule])
        moved = server.aggregate(self._poisoned(cell, self.uploads, hostile), {}, HONEST_ROUNDS + 1).downloads
        honest = [client for client in self.clients if client not in ATTACKERS]
        own = {client: self.uploads[client].tensors for client in honest}
        shares = [distance(moved[client], clean[client]) / distance(own[client], clean[client]) for client in honest]
        return float(f"{fmean(shares):.3g}")

    def _hostile(self, cell: Cell) -> tuple[int, ...]:
        return ATTACKERS[: round(len(self.clients) * cell.share / 100)]

    def attacked(self, cell: Cell) -> dict[str, float]:
        """Return Self and Others of the clients that are never hostile."""
        hostile = self._hostile(cell)
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


def distance(one: Tensors, other: Tensors) -> float:
    """Return the Euclidean one over the tensors of the second."""
    return float(sum((one[name] - tensor).double().square().sum() for name, tensor in other.items()) ** 0.5)


# ---- results -------------------------------------------------------------------------------------------------------


def known() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    return found


def keep(cell: Cell, scores: dict[str, float]) -> None:
    with (Path(tempfile.gettempdir()) / "fedmosaic-attacks.lock").open("w") as lock:  # another process may write, too
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = known()
        table = found | {cell.key: found.get(cell.key, {}) | scores}
        write_atomically(RESULTS, (json.dumps(dict(sorted(table.items())), indent=1) + "\n").encode())


def table(show: Callable[[dict[str, float]], str]) -> str:
    """One line for each method, attack and share, one column for each rule."""
    found = known()
    names = " | ".join(f"`{rule}`" for rule in RULES)
    lines = [f"| method | attack | attackers | {names} |", "|---|---|---:|" + "---:|" * len(RULES)]
    for method in OF_METHOD:
        rows = dict.fromkeys((cell.attack, cell.share) for cell in cells(method))
        for attack, share in sorted(rows, key=lambda row: (list({"none": 0, **ATTACKS}).index(row[0]), row[1])):
            shown = [show(found.get(Cell(method, attack, share, rule).key, {})) for rule in RULES]
            if any(shown):
                lines.append(f"| `{method}` | {attack} | {share} % | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def shown_scores(cell: dict[str, float]) -> str:
    return f"{100 * cell['self']:.1f} / {100 * cell['others']:.1f}" if "self" in cell else ""


def shown_drift(cell: dict[str, float]) -> str:
    drift = cell.get("drift")
    return "" if drift is None else f"{drift:.0f}" if drift >= 10 else f"{drift:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=list(OF_METHOD), action="append", help="default: all")
    parser.add_argument("--drift", action="store_true", help="score nothing")
    parser.add_argument("--show", action="store_true", help="run nothing")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for method in () if asked.show else asked.method or OF_METHOD:
        measured = ("drift",) if asked.drift else ("drift", "self")
        missing = {each: [cell for cell in cells(method) if each not in known().get(cell.key, {})] for each in measured}
        if any(missing.values()):
            federation = Federation(method)
            for cell in missing["drift"]:
                keep(cell, {"drift": federation.drift(cell)})
            for cell in missing.get("self", ()):
                before = time.process_time()
                keep(cell, federation.attacked(cell))
                print(f"{cell.key}: {known()[cell.key]}, {time.process_time() - before:.1f} CPU-s", flush=True)
    print(f"Drift\n\n{table(shown_drift)}\n\nSelf / Others (%)\n\n{table(shown_scores)}")


if __name__ == "__main__":
    main()
