"""``fedmosaic evaluate``: score a finished run's models again, also on unseen tasks, also by generated text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fedmosaic.api.evaluating import evaluate as score_again
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import teller


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    unseen: Annotated[bool, typer.Option("--unseen", help="Score the tasks that no client trained on.")] = False,
    generated: Annotated[
        bool, typer.Option("--generated", help="Score multiple choice by generated text, too, and compare.")
    ] = False,
) -> None:
    """Score every client's final model; with --unseen the outcome is added to results.json."""
    console = PlainConsole()
    found = score_again(run, unseen=unseen, generated=generated, tell=teller(console))
    table = Table("task", "score (%)", "95 % interval", title="unseen tasks" if unseen else "all tasks")
    for task, score in found.per_task.items():
        low, high = found.per_task_ci95[task]
        table.add_row(task, f"{100 * score:.1f}", f"{100 * low:.1f} - {100 * high:.1f}")
    table.add_section()
    table.add_row("mean", f"{100 * found.mean:.1f}", "")
    console.print(table)
    if both := found.agreement:
        console.print(
            f"multiple choice: {100 * both.same:.1f} % of verdicts agree; "
            f"accuracy {100 * both.by_likelihood:.1f} % by likelihood, {100 * both.by_text:.1f} % by generated text"
        )
