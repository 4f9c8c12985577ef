"""``fedmosaic evaluate``: score a finished run's models again, also on unseen tasks, also by generated text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fedmosaic.cli import lists
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import working
from fedmosaic.errors import SettingsError
from fedmosaic.io import write_atomically

if TYPE_CHECKING:
    from fedmosaic.federation import ClientRuntime


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    unseen: Annotated[bool, typer.Option("--unseen", help="Score the tasks that no client trained on.")] = False,
    generated: Annotated[
        bool, typer.Option("--generated", help="Score multiple choice by generated text, too, and compare.")
    ] = False,
    mix: Annotated[
        str,
        typer.Option(
            help="Answer with other weights of the two slots instead: L (local alone), M (received mixture alone) or "
            "the weight of the received slot, separated by commas: L,0.25,0.5,M."
        ),
    ] = "",
    average: Annotated[
        int | None, typer.Option(min=1, help="Answer with the mean of the weights after so many last rounds instead.")
    ] = None,
) -> None:
    """Score every client's final model; with --unseen the outcome is added to results.json."""
    from fedmosaic.cli.finished import finished_run
    from fedmosaic.experiments.rescoring import agreement, check_choices, examine, unseen_tasks
    from fedmosaic.federation import RunFolder

    console = PlainConsole()
    if (mix or average) and (unseen or generated):
        raise SettingsError("--mix and --average score Self and Others; give them without --unseen and --generated")
    runtime, settings = finished_run(run)
    if mix or average:
        _show_other_answers(run, runtime, mix, average, console)
        return
    tasks = unseen_tasks(runtime.assets) if unseen else settings.scenario.task_names
    if generated:
        check_choices(runtime.assets, tasks)
    with working(console, f"{len(settings.scenario.clients)} models x {len(tasks)} tasks"):
        summary = examine(runtime, tasks, rounds=settings.rounds)
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
            same, by_choice, by_text = agreement(runtime, tasks, rounds=settings.rounds)
        console.print(
            f"multiple choice: {100 * same:.1f} % of verdicts agree; "
            f"accuracy {100 * by_choice:.1f} % by likelihood, {100 * by_text:.1f} % by generated text"
        )


def _show_other_answers(
    run: Path, runtime: ClientRuntime, mix: str, average: int | None, console: PlainConsole
) -> None:
    """Score the run with each of the other weights, keep the scores in ``answers.json`` and show them."""
    from fedmosaic.cli.finished import finished_run
    from fedmosaic.experiments.other_answers import averaged_over, scores_with, slot_weights
    from fedmosaic.experiments.rescoring import self_and_others
    from fedmosaic.federation import RunFolder

    method, rounds = runtime.assets.method, runtime.assets.settings.rounds
    results = RunFolder(run).results()
    parts = (results.self_, results.others) if results else (None, None)
    rows = {"as the run answers": [part.last if part else None for part in parts]}
    texts = lists.listed(mix, lists.name, option="--mix", expected="L, M or a weight from 0 to 1") if mix else []
    weights = {text: slot_weights(method, text) for text in texts}
    with working(console, f"{len(weights) + bool(average)} other way(s) to answer"):
        for text, chosen in weights.items():
            rows[f"mix {text}"] = list(scores_with(runtime, chosen, rounds=rounds))
        if average:
            other, _ = finished_run(run, change=lambda own: averaged_over(own, average))
            rows[f"mean of {average} rounds"] = list(self_and_others(other, rounds=rounds))
    found = {name: {"self": mine, "others": theirs} for name, (mine, theirs) in rows.items()}
    write_atomically(run / "answers.json", json.dumps(found, indent=1) + "\n")
    table = Table("answers", "Self (%)", "Others (%)", title=f"{method.title} with other weights")
    for name, scores in rows.items():
        table.add_row(name, *("-" if score is None else f"{100 * score:.1f}" for score in scores))
    console.print(table)
    console.say(f"scores: {run / 'answers.json'}")
