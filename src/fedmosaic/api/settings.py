"""Run settings from what Python code gives: a scenario, values by dotted key, and whole tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.config import Scenario, dotted, load_scenario
from fedmosaic.config.overrides import literal
from fedmosaic.errors import SettingsError
from fedmosaic.nearest import hint

_DEFAULT_REFERENCE = "sft"


def scenario_of(given: Scenario | str | Path) -> Scenario:
    """Return a scenario, loaded if only its name or file is given.

    Args:
        given: a scenario, a built-in name, or a file.

    Raises:
        SettingsError: there is none of this name, or the file cannot be used.
    """
    return given if isinstance(given, Scenario) else load_scenario(str(given))


def overrides_of(settings: Mapping[str, Any] | None, **tables: Mapping[str, Any] | None) -> list[str]:
    """Return settings as the ``key=value`` texts that :func:`~fedmosaic.config.resolve` takes.

    Args:
        settings: values by key; keys may be dotted, and values may be tables: ``{"training.steps": 5}``,
            ``{"training": {"steps": 5}}``.
        tables: tables of settings by their names; None where not given.

    Raises:
        SettingsError: a value is none that a setting can have.
    """
    given = {name: table for name, table in tables.items() if table is not None}
    return [f"{key}={literal(key, value)}" for source in (given, settings or {}) for key, value in dotted(source)]


def with_options(scenario: Scenario, *, skip_bad: bool, reference: bool | str | None) -> Scenario:
    """Return a scenario with what options of a run say about it.

    Args:
        scenario: as it was loaded.
        skip_bad: whether to leave out bad records, if the scenario does not anyway.
        reference: another method's run beside: its name; True for the scenario's, else ``sft``; False for none; None:
            as the scenario says.
    """
    if reference is None:
        wanted = scenario.reference
    elif isinstance(reference, str):
        wanted = reference
    else:
        wanted = (scenario.reference or _DEFAULT_REFERENCE) if reference else ""
    return scenario.model_copy(update={"skip_bad": scenario.skip_bad or skip_bad, "reference": wanted})


def check_shared(overrides: Sequence[str]) -> None:
    """Refuse settings of all runs of a comparison that each run has its own of.

    Args:
        overrides: ``key=value`` strings with dotted keys.

    Raises:
        SettingsError: one of them is such a setting, and would be replaced in silence.
    """
    instead = {"method": "methods (--methods)", "seed": "seeds (--seeds)"}
    for override in overrides:
        if said := instead.get(override.partition("=")[0].strip()):
            raise SettingsError(f"{override}: a comparison has {said} of its own; name them there")


def check_comparison(budget: str, finished: Path | None) -> None:
    """Refuse what no comparison can be asked for.

    Args:
        budget: what all runs may spend alike.
        finished: folder of another comparison.

    Raises:
        SettingsError: there is no such budget, or no such folder.
    """
    if budget not in ("steps", "flops"):
        raise SettingsError(f"--budget {budget!r}: {hint(budget, ('steps', 'flops'))}expected 'steps' or 'flops'")
    if finished and not finished.is_dir():
        raise SettingsError(f"--finished {finished}: no such folder; expected the --out of another comparison")
