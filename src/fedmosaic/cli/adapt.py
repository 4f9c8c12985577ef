"""``fedmosaic adapt``: fast adaptation of a run's merged adapters to more tasks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fedmosaic.cli import lists
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import teller

if TYPE_CHECKING:
    from fedmosaic.experiments.adaptation import Adaptation


def adapt_run(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    tasks: Annotated[
        str, typer.Option("--tasks", "--task", help="Tasks to adapt to, e.g. unseen ones, separated by commas.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Orders of the training samples to average over.")] = 3,
    steps: Annotated[
        str, typer.Option(help="Steps after which to measure, separated by commas; 0 is the start.")
    ] = "0,10,25,50,100,150,200",
    device: Annotated[
        str | None,
        typer.Option(help=r"auto, cpu, cuda, cuda:1 or mps.  \[default: the run's; auto where that is not there]"),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the training: training.learning_rate=0.01.")
    ] = None,
) -> None:
    """Fine-tune the run's merged adapters on each task by itself, against an untrained adapter."""
    console = PlainConsole()
    names = lists.listed(tasks, lists.name, option="--tasks", expected="a task, such as digit-parity@chalk")
    counts = lists.listed(steps, lists.count, option="--steps", expected="a whole number from 0, as in 0,10,30")

    from fedmosaic.api.adapting import adapt

    found = adapt(run, names, seeds=seeds, steps=counts, overrides=overrides or [], device=device, tell=teller(console))
    console.print(_table(found, counts))


def _table(found: Mapping[str, Adaptation], steps: Sequence[int]) -> Table:
    table = Table("task", "start", *map(str, steps), title="test score (%) after so many steps")
    for name, result in found.items():
        for start, curve in (("merged adapters", result.merged), ("from scratch", result.scratch)):
            table.add_row(name, start, *(f"{100 * curve[step]:.1f}" for step in steps))
    if len(found) > 1:
        table.add_section()
        for start, curves in (
            ("merged adapters", [result.merged for result in found.values()]),
            ("from scratch", [result.scratch for result in found.values()]),
        ):
            means = (statistics.fmean(curve[step] for curve in curves) for step in steps)
            table.add_row("mean", start, *(f"{100 * mean:.1f}" for mean in means))
    return table
