"""``fedmosaic tasks``: what the benchmark asks."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.table import Column, Table

from fedmosaic.cli.columns import Columns, named
from fedmosaic.cli.console import PlainConsole
from fedmosaic.data.sample import IMAGE_MARK
from fedmosaic.errors import SettingsError

if TYPE_CHECKING:
    from PIL import Image

    from fedmosaic.data.benchmark import Benchmark

tasks = typer.Typer(help="List the benchmark's tasks, or show samples of one.", no_args_is_help=True)


_Data = Annotated[
    Path | None, typer.Option("--data", help="Your own file or folder, instead of the built-in benchmark.")
]


_Benchmark = Annotated[
    str, typer.Option("--benchmark", help="A built-in benchmark: mosaic40, or words for tasks without images.")
]


@tasks.command("list")
def list_tasks(data: _Data = None, column: Columns = None, benchmark_name: _Benchmark = "mosaic40") -> None:
    """List all tasks with their family, sizes and a first question."""
    benchmark = _benchmark(data, benchmark_name, named(column))
    unseen = benchmark.unseen_names()
    console = PlainConsole()
    names = [*benchmark.task_names(), *(f"{name} (unseen)" for name in unseen)]
    room = console.width - max(map(len, names)) - 56  # what the other columns leave the question
    titles = ["task", "family", "images", "train", "val", "test"] + ["question"] * (room > 0)
    table = Table(*(Column(title, no_wrap=True) for title in titles), title=benchmark.name, box=SIMPLE)
    for name in [*benchmark.task_names(), *unseen]:
        task = benchmark.task(name)
        first = task.train[0]
        sizes = (len(first.images), len(task.train), len(task.validation), len(task.test))
        question = first.prompt.replace(IMAGE_MARK, "▣").partition("\nOptions:")[0].split(" options :")[0]
        question = question.removesuffix(" answer :").removesuffix("\nAnswer:")
        label = f"{name} (unseen)" if name in unseen else name
        questions = [textwrap.shorten(question, room, placeholder="…")] if room > 0 else []
        table.add_row(label, task.family, *map(str, sizes), *questions)
    console.print(table)


@tasks.command("show")
def show_task(
    name: Annotated[str, typer.Argument(help="The task's name.")],
    out: Annotated[Path | None, typer.Option(help=r"A .png or .html file.  \[default: NAME.png]")] = None,
    sample: Annotated[
        int | None, typer.Option(min=0, help="Only this test sample, from 0: its pictures as files, its text printed.")
    ] = None,
    data: _Data = None,
    column: Columns = None,
    benchmark_name: _Benchmark = "mosaic40",
) -> None:
    """Write a contact sheet of a task's samples with questions and answers, or what one sample shows and asks."""
    path = out or Path(f"{name.replace('/', '-')}.png")
    if path.suffix not in {".png", ".html"}:
        raise SettingsError(f"--out {path}: the file must end in .png or .html")
    benchmark = _benchmark(data, benchmark_name, named(column))
    if sample is not None:
        _show_sample(benchmark, name, sample, path)
    elif path.suffix == ".png":
        from fedmosaic.data.sheet import contact_sheet

        _write(path, _png(contact_sheet(benchmark, name)))
    else:
        from fedmosaic.data.sheet_page import contact_page

        _write(path, contact_page(benchmark, name).encode())


def _benchmark(data: Path | None, built_in: str, columns: dict[str, str]) -> Benchmark:
    from fedmosaic.config import home
    from fedmosaic.data.benchmark import load_benchmark
    from fedmosaic.data.published import published_files

    kind = built_in if data is None else "published" if published_files(data) else "files"
    if columns and kind != "files":
        name = next(iter(columns))
        raise SettingsError(f"--column {name}={columns[name]}: {kind} has no columns to name; give --data with a table")
    return load_benchmark(kind, home=home(), folder=data, columns=columns)


def _show_sample(benchmark: Benchmark, name: str, number: int, path: Path) -> None:
    """Write a sample's pictures, numbered if several, and print its question as ``fedmosaic ask`` takes it."""
    test = benchmark.task(name).test
    if number >= len(test):
        raise SettingsError(f"--sample {number}: {name!r} has {len(test)} test samples, numbered from 0")
    if path.suffix != ".png":
        raise SettingsError(f"--out {path}: the pictures of one sample are .png files")
    chosen = test[number]
    for position, key in enumerate(chosen.images, start=1):
        place = path if len(chosen.images) == 1 else path.with_stem(f"{path.stem}-{position}")
        _write(place, _png(benchmark.images.load(key)))
    PlainConsole().say(f"question: {chosen.prompt}\nanswer:   {chosen.answer}")


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise SettingsError(f"--out {path}: cannot be written ({error.strerror})") from error
    PlainConsole().say(f"wrote {path}")
