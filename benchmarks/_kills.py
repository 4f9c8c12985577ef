"""Kill -9 a run at seeded random moments, go on with it until it is done, and compare it with one that nobody killed.

A moment is a write point (the process ends itself by SIGKILL instead of making its n-th call of ``os.replace``,
``os.fsync`` and the like; before a file is synced, it loses a random part of its content first, as in a power cut), or
CPU time (the process is killed from outside when it has used so much).
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fedmosaic.config import RunSettings, Scenario, resolve
from fedmosaic.federation import Assets, RunFolder, engines
from fedmosaic.io import load_tensors

TIMES = ("seconds", "train_seconds", "evaluation_seconds")
POINTS = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir", "open")
QUESTIONS = {
    "Capitals": [(f"what is the capital of land {n} ?", f"town {n}") for n in range(6)],
    "Colours": [(f"what color is thing {n} ? Choice list:[red, green, blue]", "red") for n in range(6)],
}


def tiny(folder: Path, method: str = "fedmosaic", **changes: object) -> RunSettings:
    """Return the settings of a run of two unlike embedded models on six questions each; its data are written."""
    for name, asked in QUESTIONS.items():
        records = [{"conversations": [{"value": question}, {"value": answer}]} for question, answer in asked]
        for split in ("train", "test"):
            path = folder / "dataset" / name / split / "dataset-0.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(records))
    scenario = Scenario(
        name="tiny",
        benchmark="published",
        data=str(folder),
        probe="tiny-llama",
        clients=[
            {"id": 0, "model": "tiny-llama", "tasks": ["Capitals-0"]},
            {"id": 1, "model": "tiny-llama", "tasks": ["Colours-0"]},
        ],
        settings={
            "rounds": 3,
            "training": {"steps": 1, "batch_size": 2},
            "adapter": {"blocks": 2, "rank": 2, "alignment": "none"},
        },
    )
    return resolve(scenario, method=method, **changes)


@dataclass
class Tally:
    """What was done, and how it ended.

    Attributes:
        kills: by where the process was.
        damaged: files that were changed or cut off after a kill.
        endings: runs that were done at last.
        equal: endings with the results, scores and client states of the run that nobody killed.
        failures: why a process ended otherwise.
    """

    kills: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    endings: int = 0
    equal: int = 0
    failures: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """For a results file."""
        counts = {"kills": sum(self.kills.values()), "at": dict(self.kills.most_common()), "damaged": self.damaged}
        return {**counts, "endings": self.endings, "equal": self.equal, "failures": self.failures}


@dataclass(frozen=True)
class Moment:
    """When a process is killed.

    Attributes:
        call: at which write point, from 1; 0 for none.
        seconds: after how much CPU time; infinite for never.
        lost: share of a file that is lost if it has not been synced.
    """

    call: int = 0
    seconds: float = float("inf")
    lost: float = 0.0


def forked(settings: RunSettings, path: Path, assets: Callable[[RunSettings], Assets], moment: Moment) -> str | None:
    """Run, or go on with, a run in a fork of this process.

    Returns:
        Where it was killed; None if it ended by itself.

    Raises:
        RuntimeError: it failed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(settings, path, assets, moment, writing)
    os.close(writing)
    status = ended(child, moment.seconds)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return told or "between writes"
    if status != 0:
        raise RuntimeError(told)
    return None


def _work(
    settings: RunSettings, path: Path, assets: Callable[[RunSettings], Assets], moment: Moment, writing: int
) -> None:
    try:
        die_at(moment, lambda text: os.write(writing, text.encode()))
        folder = RunFolder(path) if (path / "settings.toml").is_file() else RunFolder.create(path, settings)
        engines.run(settings, folder, assets=assets)
    except BaseException:
        os.write(writing, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)


def die_at(moment: Moment, tell: Callable[[str], object]) -> None:
    """Let this process end by SIGKILL at a write point."""
    count = 0

    def deadly(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            nonlocal count
            if name != "open" or args[1] & (os.O_WRONLY | os.O_RDWR):  # type: ignore[operator]
                count += 1
                if count == moment.call:
                    if name == "fsync" and (size := os.fstat(args[0]).st_size) and _is_file(args[0]):
                        os.ftruncate(args[0], int(size * (1 - moment.lost)))
                    tell(f"before {name}")
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    if moment.call:
        for name in POINTS:
            setattr(os, name, deadly(name))


def _is_file(descriptor: object) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").resolve().is_file()


def ended(child: int, seconds: float) -> int:
    """Wait for a child process and return its status; kill it when it has used so much CPU time."""
    while True:
        pid, status = os.waitpid(child, 0 if seconds == float("inf") else os.WNOHANG)
        if pid:
            return status
        if cpu_seconds(child) >= seconds:
            os.kill(child, signal.SIGKILL)
            seconds = float("inf")
        time.sleep(0.002)


def cpu_seconds(process: int) -> float:
    """Return the CPU time that a process has used."""
    entries = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(entries[11]) + int(entries[12])) / os.sysconf("SC_CLK_TCK")


def damage(path: Path, dice: random.Random) -> str:
    """Change one bit of, or cut off, one file that the last checkpoint needs; return which kind of file."""
    rounds = RunFolder(path).rounds_kept()
    if not rounds:
        return ""
    last = f"round-{rounds[0]:04d}"
    kinds = {
        "checkpoint": list((path / "checkpoints" / last).iterdir()),
        "upload": list((path / "uploads").glob(f"*/{last}.safetensors")),
        "client state": list((path / "clients").glob(f"*/{last}.safetensors")),
    }
    kind = dice.choice([kind for kind, files in kinds.items() if files])
    file = dice.choice(sorted(kinds[kind]))
    data = bytearray(file.read_bytes())
    if dice.random() < 0.5:
        data = data[: dice.randrange(len(data))]
    else:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    file.write_bytes(data)
    return kind


def differences(path: Path, reference: Path, *, apart: tuple[str, ...] = TIMES, clients: bool = True) -> list[str]:
    """Return the names of what differs between two finished runs, apart from times.

    Args:
        path: of the one.
        reference: of the other.
        apart: entries of ``results.json`` that may differ.
        clients: whether both hold the clients' states, too.
    """
    found = [name for name in ("scores.json", "rounds.csv") if _bytes(path / name) != _bytes(reference / name)]
    results = [json.loads((each / "results.json").read_text()) for each in (path, reference)]
    if len({json.dumps({key: value for key, value in each.items() if key not in apart}) for each in results}) > 1:
        found.append("results.json")
    if not clients:
        return found
    last = f"round-{results[1]['rounds']:04d}.safetensors"
    for kept in sorted(reference.glob(f"clients/*/{last}")):
        ours, theirs = load_tensors(path / kept.relative_to(reference)), load_tensors(kept)
        if ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours):
            found.append(str(kept.relative_to(reference)))
    return found


def leftovers(path: Path) -> list[str]:
    """Return what half-written files are left in a run's folder."""
    return [str(each.relative_to(path)) for each in path.rglob("*.part")]


def _bytes(path: Path) -> bytes:
    return path.read_bytes()
