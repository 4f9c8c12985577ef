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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from _deployed import Deployed, deployed, fedmosaic, until
from _kills import TIMES, differences, leftovers, tiny

from fedmosaic.config import RunSettings
from fedmosaic.federation import RunFolder, engines
from fedmosaic.federation.submission import Submission
from fedmosaic.io import load_tensors

CLIENTS = ("clinic", "lab")
KINDS = ("superlink", "server-superexec", "serverapp", "supernode", "superexec", "clientapp", "resident", "submitter")
KINDS += ("server", "node")
ROUNDS = 2
PATIENCE = 900.0
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

    def last_event(self) -> str:
        """What the server's event log tells last."""
        lines = (self.served / "events.jsonl").read_text().splitlines() if self.served.exists() else []
        last = json.loads(lines[-1]) if lines else {}
        return f"{last.get('event', 'nothing')} {last.get('round', '')}".strip()

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
    number: int, attempts: Attempts, tally: Tally, deck: list[str], dice: random.Random, whole: float
) -> None:
    """Kill programs of one run until the deck is empty or the run is done."""
    last: Kill | None = None
    moment = dice.uniform(1.0, whole)
    deadline = time.monotonic() + PATIENCE
    while True:
        if attempts.ended():
            if attempts.command.returncode == 0:
                return
            if last is not None and not last.resumed:
                last.resumed = True
                last.seconds_lost = round(time.monotonic() - attempts.began - last.seconds, 1)
            attempts.go_on()
            moment = dice.uniform(1.0, whole)
            time.sleep(1.0)
        if time.monotonic() > deadline:
            raise TimeoutError(f"run {number} has not ended {PATIENCE:.0f} s after {last}: {attempts.said()}")
        if deck and time.monotonic() - attempts.began > moment:
            kind, client, after = deck.pop(), dice.choice(CLIENTS), attempts.last_event()
            if count := attempts.kill(kind, client):
                last = Kill(number, kind, count, round(time.monotonic() - attempts.began, 1), after)
                tally.kills.append(last)
                print(json.dumps(asdict(last)), flush=True)
                deadline = time.monotonic() + PATIENCE
            else:
                deck.append(kind)
            moment += dice.uniform(whole / 4, whole)
        time.sleep(0.1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make runs and kill their programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", type=float, help="seconds of a run that is not killed; default: it is made first")
    parser.add_argument("--out", type=Path, help="results file")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the programs end with this one
    dice, tally = random.Random(asked.seed), Tally()
    deck: list[str] = []
    while len(deck) < asked.kills:
        deck += dice.sample(asked.kinds, len(asked.kinds))
    deck = deck[: asked.kills]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["FEDMOSAIC_HOME"] = str(folder / "cache")
        (folder / "cache").mkdir()
        here = tiny(folder / "data", overrides=OVERRIDES, rounds=ROUNDS)
        engines.run(here, RunFolder.create(folder / "reference", here))
        settings = tiny(folder / "data", overrides=OVERRIDES, rounds=ROUNDS, engine="deployment")
        with deployed(folder / "deployed", CLIENTS, cache=folder / "cache", data=folder / "data") as running:
            try:
                whole = asked.whole
                for number in range(1 + asked.kills):
                    attempts = Attempts(running, settings, folder / f"run-{number}")
                    if whole is None:
                        until(attempts.ended, PATIENCE)
                        whole = time.monotonic() - attempts.began
                    else:
                        killed_run(number, attempts, tally, deck, dice, whole)
                    different = attempts.different(folder / "reference")
                    tally.endings += 1
                    tally.equal += not different
                    tally.failures += [f"run {number}: {each}" for each in different]
                    about = {"seed": asked.seed, "seconds_of_a_whole_run": round(whole, 1), "load": os.getloadavg()[0]}
                    tally.write(asked.out, command="python benchmarks/kill_deployment.py", **about)
                    if not deck:
                        break
            except BaseException:
                print(running.tails(), flush=True)
                raise


if __name__ == "__main__":
    main()
