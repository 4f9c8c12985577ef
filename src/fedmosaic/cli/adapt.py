"""``fedmosaic adapt``: fast adaptation of a run's merged adapters to one more task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fedmosaic.api.adapting import adapt, page_of
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import teller
from fedmosaic.experiments.adaptation import STEPS


def adapt_run(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    task: Annotated[str, typer.Option(help="The task to adapt to, e.g. an unseen one.")],
    seeds: Annotated[int, typer.Option(min=1, help="Orders of the training samples to average over.")] = 3,
) -> None:
    """Fine-tune the run's merged adapters on one more task, against an untrained adapter, over 0 to 200 steps."""
    console = PlainConsole()
    result = adapt(run, task, seeds=seeds, tell=teller(console))
    table = Table("start", *map(str, STEPS), title=f"{task}: test score (%) after so many steps")
    for name, curve in (("merged adapters", result.merged), ("from scratch", result.scratch)):
        table.add_row(name, *(f"{100 * curve[step]:.1f}" for step in STEPS))
    console.print(table)
    console.say(f"page: {page_of(run, task)}")
