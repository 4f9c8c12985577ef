"""How does a deployed run end whose programs are killed at random moments? Flower's real programs, TLS and keys.

    python benchmarks/kill_deployment.py --kills 12 --out results/kill-deployment.json

A server and two nodes, as ``fedmosaic deploy init`` writes them, on loopback. At seeded random moments one program, or
all of one machine, gets SIGKILL; it is started again as the systemd units do it. Where the run fails, it is resumed as
a user would. Every run is gone on with until it is done, and compared with the same run in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from _deployed import Deployed, deployed, fedmosaic
from _kills import TIMES, differences, leftovers, tiny

from fedmosaic.config import RunSettings
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.event_log import Line
from fedmosaic.federation.submission import Submission
from fedmosaic.io import load_tensors

CLIENTS = ("clinic", "lab")
KINDS = ("superlink", "server-superexec", "serverapp", "supernode", "superexec", "clientapp", "resident", "submitter")
KINDS += ("server", "node")
ROUNDS = 2
PATIENCE = 900.0
LINES, SECONDS = 6, 8.0
OVERRIDES = ["method.privacy.reproducible_noise=true"]  # else each node draws it from its own secret


@dataclass
class Kill:
    """One kill.

    Attributes:
        run: number of the run.
        what: kind of the programs.
        processes: how many were killed.
        seconds: after the command was started.
        after: what the server's event log told last.
        resumed: whether the run failed of it, so that it was resumed.
        seconds_lost: from the kill to when the command that it has ended was started again; 0: none has ended.
    """

    run: int
    what: str
    processes: int
    seconds: float
    after: str
    resumed: bool = False
    seconds_lost: float = 0.0


@dataclass
class Tally:
    """What was done, and how it ended."""

    kills: list[Kill] = field(default_factory=list)
    endings: int = 0
    equal: int = 0
    failures: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path | None) -> Tally:
        """Return what a results file holds, so that it is gone on with; nothing if there is none."""
        if path is None or not path.exists():
            return cls()
        table = json.loads(path.read_text())
        kills = [Kill(**each) for each in table["kills"]]
        return cls(kills, table["endings"], table["equal"], table["failures"])

    def write(self, path: Path | None, **more: object) -> None:
        """Print the state and write it."""
        table = {**more, **asdict(self)}
        print(json.dumps({**table, "kills": len(self.kills)}), flush=True)
        if path is not None:
            path.write_text(json.dumps({**table, "kills": [asdict(each) for each in self.kills]}, indent=1) + "\n")


class Attempts:
    """One run, and the commands that make it and go on with it.

    Args:
        running: the federation.
        settings: of the run.
        out: its folder, on the machine that submits.
    """

    def __init__(self, running: Deployed, settings: RunSettings, out: Path) -> None:
        self._running = running
        self._settings = settings
        self.out = out
        folder = RunFolder.create(out, settings)
        self.key = Submission("federation").keep(folder).key
        self._log = out.with_suffix(".log")
        self.go_on()

    @property
    def served(self) -> Path:
        """The run's folder on the server."""
        return self._running.served / self.key

    def go_on(self) -> None:
        """Start the command, or start it again."""
        self.began = time.monotonic()
        with self._log.open("ab") as log:
            self.command = subprocess.Popen(
                fedmosaic("run", "--resume", "--out", self.out), env=self._running.environment, stdout=log, stderr=log
            )

    def ended(self) -> bool:
        """Look after the programs, and return whether the command has ended."""
        self._running.look_after()
        return self.command.poll() is not None

    def said(self) -> str:
        """What the commands have printed last."""
        return self._log.read_text()[-400:]

    def events(self) -> list[Line]:
        """What the server's event log tells."""
        return list(RunFolder(self.served).events()) if (self.served / "events.jsonl").exists() else []

    def kill(self, kind: str, client: str) -> int:
        """Kill what is there of a kind, as soon as something is, and return how many processes it was."""
        if kind == "submitter":
            self.command.kill()
            return 1
        found = []
        while not found and not self.ended():
            found = self._running.processes(kind, client)
        for each in found:
            os.kill(each.pid, signal.SIGKILL)
        return len(found)

    def different(self, reference: Path) -> list[str]:
        """Return what differs from the run that nobody killed."""
        found = differences(self.out, reference, apart=(*TIMES, "engine"), clients=False)
        for place, client in enumerate(CLIENTS):
            name = f"client-{place:03d}"
            there = self._running.private(client) / self.key / name
            found += [f"{client}: {each}" for each in differing_states(there, reference / "clients" / name)]
        for folder in (self.served, *(self._running.private(client) / self.key for client in CLIENTS)):
            found += leftovers(folder)
        return found


