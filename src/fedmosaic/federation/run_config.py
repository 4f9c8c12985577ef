"""What a Flower run says of a run of ours: its whole settings, or a built-in scenario's name and what is changed in it.

``fedmosaic run`` writes ``settings``; who uses ``flwr run`` gives the other keys, e.g.
``--run-config 'scenario="mosaic40-small" rounds=2 set="training.steps=5"'``. ``pyproject.toml`` lists them all, since
Flower lets nobody set a key that is not there.
"""

from __future__ import annotations

import shlex
import tomllib
from typing import Any

from flwr.app import Context, UserConfigValue

from fedmosaic.config import RunSettings, builtin_names, load_scenario, resolve, validate
from fedmosaic.errors import SettingsError
from fedmosaic.nearest import hint

DEFAULTS: dict[str, UserConfigValue] = {
    "scenario": "demo",
    "method": "",
    "rounds": 0,
    "seed": 0,
    "set": "",
    "settings": "",
    "run": "",
    "wait": 600,
}
"""All keys. ``settings``: the text of a ``settings.toml``, which makes those before it unused. ``run``: the key under
which server and clients keep the run; empty: made of Flower's number of the run. ``wait``: seconds that the server
waits for the clients at the start."""


def settings_of(context: Context) -> RunSettings:
    """Return the settings of the run that a context belongs to.

    Args:
        context: of the ServerApp or of a ClientApp.

    Raises:
        SettingsError: they are not valid, or the scenario is not a built-in one, which every machine has.
    """
    given: dict[str, Any] = {**DEFAULTS, **context.run_config}
    if given["settings"]:
        try:
            table = tomllib.loads(str(given["settings"]))
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"the run's settings are not TOML: {error}") from None
        return validate(RunSettings, table, source="the run's settings")
    name = str(given["scenario"])
    if name not in builtin_names():
        raise SettingsError(
            f"scenario {name!r} is not built in; {hint(name, builtin_names())}a scenario of your own is run by "
            "fedmosaic run --engine deployment"
        )
    options = {key: given[key] or None for key in ("method", "rounds")}
    overrides = shlex.split(str(given["set"]))
    return resolve(load_scenario(name), overrides=overrides, engine="deployment", seed=given["seed"], **options)


def run_key(context: Context) -> str:
    """Return the key under which every machine keeps the run: what the run says, or Flower's number of it.

    Args:
        context: of the ServerApp or of a ClientApp.
    """
    return str(context.run_config.get("run") or f"flwr-{context.run_id}")
