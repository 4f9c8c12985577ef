"""How often does a run that is killed at random moments end with the results of one that nobody killed?

python benchmarks/kill_matrix.py --kills 100 --processes 10 --out results/kill-matrix.json

``--kills`` are of forks of this process, which has the libraries and models in memory, at write points and at CPU
times; ``--processes`` of ``fedmosaic run`` as a command, at CPU times. After some kills a file is damaged, too. Every
run is gone on with until it is done.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _kills import Moment, Tally, cpu_seconds, damage, differences, forked, leftovers, tiny

from fedmosaic import registry
from fedmosaic.config import RunSettings
from fedmosaic.federation import Assets, RunFolder, engines

METHODS = ("fedmosaic", "ditto", "feddpa", "fedmosaic-proxy")
DAMAGED = 0.3


def warm(settings: RunSettings) -> Callable[[RunSettings], Assets]:
    """Return what gives forks the assets of this process, first the server's and then the clients'."""
    server, clients = Assets(settings), Assets(settings)
    for name in settings.scenario.models:
        clients.pool.model(name)
    handed = iter((server, clients))
    return lambda _: next(handed)


def kill_forks(
    settings: RunSettings, reference: Path, work: Path, tally: Tally, kills: int, dice: random.Random
) -> None:
    """Kill forks of this process until there are so many kills more, and finish the last run."""
    assets = warm(settings)
    before, spent = os.times(), sum(tally.kills.values())
    forked(settings, work / "whole", assets, Moment())
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    if differences(work / "whole", reference):
        raise RuntimeError("a run in a fork differs from one in this process")
    while sum(tally.kills.values()) - spent < kills:
        path, whole = work / "run", True
        shutil.rmtree(path, ignore_errors=True)
        while True:
            by_time = dice.random() < 0.3
            moment = (
                Moment(seconds=dice.uniform(0, 1.3 * seconds))
                if by_time
                else Moment(call=dice.randrange(1, 180), lost=dice.random())
            )
            try:
                place = forked(settings, path, assets, moment)
            except RuntimeError as error:
                tally.failures.append(str(error))
                break
            if place is None:
                end(path, reference, tally)
                break
            tally.kills[place] += 1
            if whole and dice.random() < DAMAGED and (kind := damage(path, dice)):
                tally.damaged[kind] += 1
                whole = False


def kill_commands(
    settings: RunSettings, reference: Path, work: Path, tally: Tally, kills: int, dice: random.Random
) -> None:
    """Kill ``fedmosaic run`` until there are so many kills, and finish the last run."""
    seconds, spent = 8.0, 0
    while sum(tally.kills.values()) < kills:
        path = work / "command"
        shutil.rmtree(path, ignore_errors=True)
        RunFolder.create(path, settings)
        while True:
            command = [sys.executable, "-m", "fedmosaic", "run", "--resume", "--out", str(path), "--quiet"]
            child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            limit = dice.uniform(2.5, 1.3 * seconds) if sum(tally.kills.values()) < kills else float("inf")
            while child.poll() is None and cpu_seconds(child.pid) < limit:
                spent = cpu_seconds(child.pid)
                time.sleep(0.01)
            child.kill()
            _, error = child.communicate()
            if child.returncode == -signal.SIGKILL:
                done = RunFolder(path).rounds_kept()
                tally.kills[f"after round {done[0] if done else 0}"] += 1
                continue
            seconds = max(3.0, spent)
            if child.returncode:
                tally.failures.append(error)
            else:
                end(path, reference, tally)
            break


def end(path: Path, reference: Path, tally: Tally) -> None:
    """Count a run that is done."""
    tally.endings += 1
    found = differences(path, reference) + leftovers(path)
    tally.equal += not found
    if found:
        tally.failures.append(", ".join(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of forks, over all methods (default: 100)")
    parser.add_argument("--processes", type=int, default=10, help="kills of the command (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="results file")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    registry.entry_points = functools.cache(registry.entry_points)  # no package comes or goes here
    dice = random.Random(asked.seed)
    forks, commands = Tally(), Tally()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FEDMOSAIC_HOME"] = str(Path(folder, "home"))
        for number, method in enumerate(METHODS):
            work = Path(folder, method)
            settings = tiny(Path(folder, "data"), method)
            engines.run(settings, RunFolder.create(work / "reference", settings))
            share = asked.kills * (number + 1) // len(METHODS) - asked.kills * number // len(METHODS)
            kill_forks(settings, work / "reference", work, forks, share, dice)
            tell(forks, commands, asked.out)
        work = Path(folder, METHODS[0])
        kill_commands(tiny(Path(folder, "data")), work / "reference", work, commands, asked.processes, dice)
    tell(forks, commands, asked.out)


def tell(forks: Tally, commands: Tally, out: Path | None) -> None:
    """Print and write what was done up to now."""
    used = os.times()
    seconds = used.user + used.system + used.children_user + used.children_system
    table = {"forks": forks.as_json(), "commands": commands.as_json(), "cpu_seconds": round(seconds)}
    print(json.dumps(table), flush=True)
    if out is not None:
        out.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
