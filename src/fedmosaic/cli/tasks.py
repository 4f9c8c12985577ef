"""``fedmosaic tasks``: what the benchmark asks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedmosaic.config import home
from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.data.sheet import contact_sheet

tasks = typer.Typer(help="List the benchmark's tasks, or show samples of one.", no_args_is_help=True)


@tasks.command("list")
def list_tasks() -> None:
    """List all tasks with their family, sizes and a first question."""
    benchmark = load_benchmark("mosaic40", home=home())
    table = Table("task", "family", "train", "val", "test", "question", title="mosaic40")
    for name in [*benchmark.task_names(), *benchmark.unseen_names()]:
        task = benchmark.task(name)
        unseen = " (unseen)" if name in benchmark.unseen_names() else ""
        sizes = (len(task.train), len(task.validation), len(task.test))
        question = task.train[0].prompt.replace("<image>", "▣").split(" options :")[0]
        table.add_row(name + unseen, task.family, *map(str, sizes), question)
    Console().print(table)


@tasks.command("show")
def show_task(
    name: Annotated[str, typer.Argument(help="The task's name.")],
    out: Annotated[Path | None, typer.Option(help="PNG file.  [default: NAME.png]")] = None,
) -> None:
    """Draw a contact sheet of a task's samples with questions and answers."""
    path = out or Path(f"{name.replace('/', '-')}.png")
    contact_sheet(load_benchmark("mosaic40", home=home()), name).save(path)
    Console().print(f"wrote {path}", highlight=False, soft_wrap=True)
