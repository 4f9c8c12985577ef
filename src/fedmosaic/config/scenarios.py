"""Finding scenarios: built-in by name, a TOML file of ours, the published JSON list, or one of them divided anew."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from fedmosaic.config.dirichlet import divide
from fedmosaic.config.paths import OF_SCENARIO, expanded, rooted
from fedmosaic.config.published import published_scenarios
from fedmosaic.config.published_file import from_published
from fedmosaic.config.scenario import Division, Scenario
from fedmosaic.config.settings import RunDefaults, defaults_of
from fedmosaic.config.validation import validate
from fedmosaic.errors import SettingsError
from fedmosaic.nearest import hint

_DIVIDED = re.compile(r"(?P<base>.+)-dirichlet-(?P<clients>\d+)(?:-(?P<alpha>.+))?", re.ASCII)


def builtin_names() -> list[str]:
    """Names of the built-in scenarios."""
    folder = resources.files("fedmosaic.config") / "scenarios"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_scenario(name: str) -> Scenario:
    """Return a scenario by built-in name or from a ``.toml`` or published ``.json`` file.

    ``NAME-dirichlet-CLIENTS`` and ``NAME-dirichlet-CLIENTS-ALPHA`` are any of them divided among so many clients. With
    the built-in benchmark this is done here; else the scenario's ``division`` says what is to be done when the data are
    at hand.

    Args:
        name: the name or the file.

    Raises:
        SettingsError: unknown name (with the nearest one), unreadable file, or invalid content.
    """
    path = expanded(name)
    if path.suffix.lower() in _READERS:
        return _divided_if_built_in(_from_file(path))
    if "-dirichlet-" in name:
        return _divided_if_built_in(_to_be_divided(name))
    published = published_scenarios()
    if name in published:
        return published[name]
    if name in builtin_names():
        text = (resources.files("fedmosaic.config") / "scenarios" / f"{name}.toml").read_text(encoding="utf-8")
        return _checked(tomllib.loads(text), name, f"scenario {name}")
    near = hint(name, [*builtin_names(), *published])
    raise SettingsError(
        f"unknown scenario {name!r}; {near}built-in: {', '.join(builtin_names())}, NAME-dirichlet-CLIENTS; "
        f"published, given their data: {', '.join(published)}; "
        "or give a .toml or .json file"
    )


# ---- divided scenarios -----------------------------------------------------------------------------------------------


def _to_be_divided(name: str) -> Scenario:
    found = _DIVIDED.fullmatch(name)
    try:
        numbers = {"clients": int(found["clients"]), "alpha": float(found["alpha"] or 0.5)} if found else {}
        division = Division.model_validate(numbers)
    except ValueError:  # pydantic's is one, too
        raise SettingsError(
            f"unknown scenario {name!r}: expected NAME-dirichlet-CLIENTS or NAME-dirichlet-CLIENTS-ALPHA with a whole "
            "number of clients from 1 and a finite alpha above 0, e.g. mosaic40-dirichlet-100-0.5"
        ) from None
    assert found is not None
    base = load_scenario(found["base"])
    if base.division or any(client.shares for client in base.clients):
        raise SettingsError(f"scenario {name!r}: the tasks of {base.name!r} are divided already; divide them once")
    suffix = name.removeprefix(found["base"])
    title = f"{division.clients} clients, {len(base.task_names)} tasks divided by Dirichlet({division.alpha:g})"
    return base.model_copy(update={"name": base.name + suffix, "title": title, "division": division})


def _divided_if_built_in(scenario: Scenario) -> Scenario:
    if scenario.division is None or scenario.benchmark != "mosaic40":
        return scenario
    return divide(scenario, **scenario.division.model_dump())


# ---- files -----------------------------------------------------------------------------------------------------------


_READERS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    ".toml": lambda text, source: tomllib.loads(text),
    ".json": lambda text, source: from_published(json.loads(text), source),
}


def _from_file(path: Path) -> Scenario:
    source = f"scenario {path}"
    try:
        table = _READERS[path.suffix.lower()](path.read_text(encoding="utf-8-sig"), source)
    except OSError as error:
        raise SettingsError(f"cannot read scenario {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"scenario {path} is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:  # of JSON and TOML, and of numbers too long to be any
        raise SettingsError(f"scenario {path} is not valid: {error}") from None
    try:
        table = rooted(table, path.resolve().parent, OF_SCENARIO)
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from None
    return _checked(table, path.stem, source)


def _checked(table: dict[str, Any], name: str, source: str) -> Scenario:
    scenario = validate(Scenario, {"name": name, **table}, source=source)
    validate(RunDefaults, defaults_of(scenario), source=source, below="settings")
    if scenario.benchmark == "published" and not scenario.data:
        return scenario.model_copy(update={"data": os.environ.get("FEDMOSAIC_DATA", "")})
    return scenario
