"""``fedmosaic evaluate``: score a finished run's models again, also on unseen tasks, also by generated text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import working


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    unseen: Annotated[bool, typer.Option("--unseen", help="Score the tasks that no client trained on.")] = False,
    generated: Annotated[
        bool, typer.Option("--generated", help="Score multiple choice by generated text, too, and compare.")
    ] = False,
) -> None:
    """Score every client's final model; with --unseen the outcome is added to results.json."""
    from fedmosaic.cli.finished import finished_run
    from fedmosaic.experiments.rescoring import agreement, check_choices, examine, unseen_tasks
    from fedmosaic.federation import RunFolder

    console = PlainConsole()
    machine, settings = finished_run(run)
    tasks = unseen_tasks(machine) if unseen else settings.scenario.task_names
    if generated:
        check_choices(machine, tasks)
    with working(console, f"{len(settings.scenario.clients)} models x {len(tasks)} tasks"):
        summary = examine(machine, tasks, rounds=settings.rounds)
    table = Table("task", "score (%)", "95 % interval", title="unseen tasks" if unseen else "all tasks")
    for task, score in summary.per_task.items():
        low, high = summary.per_task_ci95[task]
        table.add_row(task, f"{100 * score:.1f}", f"{100 * low:.1f} - {100 * high:.1f}")
    table.add_section()
    table.add_row("mean", f"{100 * summary.last:.1f}", "")
    console.print(table)
    if unseen:
        folder = RunFolder(run)
        if (results := folder.results()) is not None:
            folder.write_results(replace(results, unseen=summary))
    if generated:
        with working(console, "generating"):
            same, by_choice, by_text = agreement(machine, tasks, rounds=settings.rounds)
        console.print(
            f"multiple choice: {100 * same:.1f} % of verdicts agree; "
            f"accuracy {100 * by_choice:.1f} % by likelihood, {100 * by_text:.1f} % by generated text"
        )
