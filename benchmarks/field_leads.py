"""How far one method leads each other of a table's kept runs, in seconds: nothing is run.

    python benchmarks/field_leads.py tower            # prints the table
    python benchmarks/field_leads.py tower --write    # and writes it into the page of docs that has its marks
    python benchmarks/field_leads.py tower --unseen   # the same of the tasks that no client trained on

Unseen tasks are scored by ``fedmosaic evaluate RUN --unseen``, with ``--after-exchange`` and without, before runs are
kept.

Two intervals of 95 % stand for two questions. Over tasks (bootstrap over seeds and tasks): would the lead be there with
other tasks of this kind? Over seeds (t interval of the differences of the seeds' means): would it be there on these
tasks with other seeds? Each comparison has the seeds that both methods have.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _kept_runs import kept

from fedmosaic.evaluation.statistics import mean_interval
from fedmosaic.experiments.comparison import PARTS
from fedmosaic.experiments.paired import Difference, paired_difference
from fedmosaic.io import write_atomically

DOCS = Path(__file__).parents[1] / "docs"
TITLES = {"self": "Self", "others": "Others", "unseen": "unseen"}

Runs = dict[int, dict[str, Any]]
"""Seed -> results of a run."""


def runs_of(table: str) -> dict[str, Runs]:
    """Variant -> its kept runs, the one with the most in Self and Others first."""
    found: dict[str, Runs] = defaultdict(dict)
    for run in kept(table):
        variant, _, seed = run["name"].rpartition("-seed")
        found[variant][int(seed)] = {**json.loads(run["files"]["results.json"]), "steps": steps_of(run)}
    return dict(
        sorted(found.items(), key=lambda item: -sum(statistics.fmean(points(item[1], part, "local")) for part in PARTS))
    )


def steps_of(run: Mapping[str, Any]) -> str:
    """Steps per round; of a proxy method those of the own and of the proxy model."""
    settings = tomllib.loads(run["files"]["settings.toml"])
    steps, own = settings["training"]["steps"], settings.get("method_settings", {})
    if "proxy_steps" in own:
        return f"{own.get('own_steps', 1) * steps:.0f} + {own['proxy_steps'] * steps:.0f}"
    return f"{steps:g}"


def scores(run: Mapping[str, Any], part: str, when: str) -> Mapping[str, Any]:
    """Scores of a part after local training ("local") or after the last exchange ("exchange")."""
    found: Mapping[str, Any] = _moment(run, when)[part]
    return found


def _moment(run: Mapping[str, Any], when: str) -> Mapping[str, Any]:
    """What was scored then; an exchange that changes no answer is not scored again."""
    exchange = run.get("final_exchange")
    return exchange if when == "exchange" and exchange and exchange["changed"] else run


def points(runs: Runs, part: str, when: str) -> list[float]:
    """Each seed's score of a part, in points."""
    return [100 * scores(run, part, when)["last"] for run in runs.values()]


def leads(ours: Runs, theirs: Runs, part: str, when: str) -> tuple[str, str]:
    """What the first is ahead of the second, in points: over seeds and tasks, and over seeds."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return "", ""
    sides = [[scores(runs[seed], part, when) for seed in seeds] for runs in (ours, theirs)]
    over_tasks = paired_difference(*([each["per_task"] for each in side] for side in sides)).in_points()
    differences = [a["last"] - b["last"] for a, b in zip(*sides, strict=True)]
    centre, half = mean_interval(differences)
    over_seeds = "" if len(seeds) < 2 else Difference(centre, centre - half, centre + half).in_points()
    return over_tasks, over_seeds


def examined(found: Mapping[str, Runs]) -> dict[str, Runs]:
    """The runs that have been scored on unseen tasks at both moments, the best first."""
    done = {
        variant: {
            seed: run
            for seed, run in runs.items()
            if all(_moment(run, when).get("unseen") for when in ("local", "exchange"))
        }
        for variant, runs in found.items()
    }
    scored = {variant: runs for variant, runs in done.items() if runs}
    return dict(sorted(scored.items(), key=lambda item: -statistics.fmean(points(item[1], "unseen", "local"))))


def show(found: Mapping[str, Runs], first: str, parts: Sequence[str]) -> str:
    columns = [name for part in parts for name in (TITLES[part], "lead, over tasks", "over seeds")]
    head = ["method", "steps", "seeds", *columns, "MB"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    names = titles(found)
    for when, title in (("local", "after local training"), ("exchange", "after the last exchange")):
        lines.append(f"| **{title}** |" + " |" * (len(head) - 1))
        for variant, runs in found.items():
            some = next(iter(runs.values()))
            cells = [names[variant], some["steps"], str(len(runs))]
            for part in parts:
                cells.append(spread(points(runs, part, when)))
                cells += ("", "") if variant == first else leads(found[first], runs, part, when)
            sent = statistics.fmean(run["total_bytes_up"] + run["total_bytes_down"] for run in runs.values())
            lines.append("| " + " | ".join([*cells, f"{sent / 1e6:.0f}" if when == "local" else ""]) + " |")
    return "\n".join(lines)


def titles(found: Mapping[str, Runs]) -> dict[str, str]:
    """Folders' names as methods and settings, without the settings that all variants of a method share."""
    methods = {variant: next(iter(runs.values()))["method"] for variant, runs in found.items()}
    changed = {
        variant: re.split(r"-(?=[a-z_.]+=)", variant.removeprefix(method))[1:] for variant, method in methods.items()
    }
    named = {}
    for variant, method in methods.items():
        others = [set(changed[each]) for each in methods if methods[each] == method]
        shared = set.intersection(*others) if len(others) > 1 else set()
        named[variant] = " ".join([f"`{method}`", *(each for each in changed[variant] if each not in shared)])
    return named


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    centre = statistics.fmean(values)
    return f"{centre:.1f}" if len(values) < 2 else f"{centre:.1f} ± {statistics.stdev(values):.1f}"


def marks(table: str) -> tuple[str, str]:
    """What stands before and after the table in its page."""
    return f"<!-- {table}: begin -->\n", f"<!-- {table}: end -->"


def page_of(table: str) -> Path:
    """The page with the table's marks."""
    begin, end = marks(table)
    for path in sorted(DOCS.glob("*.md")):
        if begin in path.read_text(encoding="utf-8"):
            return path
    raise SystemExit(f"no page has marks for {table!r}; write {begin.strip()} and {end} into one of docs")


def written(text: str, table: str, lines: str) -> str:
    """The page with these lines between the table's marks."""
    begin, end = marks(table)
    before, _, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not ended:
        raise SystemExit(f"the marks of {table!r} have no end; write {end}")
    return f"{before}{begin}{lines}\n{end}{after}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help="of results/field")
    parser.add_argument("--first", help="the variant whose leads are shown (default: the best in Self and Others)")
    parser.add_argument("--unseen", action="store_true", help="of unseen tasks; the page's marks are TABLE-unseen")
    parser.add_argument("--write", action="store_true", help="write the table into its page of docs")
    arguments = parser.parse_args()
    found, table = runs_of(arguments.table), arguments.table
    if arguments.unseen:
        found, table = examined(found), f"{table}-unseen"
    lines = show(found, arguments.first or next(iter(found)), ("unseen",) if arguments.unseen else PARTS)
    print(lines)
    if arguments.write:
        page = page_of(table)
        write_atomically(page, written(page.read_text(encoding="utf-8"), table, lines))
