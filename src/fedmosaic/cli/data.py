"""``fedmosaic data``: own data, as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmosaic.cli.columns import Columns, named
from fedmosaic.cli.console import PlainConsole
from fedmosaic.errors import SettingsError

if TYPE_CHECKING:
    from fedmosaic.data.checking import DataReport, FileReport
    from fedmosaic.data.sample import Task

data = typer.Typer(help="Check your own data, or make a scenario of them.", no_args_is_help=True)

_FIRST = 4  # samples that are shown of each task
_IN_PICTURE = 12  # tasks
_PROBLEMS = 1

_Path = Annotated[Path, typer.Argument(help="A file, or a folder of files, in one of the formats of docs/data.md.")]


@data.command("check")
def check(
    path: _Path,
    column: Columns = None,
    picture: Annotated[Path | None, typer.Option(help="A .png file for the first samples of each task.")] = None,
) -> None:
    """Show what is understood: formats, numbers, first samples, every problem; exit status 1 if there is any."""
    from fedmosaic.data.checking import check_data

    if picture is not None and picture.suffix != ".png":
        raise SettingsError(f"--picture {picture}: the file must end in .png")
    report = check_data(path, columns=named(column))
    console = PlainConsole()
    for file in report.files:
        _show(console, file)
    for note in report.notes:
        console.say(f"note: {note}")
    for problem in report.problems:
        console.say(f"problem: {' '.join(problem.split())}")
    count = len(report.problems)
    console.say(f"{count} problem{'' if count == 1 else 's'}")
    tasks = [task for file in report.files for task in file.tasks]
    if tasks and picture is None:
        console.say(f"to see the first samples: fedmosaic data check {path} --picture samples.png")
    elif tasks and picture is not None:
        _draw(console, report, tasks, picture)
    if report.problems:
        raise typer.Exit(_PROBLEMS)


@data.command("split")
def split(
    path: _Path,
    clients: Annotated[int, typer.Option(min=1, help="Number of clients.")],
    by: Annotated[str, typer.Option(help="dirichlet, or a column whose values are tasks.")],
    out: Annotated[Path, typer.Option(help="A folder for scenario.toml.")],
    column: Columns = None,
    model: Annotated[list[str] | None, typer.Option(help=r"Base models, in turn.  \[default: tiny-llama]")] = None,
    alpha: Annotated[float, typer.Option(help="The smaller, the fewer clients hold most of a task.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Of the Dirichlet draw.")] = 0,
) -> None:
    """Write a scenario in which clients hold these data: shares of each task, or whole tasks. Nothing is copied."""
    from fedmosaic.config.scenario import Scenario
    from fedmosaic.data.dealing import deal

    models = model or ["tiny-llama"]
    file = deal(path, out, clients=clients, by=by, models=models, columns=named(column), alpha=alpha, seed=seed)
    scenario = Scenario.from_toml(file)
    PlainConsole().say(f"wrote {file}: {scenario.title}, {len(scenario.task_names)} tasks; fedmosaic run {file}")


def _draw(console: PlainConsole, report: DataReport, tasks: list[Task], picture: Path) -> None:
    from fedmosaic.data.sheet import below_each_other, contact_sheet

    shown = tasks[:_IN_PICTURE]
    sheets = [contact_sheet(report.benchmark, task.name, samples=task.train[:_FIRST]) for task in shown]
    try:
        below_each_other(sheets).save(picture)
    except OSError as error:
        raise SettingsError(f"--picture {picture}: cannot be written ({error.strerror})") from error
    left = f", of {len(shown)} of {len(tasks)} tasks" if len(shown) < len(tasks) else ""
    console.say(f"wrote {picture}: the first samples{left}")


def _show(console: PlainConsole, file: FileReport) -> None:
    seen = file.understood
    records = ", ".join(f"{count} {split}" for split, count in seen.records.items()) or "0"
    kinds = f"{', '.join(sorted(seen.formats)) or 'no format'} in {', '.join(sorted(seen.readers)) or 'no known file'}"
    console.say(f"{file.name}: {kinds}; records: {records}")
    for task in file.tasks:
        _show_task(console, task)


def _show_task(console: PlainConsole, task: Task) -> None:
    samples = [*task.train, *task.validation, *task.test]
    sizes = f"{len(task.train)} train, {len(task.validation)} validation, {len(task.test)} test"
    images, options = (sum(map(bool, each)) for each in ([s.images for s in samples], [s.options for s in samples]))
    console.say(f"  {task.name}: samples: {sizes}; with images: {images}; with options: {options}")
    for sample in task.train[:_FIRST]:
        question = " ".join(sample.prompt.split())
        console.say(f"    {sample.id}  {question[:200]}  ->  {sample.answer[:80]}")
