"""``fedmosaic run``: one method on one scenario."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmosaic.api.settings import with_options
from fedmosaic.cli import completing
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.libraries import silence_warnings
from fedmosaic.config import load_scenario, resolve
from fedmosaic.registry import TRACKERS

if TYPE_CHECKING:
    from fedmosaic.federation import RunFolder
    from fedmosaic.trackers import Tracker

_DEFAULT_SCENARIO = "demo"


def run(
    scenario: Annotated[
        str | None,
        typer.Argument(
            help=r"Built-in name, a .toml file, or a published .json file.  \[default: demo]",
            autocompletion=completing.scenarios,
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help=r"Federated method.  \[default: fedmosaic]", autocompletion=completing.methods)
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help=r"What runs the clients.  \[default: in-process]", autocompletion=completing.engines),
    ] = None,
    superlink: Annotated[
        str | None,
        typer.Option(help=r"With --engine deployment: connection in Flower's config.toml.  \[default: Flower's]"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help=r"Where models compute: auto, cpu, cuda, cuda:1, mps, or cuda:0,cuda:1.  \[default: auto]"),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Communication rounds.")] = None,
    seed: Annotated[int | None, typer.Option(help=r"Seed of everything random.  \[default: 0]")] = None,
    out: Annotated[Path, typer.Option(help="Run folder; new, or holding the run to --resume.")] = Path("runs/run"),
    overrides: Annotated[list[str] | None, typer.Option("--set", help="A setting: training.steps=10.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out; with --rounds, beyond its end.")
    ] = False,
    reference: Annotated[
        bool | None, typer.Option(help=r"Local-only training beside it, to compare.  \[default: the scenario's]")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out data records that cannot be used.")] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            help="Log to wandb, mlflow, tensorboard or trackio; repeatable.",
            autocompletion=completing.trackers,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Run one method on one scenario, and show each client's accuracy on its own and on the others' tasks."""
    if quiet:
        silence_warnings()
    console = PlainConsole(quiet=quiet)
    given = {"method": method, "engine": engine, "rounds": rounds, "seed": seed, "device": device}
    changed = partial(with_options, skip_bad=skip_bad, reference=reference)
    # Names and settings are refused before the libraries are loaded that it takes to run.
    for each in track or ():
        TRACKERS.check(each)
    asked = (
        None
        if resume
        else resolve(changed(load_scenario(scenario or _DEFAULT_SCENARIO)), overrides=overrides or [], **given)
    )

    from fedmosaic.api.placing import placed
    from fedmosaic.api.preparing import prepare
    from fedmosaic.cli.progress import teller
    from fedmosaic.cli.resume import resume as go_on
    from fedmosaic.federation import RunFolder, divided
    from fedmosaic.federation.submission import check_superlink, submit_to
    from fedmosaic.report import final_table, write_report
    from fedmosaic.trackers import make_trackers

    trackers = make_trackers(track or ())
    folder: RunFolder | None
    if asked is None:
        folder = go_on(out, scenario, overrides=overrides or [], given=given, changed=changed, console=console)
    else:
        check_superlink(asked, superlink)
        RunFolder.check_free(out)
        settings = placed(divided(asked), tell=teller(console))
        prepare(settings, tell=teller(console))
        folder = RunFolder.create(out, settings)
    if folder is None:
        return
    submit_to(folder, superlink)
    _run_with_reference(folder, console, trackers)
    page = write_report(out)
    console.print(final_table(out))
    console.say(f"results: {out / 'results.json'}\nreport:  {page}")
    for view in filter(None, (tracker.view for tracker in trackers)):
        console.say(f"tracked: {view}")


def _run_with_reference(folder: RunFolder, console: PlainConsole, trackers: Sequence[Tracker]) -> None:
    """Run the method here and the reference, if any, in another process at the same time."""
    from fedmosaic.api.background import BackgroundRun
    from fedmosaic.api.reference import reference_of
    from fedmosaic.cli.display import RunDisplay
    from fedmosaic.federation import engines
    from fedmosaic.federation.event_log import Interrupted

    settings = folder.settings
    reference, names = reference_of(settings), [tracker.name for tracker in trackers]
    beside = BackgroundRun(reference, folder.path / "reference", track=names) if reference else None
    try:
        with RunDisplay(settings, console, beside=beside) as display:
            if folder.results() is None:
                engines.run(settings, folder, callbacks=[display, *trackers])
            display.wait_for(beside)
    except KeyboardInterrupt:
        folder.log(Interrupted())
        console.say(f"\ninterrupted; go on with: fedmosaic run --resume --out {folder.path}")
        raise
    finally:
        if beside is not None:
            beside.stop()
