"""``fedmosaic compare``: methods x seeds on one scenario, resumable, several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from fedmosaic.api.settings import check_comparison, check_shared
from fedmosaic.cli import completing, lists
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import logging, teller
from fedmosaic.cli.sweep import take_options
from fedmosaic.config import load_scenario, resolve
from fedmosaic.experiments.sweep_file import Sweep
from fedmosaic.experiments.variant import method_and_changes
from fedmosaic.registry import METHODS, TRACKERS

if TYPE_CHECKING:
    from fedmosaic.experiments.sweep import Plan


def compare(
    scenario: Annotated[
        str,
        typer.Argument(
            help="Built-in name, a .toml file, or a published .json file.", autocompletion=completing.scenarios
        ),
    ] = "demo",
    methods: Annotated[
        str,
        typer.Option(
            help="Names, separated by commas; fedmosaic:gate=false is a variant with other settings.",
            autocompletion=completing.listed_methods,
        ),
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
    device: Annotated[
        str | None,
        typer.Option(help=r"Where models compute: auto, cpu, cuda, cuda:1, mps, or cuda:0,cuda:1.  \[default: auto]"),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Communication rounds.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="A setting: training.steps=10.")] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            help="Log each run to wandb, mlflow, tensorboard or trackio; repeatable.",
            autocompletion=completing.trackers,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time, each in its own process.")] = 2,
    sweep: Annotated[
        Path | None,
        typer.Option(
            help="TOML file that says all this: scenario, methods, seeds, rates, budget, settings (docs/compare.md); "
            "options given here come before it, and --out is runs/NAME of the file.",
            is_eager=True,
            callback=take_options,
        ),
    ] = None,
) -> None:
    """Run the given methods with each seed and compare them; call it again to go on where it was interrupted."""
    console = PlainConsole()
    check_comparison(budget, finished)
    names = lists.listed(methods, lists.name, option="--methods", expected="a method, such as fedmosaic or sft")
    numbers = lists.listed(
        seeds, lists.seed, option="--seeds", expected="a whole number from 0 to 2^31 - 1, as in 0,1,2"
    )
    earlier = Path(rates) if rates.endswith(".json") else None
    factors = (
        lists.listed(rates, lists.factor, option="--rates", expected="a number above 0, as in 0.3,1,3")
        if rates and not earlier
        else []
    )
    for each in names:
        METHODS.check(method_and_changes(each)[0])
    for each in track or ():
        TRACKERS.check(each)
    chosen = load_scenario(scenario)
    overrides = [*(Sweep.read(sweep).overrides() if sweep else ()), *(overrides or ())]
    check_shared(overrides)
    asked = resolve(chosen, overrides=overrides, rounds=rounds, device=device)

    from fedmosaic.api.background import run_all
    from fedmosaic.api.comparing import compared
    from fedmosaic.api.placing import placed
    from fedmosaic.experiments.comparison import outside_budget, over_fewer_clients
    from fedmosaic.federation import divided
    from fedmosaic.trackers import make_trackers

    make_trackers(track or [])  # that they can be made

    def execute(plans: Sequence[Plan], after_each: Callable[[], object]) -> None:
        with _showing(plans, console) as show:
            run_all(plans, jobs=jobs, track=track or (), after_each=after_each, show=show)

    comparison = compared(
        placed(divided(asked), tell=teller(console)),
        names,
        seeds=numbers,
        budget=budget,
        rates=earlier or factors,
        out=out,
        finished=finished,
        execute=execute,
        tell=teller(console),
    )
    console.print(comparison_table(comparison))
    for line in [*outside_budget(comparison), *over_fewer_clients(comparison)]:
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
    from fedmosaic.federation import RunFolder
    from fedmosaic.federation.callbacks import RoundStart

    done, going = 0, []
    for each in plans:
        folder = RunFolder(each.path)
        rounds = [line.what.round for line in folder.events() if isinstance(line.what, RoundStart)]
        if folder.results() is not None:
            done += 1
        elif rounds:
            going.append(f"{each.path.name} round {rounds[-1]}/{each.settings.rounds}")
    return f"comparing: {done} of {len(plans)} runs done" + "".join(f", {each}" for each in going)


def _live_table(plans: Sequence[Plan]) -> Table:
    from fedmosaic.federation import RunFolder
    from fedmosaic.federation.event_log import Headline
    from fedmosaic.report import literal

    table = Table("run", "round", "Self (%)", "Others (%)")
    for each in plans:
        measured = [line.what for line in RunFolder(each.path).events() if isinstance(line.what, Headline)]
        last = measured[-1] if measured else None
        means = (last.self_, last.others) if last else (None, None)
        cells = ["" if mean is None else f"{100 * mean:.1f}" for mean in means]
        table.add_row(literal(each.path.name), f"{last.round if last else ''}/{each.settings.rounds}", *cells)
    return table


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """The comparison for the terminal: mean and 95 % interval over seeds, in percent.

    A method has a line for what its clients answer after local training, and one for the last exchange.
    """
    from fedmosaic.report import literal

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
        title=f"equal {comparison['budget']}, {seeds} seed(s): last score in %, mean ± 95 % interval, of two seeds "
        "both; against the best rival, in points, * outside its interval",
    )
    initial = comparison["initial"]
    table.add_row("(base models)", percent(initial["self"], seeds), "", percent(initial["others"], seeds))
    for row in comparison["rows"]:
        name = row["method"] + (f" ({row['runs']} of {seeds} seeds)" if row["runs"] < seeds else "")
        costs = f"{row['flops'] / 1e12:.1f}", share_of_budget(row["spent"]), f"{row['bytes_up'] / 1e3:.0f}"
        table.add_row(literal(name), *_scores(row, "last", ""), *costs)
        if row["self_exchanged"] or row["others_exchanged"]:
            table.add_row("  after last exchange", *_scores(row, "exchanged", "_exchanged"))
    return table


def _scores(row: Mapping[str, Any], score: str, answer: str) -> list[Text]:
    from fedmosaic.experiments.comparison import PARTS
    from fedmosaic.report import literal

    found = (
        (percent(row[f"{part}_{score}"], row["runs"]), _against(row[f"against_rivals{answer}"][part])) for part in PARTS
    )
    return [literal(cell) for cells in found for cell in cells]


def percent(interval: Mapping[str, float | None] | None, runs: int = 3) -> str:
    """An interval of a comparison in percent: ``57.6 ± 3.3``, with both values of two seeds, with one's own of one."""
    from fedmosaic.report.text import spread

    if interval is None or interval["mean"] is None:
        return "-"
    return f"{100 * interval['mean']:.1f} {spread(interval, runs)}".strip()


def share_of_budget(found: Mapping[str, float] | None) -> str:
    """The least and the most that runs have spent of their budgets, in %: ``98.6-99.4``; empty without budgets."""
    ends = [] if found is None else [f"{100 * found[key]:.1f}" for key in ("least", "most")]
    return "-".join(dict.fromkeys(ends))


def _against(found: Mapping[str, Any] | None) -> str:
    """Difference to the best rival in points, with a star if zero lies outside its 95 % interval."""
    if found is None:
        return "-"
    return f"{100 * found['mean']:+.1f}{'*' if found['significant'] else ''} ({found['rival']})"
