"""``fedmosaic evaluate``: score a finished run's models again, also on unseen tasks, also by generated text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from fedmosaic.cli import lists
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import teller
from fedmosaic.config import Scenario
from fedmosaic.errors import SettingsError

_MOST_CLIENTS = 12
"""Clients for which a terminal has room, a column each."""


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
    device: Annotated[
        str | None,
        typer.Option(help=r"auto, cpu, cuda, cuda:1 or mps.  \[default: the run's; auto where that is not there]"),
    ] = None,
    after_exchange: Annotated[
        bool,
        typer.Option("--after-exchange", help="As the last exchange has left the clients, not as local training has."),
    ] = False,
) -> None:
    """Score every client's final model; with --unseen the outcome is added to results.json."""
    if (mix or average) and (unseen or generated):
        raise SettingsError("--mix and --average score Self and Others; give them without --unseen and --generated")
    console = PlainConsole()
    if mix or average:
        texts = lists.listed(mix, lists.name, option="--mix", expected="L, M or a weight from 0 to 1") if mix else []
        _show_other_answers(run, texts, average, console, after_exchange=after_exchange, device=device)
    else:
        _show_scores(run, unseen, generated, console, after_exchange=after_exchange, device=device)


def _show_scores(
    run: Path, unseen: bool, generated: bool, console: PlainConsole, *, after_exchange: bool, device: str | None
) -> None:
    from fedmosaic.api.evaluating import evaluate as score_again
    from fedmosaic.federation import RunFolder

    found = score_again(
        run,
        unseen=unseen,
        generated=generated,
        after_exchange=after_exchange,
        device=device,
        tell=teller(console),
    )
    when = ", after the last exchange" if after_exchange else ""
    table = Table("task", "score (%)", "95 % interval", title=("unseen tasks" if unseen else "all tasks") + when)
    for task, score in found.per_task.items():
        low, high = found.per_task_ci95[task]
        table.add_row(task, f"{100 * score:.1f}", f"{100 * low:.1f} - {100 * high:.1f}")
    table.add_section()
    table.add_row("mean", f"{100 * found.mean:.1f}", "")
    console.print(table)
    if 1 < len(found.per_client_task) <= _MOST_CLIENTS:
        console.print(_matrix(found.per_client_task, RunFolder(run).settings.scenario))
    if both := found.agreement:
        console.print(
            f"multiple choice: {100 * both.same:.1f} % of verdicts agree; "
            f"accuracy {100 * both.by_likelihood:.1f} % by likelihood, {100 * both.by_text:.1f} % by generated text"
        )


def _matrix(scores: Mapping[int, Mapping[str, float]], scenario: Scenario) -> Table:
    """Every client on every task, in percent; a star marks a client's own task."""
    from fedmosaic.report import literal

    numbers = [Column(str(client), justify="right", no_wrap=True) for client in scores]
    table = Table(Column("task", overflow="fold"), *numbers, title="every client on every task (%), * its own")
    for task in next(iter(scores.values())):
        cells = [
            f"{100 * tasks[task]:.1f}{'*' if task in scenario.client(client).tasks else ''}"
            for client, tasks in scores.items()
        ]
        table.add_row(literal(task), *cells)
    return table


def _show_other_answers(
    run: Path, mix: list[str], average: int | None, console: PlainConsole, *, after_exchange: bool, device: str | None
) -> None:
    from fedmosaic.api.other_answers import other_answers

    found = other_answers(
        run, mix=mix, average=average, after_exchange=after_exchange, device=device, tell=teller(console)
    )
    table = Table("answers", "Self (%)", "Others (%)", title=f"{found.title} with other weights")
    for name, row in found.rows.items():
        table.add_row(name, *("-" if score is None else f"{100 * score:.1f}" for score in (row.self_, row.others)))
    console.print(table)
    console.say(f"scores: {run / 'answers.json'}")
