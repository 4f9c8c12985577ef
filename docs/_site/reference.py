"""What the pages of the reference hold: the command line from its parsers, the settings from their classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import groupby
from typing import Any, get_type_hints

import click
import typer
from rich.text import Text
from typer.models import ParameterInfo

import fedmosaic
from fedmosaic.cli import app
from fedmosaic.config.describe import Setting, described
from fedmosaic.config.settings import RunDefaults
from fedmosaic.registry import METHODS

OBJECTS = {
    "Runs": ("run", "resume", "load_run", "Run", "ClientModel", "RunResults"),
    "Comparisons and measurements": ("compare", "Comparison", "Evaluation", "OtherAnswers", "Adaptation"),
    "Scenarios, data and models": (
        "load_scenario", "Scenario", "ClientSpec", "RunSettings", "Task", "Sample", "OwnModel", "ExportedProduct",
    ),
    "Methods and callbacks": (
        "Method", "MethodSettings", "Slot", "Aggregation", "register_method", "method_names", "Callback",
    ),
    "Errors": ("FedMosaicError", "SettingsError", "DataError", "ModelError", "RunError", "WireError"),
}  # fmt: skip
"""Every name of the package, by what it is for."""


def commands() -> str:
    """Return the page of all commands with their arguments and options."""
    root = typer.main.get_command(app)
    parts = []
    for name, command in _commands(root, ("fedmosaic",)):
        parts.append(f"## {name.removeprefix('fedmosaic ')}")
        parts.append(_plain(command.help))
        parts.append(f"```text\n{_usage(name, command)}\n```")
        parts.append(
            _table(("argument, option", "meaning", "default"), (_parameter(command, each) for each in _shown(command)))
        )
    return "\n\n".join(filter(None, parts)) + "\n"


def settings() -> str:
    """Return the page of all settings, the methods' own after the general ones."""
    parts = []
    general = [each for each in described(RunDefaults) if each.key != "method_settings"]
    alone = [each for each in general if "." not in each.key]
    parts += ["## The run", _settings(alone)]
    grouped = [each for each in general if "." in each.key]
    for group, found in groupby(grouped, key=lambda each: each.key.partition(".")[0]):
        parts += [f"## {group}", _settings(list(found))]
    parts.append("## Of the methods")
    parts.append("Each method has its own; what it does is in [methods](../methods.md).")
    for name in METHODS:
        own = list(described(METHODS.load(name).Settings, "method."))
        if own:
            parts += [f"### {name}", _settings(own)]
    return "\n\n".join(parts) + "\n"


def python() -> str:
    """Return the page of the Python interface, whose texts mkdocstrings reads from the sources."""
    parts = []
    for title, names in OBJECTS.items():
        parts.append(f"## {title}")
        for name in names:
            module = fedmosaic._PLACE[name]
            parts.append(f"::: {_home(module, name)}\n    options:\n      heading_level: 3\n      heading: {name}")
    return "\n\n".join(parts) + "\n"


def _home(module: str, name: str) -> str:
    """Where an object is defined, which is where its docstring is found."""
    return f"{getattr(__import__(module, fromlist=[name]), name).__module__}.{name}"


def _commands(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield " ".join(words), command
        return
    for name, each in subcommands.items():
        yield from _commands(each, (*words, name))


def _shown(command: click.Command) -> list[Any]:
    return [each for each in command.params if not getattr(each, "hidden", False)]


def _usage(name: str, command: click.Command) -> str:
    arguments = [_argument(each) for each in _shown(command) if each.param_type_name == "argument"]
    return " ".join([name, *arguments, "[OPTIONS]"])


def _argument(argument: Any) -> str:
    name = str(argument.name).upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _parameter(command: click.Command, parameter: Any) -> tuple[str, str, str]:
    text, _, default = _plain(_help(command, parameter)).partition("[default: ")
    default = default.removesuffix("]") or _default(parameter)
    if parameter.param_type_name == "argument":
        return f"`{_argument(parameter)}`", text.strip(), default
    name = "`, `".join([*parameter.opts, *parameter.secondary_opts])
    choices = getattr(parameter.type, "choices", None)
    of = " " + "|".join(map(_value, choices)) if choices else "" if parameter.is_flag else f" {_kind(parameter)}"
    return f"`{name}{of}`", text.strip(), "required" if parameter.required else default


def _help(command: click.Command, parameter: Any) -> str | None:
    """The help of a parameter; click 8.5 forgets that of typer's arguments, so it is read where it was written."""
    assert command.callback is not None
    hint = get_type_hints(inspect.unwrap(command.callback), include_extras=True)[parameter.name]
    return next(each.help for each in hint.__metadata__ if isinstance(each, ParameterInfo))


def _kind(parameter: Any) -> str:
    words = {"integer": "NUMBER", "float": "NUMBER", "path": "PATH", "file": "PATH"}
    return words.get(parameter.type.name, "TEXT")


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or value is False or value in ((), []) or callable(value) or parameter.required:
        return ""
    return f"`{_value(value)}`"


def _value(value: Any) -> str:
    return str(getattr(value, "value", value))


def _plain(text: str | None) -> str:
    """Help without rich's markup, in one paragraph."""
    return " ".join(Text.from_markup(text or "").plain.split())


def _settings(found: list[Setting]) -> str:
    rows = ((f"`{each.key}`", _code(each.default), _meaning(each)) for each in found)
    return _table(("key", "default", "meaning"), rows)


def _code(text: str) -> str:
    return f"`{text}`" if text else "none"


def _meaning(setting: Setting) -> str:
    values = " or ".join(f"`{each}`" for each in setting.values)
    return ". ".join(filter(None, (values, setting.meaning)))


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) if lines else ""


def _cell(text: str) -> str:
    return text.replace("\\|", "|").replace("|", "\\|").replace("\n", " ")
