"""``fedmosaic compare``: methods x seeds on one scenario, resumable, several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from fedmosaic.api.background import run_all
from fedmosaic.api.comparing import compared
from fedmosaic.cli import lists
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import logging, teller
from fedmosaic.config import load_scenario, resolve
from fedmosaic.experiments.comparison import PARTS, outside_budget
from fedmosaic.experiments.sweep import Plan
from fedmosaic.federation import RunFolder, divided
from fedmosaic.report import literal


def compare(
    scenario: Annotated[str, typer.Argument(help="Built-in name, a .toml file, or a published .json file.")] = "demo",
    methods: Annotated[
        str, typer.Option(help="Names, separated by commas; fedmosaic:gate=false is a variant with other settings.")
    ] = "fedmosaic,sft,fedavg",
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
    budget: Annotated[str, typer.Option(help="Equal 'steps', or equal 'flops' (those of sft's steps).")] = "steps",
    rates: Annotated[
        str,
        typer.Option(
            help="Factors of the learning rates to choose from on validation samples of the first seed (0.3,1,3), or "
            "the comparison.json of a comparison that has chosen."
        ),
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder; runs in it that are done or begun are kept.")] = Path(
        "runs/compare"
    ),
    finished: Annotated[
        Path | None,
        typer.Option(help="Folder of another comparison; what it finished with the same settings is not run again."),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Communication rounds.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="A setting: training.steps=10.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time, each in its own process.")] = 2,
) -> None:
    """Run all methods with all seeds and compare them; call it again to go on where it was interrupted."""
    console = PlainConsole()
    names = lists.listed(methods, lists.name, option="--methods", expected="a method, such as fedmosaic or sft")
    numbers = lists.listed(
        seeds, lists.seed, option="--seeds", expected="a whole number from 0 to 2^31 - 1, as in 0,1,2"
    )
    factors = (
        lists.listed(rates, lists.factor, option="--rates", expected="a number above 0, as in 0.3,1,3")
        if rates and not rates.endswith(".json")
        else []
    )

    def execute(plans: Sequence[Plan], after_each: Callable[[], object]) -> None:
        with _showing(plans, console) as show:
            run_all(plans, jobs=jobs, after_each=after_each, show=show)

    comparison = compared(
        divided(resolve(load_scenario(scenario), overrides=overrides or [], rounds=rounds)),
        names,
        seeds=numbers,
        budget=budget,
        rates=Path(rates) if rates.endswith(".json") else factors,
        out=out,
        finished=finished,
        execute=execute,
        tell=teller(console),
    )
    console.print(comparison_table(comparison))
    for line in outside_budget(comparison):
        console.print(f"warning: {line}", soft_wrap=True)
    console.print(f"page: {out / 'comparison.html'}", soft_wrap=True)


@contextmanager
def _showing(plans: Sequence[Plan], console: Console) -> Iterator[Callable[[], None]]:
    """Give a function that shows how far the runs are: a live table on a terminal, else a line now and then."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=2) as live:
            yield lambda: live.update(_live_table(plans))
    else:
        with logging(console, f"comparing: 0 of {len(plans)} runs done") as tell:
            yield lambda: tell(_live_line(plans))


def _live_line(plans: Sequence[Plan]) -> str:
    done, going = 0, []
    for each in plans:
        folder = RunFolder(each.path)
        rounds = [event["round"] for event in folder.events() if event["event"] == "round"]
        if folder.results() is not None:
            done += 1
        elif rounds:
            going.append(f"{each.path.name} round {rounds[-1]}/{each.settings.rounds}")
    return f"comparing: {done} of {len(plans)} runs done" + "".join(f", {each}" for each in going)


def _live_table(plans: Sequence[Plan]) -> Table:
    table = Table("run", "round", "Self (%)", "Others (%)")
    for each in plans:
        measured = [event for event in RunFolder(each.path).events() if event["event"] == "measured"]
        last = measured[-1] if measured else {}
        cells = [f"{100 * last[key]:.1f}" if last.get(key) is not None else "" for key in ("self", "others")]
        table.add_row(literal(each.path.name), f"{last.get('round', '')}/{each.settings.rounds}", *cells)
    return table


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """The comparison for the terminal: mean and 95 % interval over seeds, in percent."""
    seeds = len(comparison["seeds"])
    table = Table(
        Column("method", overflow="fold"),  # a variant's name tells it from the others by its end
        "Self",
        "against",
        "Others",
        "against",
        "TFLOP",
        "% of budget",
        "kB up",
        title=f"equal {comparison['budget']}, {seeds} seed(s): last score in %, mean ± 95 % interval; "
        "against the best rival, in points, * outside its interval",
    )
    initial = comparison["initial"]
    table.add_row("(base models)", percent(initial["self"]), "", percent(initial["others"]))
    for row in comparison["rows"]:
        scores = [
            literal(cell)
            for part in PARTS
            for cell in (percent(row[f"{part}_last"]), _against(row["against_rivals"][part]))
        ]
        name = row["method"] + (f" ({row['runs']} of {seeds} seeds)" if row["runs"] < seeds else "")
        costs = f"{row['flops'] / 1e12:.1f}", share_of_budget(row["spent"]), f"{row['bytes_up'] / 1e3:.0f}"
        table.add_row(literal(name), *scores, *costs)
    return table


def percent(interval: Mapping[str, float | None] | None) -> str:
    """An interval of a comparison in percent: ``57.6 ± 3.3``, without the half width where one seed gives none."""
    if interval is None or interval["mean"] is None:
        return "-"
    half = interval["ci95"]
    return f"{100 * interval['mean']:.1f}" + (f" ± {100 * half:.1f}" if half is not None else "")


def share_of_budget(found: Mapping[str, float] | None) -> str:
    """The least and the most that runs have spent of their budgets, in %: ``98.6-99.4``; empty without budgets."""
    ends = [] if found is None else [f"{100 * found[key]:.1f}" for key in ("least", "most")]
    return "-".join(dict.fromkeys(ends))


def _against(found: Mapping[str, Any] | None) -> str:
    """Difference to the best rival in points, with a star if zero lies outside its 95 % interval."""
    if found is None:
        return "-"
    return f"{100 * found['mean']:+.1f}{'*' if found['significant'] else ''} ({found['rival']})"
