"""Scenarios made of own data: which client has which tasks, or which shares of them. No data are copied."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from fedmosaic.config.paths import OF_SCENARIO, expanded, rooted
from fedmosaic.config.scenario import Scenario
from fedmosaic.config.validation import validate
from fedmosaic.data.files import FilesBenchmark
from fedmosaic.errors import SettingsError
from fedmosaic.io import write_atomically
from fedmosaic.nearest import suggestion
from fedmosaic.registry import BASE_MODELS

DIRICHLET = "dirichlet"


def deal(
    path: Path,
    out: Path,
    *,
    clients: int,
    by: str,
    models: Sequence[str],
    columns: Mapping[str, str] | None = None,
    alpha: float = 0.5,
    seed: int = 0,
) -> Path:
    """Write a scenario that deals the tasks of a file or folder to clients, and return its path.

    Args:
        path: the data, which stay where they are; all records are checked.
        out: a folder for ``scenario.toml``.
        clients: number of clients.
        by: ``dirichlet``: of each task, each client holds a share of the train samples that is drawn; else a column:
            each of its values is a task, and whole tasks are dealt, the largest first, to whom has fewest samples.
        models: the clients' base models, in turn: built-in names or folders, relative to the working folder.
        columns: what question, answer, ... are called in the data.
        alpha: concentration of the Dirichlet distribution.
        seed: of its draw.

    Raises:
        SettingsError: there is such a scenario already, no such model, there are too few tasks or samples, or a number
            makes no sense.
        DataError: a record cannot be used.
    """
    file = out / "scenario.toml"
    if file.exists():
        raise SettingsError(f"{file} exists already; give another folder, or remove it")
    for model in models:
        if model not in BASE_MODELS and not expanded(model).is_dir():
            near = suggestion(model, BASE_MODELS)
            raise SettingsError(f"--model {model}: there is neither such a built-in model nor such a folder; {near}")
    columns = {**(columns or {}), **({} if by == DIRICHLET else {"task": by})}
    benchmark = FilesBenchmark(path, columns=columns)
    sizes = {name: len(benchmark.task(name).train) for name in benchmark.task_names()}
    table: dict[str, Any] = {"title": f"{clients} clients by {by}", "benchmark": "files", "data": str(path.resolve())}
    table |= {"columns": columns} if columns else {}
    if by == DIRICHLET:
        if sum(sizes.values()) < clients:
            raise SettingsError(
                f"--clients {clients}: there are {sum(sizes.values())} train samples, and each client needs one"
            )
        hands = [list(sizes)] * min(clients, len(models))
        table["division"] = {"clients": clients, "alpha": alpha, "seed": seed}
    else:
        if len(sizes) < clients:
            raise SettingsError(f"--clients {clients}: {by!r} has {len(sizes)} value(s), and each client needs one")
        hands = _dealt(sizes, clients)
    table["clients"] = [{"id": i, "model": models[i % len(models)], "tasks": tasks} for i, tasks in enumerate(hands)]
    table = rooted(table, Path.cwd(), OF_SCENARIO)
    validate(Scenario, table, source=f"{file} is not written")
    write_atomically(file, tomli_w.dumps(table))
    return file


def _dealt(sizes: Mapping[str, int], clients: int) -> list[list[str]]:
    """Return the tasks of each client."""
    hands: list[list[str]] = [[] for _ in range(clients)]
    loads = [(0, client) for client in range(clients)]
    for task in sorted(sizes, key=lambda name: -sizes[name]):
        load, client = heapq.heappop(loads)
        hands[client].append(task)
        heapq.heappush(loads, (load + sizes[task], client))
    return hands
