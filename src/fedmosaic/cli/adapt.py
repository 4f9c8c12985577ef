"""``fedmosaic adapt``: fast adaptation of a run's merged adapters to one more task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import working
from fedmosaic.io import write_atomically


def adapt_run(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    task: Annotated[str, typer.Option(help="The task to adapt to, e.g. an unseen one.")],
    seeds: Annotated[int, typer.Option(min=1, help="Orders of the training samples to average over.")] = 3,
) -> None:
    """Fine-tune the run's merged adapters on one more task, against an untrained adapter, over 0 to 200 steps."""
    from fedmosaic.cli.finished import finished_run
    from fedmosaic.experiments.adaptation import STEPS, adapt
    from fedmosaic.report import adaptation_page

    console = PlainConsole()
    machine, settings = finished_run(run)
    with working(console, f"adapting to {task}: 2 starts x {len(settings.scenario.models)} models x {seeds} seeds"):
        result = adapt(machine, task, rounds=settings.rounds, seeds=seeds)
    target = run / "adapt" / f"{task}.json"
    write_atomically(target, json.dumps(result.as_json(), indent=2) + "\n")
    page = adaptation_page(result.as_json(), target.with_suffix(".html"))
    table = Table("start", *map(str, STEPS), title=f"{task}: test score (%) after so many steps")
    for name, curve in (("merged adapters", result.merged), ("from scratch", result.scratch)):
        table.add_row(name, *(f"{100 * curve[step]:.1f}" for step in STEPS))
    console.print(table)
    console.say(f"page: {page}")