def differing_states(folder: Path, reference: Path) -> list[str]:
    """Return the names of a client's states that are not bit for bit those of the reference."""
    return [
        path.name
        for path in sorted(reference.glob("round-*.safetensors"))
        if not (folder / path.name).is_file() or different_tensors(folder / path.name, path)
    ]


def different_tensors(one: Path, other: Path) -> bool:
    """Return whether two files hold other tensors; the order in a file's header is by chance."""
    ours, theirs = load_tensors(one), load_tensors(other)
    return ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours)


def killed_run(
    tally: Tally, attempts: Attempts, deck: list[str], dice: random.Random, write: Callable[[], None]
) -> None:
    """Kill programs of one run until the deck is empty or the run is done.

    A moment is some seconds after a number of further lines in the server's event log: a busy machine does not make all
    kills hit programs that are only starting.

    Args:
        tally: gets the kills.
        attempts: the run.
        deck: kinds that are still to be killed, the next one first.
        dice: draws moments and clients.
        write: keeps the tally.

    Raises:
        TimeoutError: the run does not end.
    """
    last: Kill | None = None
    lines, ready = dice.randrange(LINES), float("inf")
    deadline = time.monotonic() + PATIENCE
    while True:
        if attempts.ended():
            if attempts.command.returncode == 0:
                return
            if last is not None and not last.resumed:
                last.resumed = True
                last.seconds_lost = round(time.monotonic() - attempts.began - last.seconds, 1)
            attempts.go_on()
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ended {PATIENCE:.0f} s after {last}: {attempts.said()}")
        if deck and ready == float("inf") and len(attempts.events()) >= lines:
            ready = time.monotonic() + dice.uniform(0, SECONDS)
        if deck and time.monotonic() > ready:
            client, events = dice.choice(CLIENTS), attempts.events()
            if count := attempts.kill(deck[0], client):
                after = str(events[-1].what)[:100] if events else "nothing"
                last = Kill(tally.endings, deck.pop(0), count, round(time.monotonic() - attempts.began, 1), after)
                tally.kills.append(last)
                write()
                deadline = time.monotonic() + PATIENCE
            lines, ready = len(events) + dice.randrange(1, LINES), float("inf")
        time.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make runs and kill their programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="results file; one that is there is gone on with")
    parser.add_argument("--folder", type=Path, help="keeps data, models and the reference; default: a temporary one")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the programs end with this one
    with tempfile.TemporaryDirectory() as name:
        measure(asked, Path(name), (asked.folder or Path(name)).resolve())


def measure(asked: argparse.Namespace, scratch: Path, kept: Path) -> None:
    """Make runs in a scratch folder until there are enough kills; the reference is kept."""
    tally = Tally.read(asked.out)
    dice = random.Random(f"{asked.seed} {len(tally.kills)}")
    deck = drawn(asked.kinds, asked.kills, random.Random(asked.seed))[len(tally.kills) :]
    cache, data, reference = kept / "cache", kept / "data", kept / "reference"
    cache.mkdir(parents=True, exist_ok=True)
    os.environ["FEDMOSAIC_HOME"] = str(cache)
    here = tiny(data, overrides=OVERRIDES, rounds=ROUNDS)
    engines.run(here, RunFolder(reference) if reference.exists() else RunFolder.create(reference, here))
    settings = tiny(data, overrides=OVERRIDES, rounds=ROUNDS, engine="deployment")
    with deployed(scratch / "deployed", CLIENTS, cache=cache, data=data) as running:
        try:
            while deck:
                attempts = Attempts(running, settings, scratch / f"run-{tally.endings}")
                killed_run(tally, attempts, deck, dice, partial(keep, tally, asked))
                different = attempts.different(reference)
                tally.failures += [f"run {tally.endings}: {each}" for each in different]
                tally.endings += 1
                tally.equal += not different
                keep(tally, asked)
        except BaseException:
            print(running.tails(), flush=True)
            raise


def drawn(kinds: Sequence[str], count: int, dice: random.Random) -> list[str]:
    """Return what is killed one after the other: every kind in turn, in an order of its own each time."""
    deck: list[str] = []
    while len(deck) < count:
        deck += dice.sample(list(kinds), len(kinds))
    return deck[:count]


def keep(tally: Tally, asked: argparse.Namespace) -> None:
    """Print and write what was done up to now."""
    kinds = "" if asked.kinds == list(KINDS) else f" --kinds {' '.join(asked.kinds)}"
    command = f"python benchmarks/kill_deployment.py --kills {asked.kills}{kinds} --seed {asked.seed}"
    tally.write(asked.out, command=command, load=round(os.getloadavg()[0], 1))


if __name__ == "__main__":
    main()
