"""``fedmosaic run --resume``: what there is to go on with, and whether it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.api.objects import Objects
from fedmosaic.api.running import reopened
from fedmosaic.cli.console import PlainConsole
from fedmosaic.cli.progress import teller
from fedmosaic.config import RunSettings, Scenario, load_scenario, resolve, varied
from fedmosaic.federation import RunFolder, divided
from fedmosaic.federation.continuation import continued
from fedmosaic.models.device import AUTO
from fedmosaic.report import write_report


def resume(
    out: Path,
    scenario: str | None,
    *,
    overrides: Sequence[str],
    given: Mapping[str, Any],
    changed: Callable[[Scenario], Scenario],
    console: PlainConsole,
) -> RunFolder | None:
    """Open the run in a folder to go on with it, maybe for more rounds; nothing is written before all is checked.

    Args:
        out: the folder.
        scenario: its scenario, if it was named again.
        overrides: settings that were given again, as ``key=value``.
        given: settings with options of their own; None where not given.
        changed: returns a scenario with what other options say about it.
        console: says what the user should know.

    Returns:
        None if there is nothing to do.

    Raises:
        FedMosaicError: there is no run, it cannot go on like this, or what it reads has changed.
    """
    before = RunFolder.holding_run(out).settings
    settings = continued(before, _asked(before, scenario, overrides, given, changed))
    folder = reopened(out, settings, Objects(), tell=teller(console))
    if folder is None:
        if not (out / "report.html").is_file():
            write_report(out)
        console.say(
            f"the run in {out} is finished: round {settings.rounds} of {settings.rounds}; go on with it: "
            f"fedmosaic run --resume --rounds {2 * settings.rounds} --out {out}"
        )
    return folder


def _asked(
    before: RunSettings,
    scenario: str | None,
    overrides: Sequence[str],
    given: Mapping[str, Any],
    changed: Callable[[Scenario], Scenario],
) -> RunSettings:
    """What the command line asks for; what it does not say is as the run has it, or as a named scenario has it."""
    given = {key: value for key, value in given.items() if (key, value) != ("device", AUTO)}  # taken already
    if scenario is None:
        own = before.model_copy(update={"scenario": changed(before.scenario)})
        return varied(own, [*overrides, *(f"{key}={value}" for key, value in given.items() if value is not None)])
    kept = {"skip_bad": before.scenario.skip_bad, "reference": before.scenario.reference}
    named = changed(load_scenario(scenario).model_copy(update=kept))
    return divided(
        resolve(named, overrides=[f"rounds={before.rounds}", f"device={before.device}", *overrides], **given)
    )
