"""Finished runs of the field that are kept in the repository, so that any machine goes on from there.

``results/field/TABLE.jsonl.gz`` has a line for each run: settings, results and rounds, without the clients' states;
``TABLE-flops.json`` has the steps that were counted for each run of a table at equal FLOPs.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fedmosaic.data.mosaic40.build import CLIENTS_VERSION
from fedmosaic.data.words.benchmark import EDITION, WordsBenchmark
from fedmosaic.io import folder_written_atomically, write_atomically
from fedmosaic.models.vision_weights import ASSETS
from fedmosaic.registry import PACKAGED

RESULTS = Path(__file__).parents[1] / "results" / "field"
COUNTED = "equal-flops.json"
SETTINGS = "settings.toml"
FILES = (SETTINGS, "results.json", "rounds.csv")
CODE = 2  # to be raised when methods or budgets are changed so that runs with equal settings give other numbers


def edition(settings: str = "") -> str:
    """What a run depends on besides its settings, a TOML text: code, benchmark, embedded models and bases.

    Of the models from packages only those count that the settings name.
    """
    packaged = frozenset(name for name in PACKAGED if f'"{name}"' in settings)
    return _edition(packaged, words=f'benchmark = "{WordsBenchmark.name}"' in settings)


@cache
def _edition(packaged: frozenset[str], *, words: bool) -> str:
    digest = hashlib.sha256(bytes([CODE, CLIENTS_VERSION]))
    for path in sorted(ASSETS.rglob("*.safetensors")):
        if path.parent.name == "real":
            continue  # bases of packaged models: runs that are kept made the same ones themselves
        if path.parent.name not in PACKAGED or path.parent.name in packaged:
            digest.update(path.read_bytes())
    if words:
        digest.update(bytes([EDITION]))
    return digest.hexdigest()[:12]


def kept(table: str) -> Iterator[dict[str, Any]]:
    path = RESULTS / f"{table}.jsonl.gz"
    if path.is_file():
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from (run for run in map(json.loads, file) if run["edition"] == edition(run["files"][SETTINGS]))


def unpack(table: str, out: Path) -> None:
    """Lay out the kept runs as the folders of finished ones, and what was counted for them.

    Raises:
        SystemExit: the folder has runs of another edition, which would be kept as runs of this one.
    """
    _check_edition(out)
    counted = RESULTS / f"{table}-flops.json"
    if counted.is_file() and not (out / COUNTED).exists():
        found = json.loads(counted.read_text(encoding="utf-8"))
        if found["edition"] == edition():
            write_atomically(out / COUNTED, json.dumps(found["runs"], indent=1))
    for run in kept(table):
        target = out / run["name"]
        if not target.exists():
            with folder_written_atomically(target) as folder:
                for name, text in run["files"].items():
                    (folder / name).write_text(text, encoding="utf-8")


def _check_edition(out: Path) -> None:
    """The folder says which edition its runs are of: other code left others there, under the same names."""
    now, noted = _edition(frozenset(PACKAGED), words=True), out / "edition.txt"
    if not any(out.rglob(SETTINGS)):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(noted, now)
    there = noted.read_text(encoding="utf-8") if noted.is_file() else "an unknown edition"
    if there != now:
        raise SystemExit(f"{out} has runs of {there}, and this is {now}; give another --out, or delete the folder")


def pack(table: str, out: Path) -> int:
    """Keep all finished runs, and the comparison of them; return how many there are."""
    runs = {run["name"]: run for run in kept(table)}
    for done in sorted(out.rglob("results.json")):
        name = done.parent.relative_to(out).as_posix()
        files = {file: (done.parent / file).read_text(encoding="utf-8") for file in FILES}
        runs[name] = {"name": name, "edition": edition(files[SETTINGS]), "files": files}
    lines = "".join(json.dumps(runs[name]) + "\n" for name in sorted(runs))
    write_atomically(RESULTS / f"{table}.jsonl.gz", gzip.compress(lines.encode(), mtime=0))
    if (out / COUNTED).is_file():
        found = {"edition": edition(), "runs": json.loads((out / COUNTED).read_text(encoding="utf-8"))}
        write_atomically(RESULTS / f"{table}-flops.json", json.dumps(found, indent=1) + "\n")
    for name in ("comparison.json", "comparison.csv"):
        if (out / name).is_file():
            shutil.copy(out / name, RESULTS / f"{table}{Path(name).suffix}")
    return len(runs)
