"""``fedmosaic run``: one method on one scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedmosaic.cli.background import BackgroundRun, start_or_resume
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.display import RunDisplay
from fedmosaic.cli.libraries import silence_warnings
from fedmosaic.cli.prepare import prepare
from fedmosaic.config import RunSettings, load_scenario, resolve
from fedmosaic.federation import RunFolder, divided, engines
from fedmosaic.report import final_table, write_report

_DEFAULT_SCENARIO = "demo"


def run(
    scenario: Annotated[
        str | None, typer.Argument(help=r"Built-in name, a .toml file, or a published .json file.  \[default: demo]")
    ] = None,
    method: Annotated[str | None, typer.Option(help=r"Federated method.  \[default: fedmosaic]")] = None,
    engine: Annotated[str | None, typer.Option(help="in-process, simulation or deployment.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Communication rounds.")] = None,
    seed: Annotated[int | None, typer.Option(help=r"Seed of everything random.  \[default: 0]")] = None,
    out: Annotated[Path, typer.Option(help="Run folder; new, or holding the run to --resume.")] = Path("runs/run"),
    overrides: Annotated[list[str] | None, typer.Option("--set", help="A setting: training.steps=10.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    reference: Annotated[
        bool | None, typer.Option(help=r"Local-only training beside it, to compare.  \[default: the scenario's]")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out data records that cannot be used.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Run one method on one scenario, and show each client's accuracy on its own and on the others' tasks."""
    if quiet:
        silence_warnings()
    console = PlainConsole(quiet=quiet)
    resuming = resume and (out / "settings.toml").is_file()
    given = {"method": method, "engine": engine, "rounds": rounds, "seed": seed}
    if resuming and scenario is None and not overrides and all(value is None for value in given.values()):
        settings = RunFolder(out).settings
    else:
        chosen = load_scenario(scenario or _DEFAULT_SCENARIO)
        chosen = chosen.model_copy(update={"skip_bad": chosen.skip_bad or skip_bad})
        settings = divided(resolve(chosen, overrides=overrides or [], **given))
    if not resuming:
        RunFolder.check_free(out)
    prepare(settings, console)
    folder = start_or_resume(settings, out) if resuming else RunFolder.create(out, settings)
    _run_with_reference(folder, settings, _reference(settings, reference), console)
    page = write_report(out)
    console.print(final_table(out))
    console.say(f"results: {out / 'results.json'}\nreport:  {page}")


def _reference(settings: RunSettings, wanted: bool | None) -> RunSettings | None:
    """The settings of the run beside this one, if any: all the same but the method."""
    name = settings.scenario.reference or "sft"
    if wanted is False or (wanted is None and not settings.scenario.reference) or name == settings.method:
        return None
    changes: dict[str, Any] = {"method": name, "method_settings": {}}
    return settings.model_copy(update=changes)


def _run_with_reference(
    folder: RunFolder, settings: RunSettings, reference: RunSettings | None, console: PlainConsole
) -> None:
    """Run the method here and the reference, if any, in another process at the same time."""
    beside = BackgroundRun(reference, folder.path / "reference") if reference else None
    try:
        with RunDisplay(settings, console, beside=beside) as display:
            if folder.results() is None:
                engines.run(settings, folder)
            display.wait_for(beside)
    except KeyboardInterrupt:
        folder.event("interrupted")
        console.say(f"\ninterrupted; go on with: fedmosaic run --resume --out {folder.path}")
        raise
    finally:
        if beside is not None:
            beside.stop()
