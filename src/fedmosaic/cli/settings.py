"""``fedmosaic settings``: what can be set, to what, and why it is what it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from fedmosaic.cli import completing
from fedmosaic.cli.console import PlainConsole
from fedmosaic.errors import SettingsError
from fedmosaic.nearest import hint
from fedmosaic.registry import METHODS

if TYPE_CHECKING:
    from fedmosaic.config.describe import Setting

settings = typer.Typer(help="List all settings, or explain one.", no_args_is_help=True)


class Form(StrEnum):
    """How settings are listed."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"


_Method = Annotated[
    str | None,
    typer.Option(
        help=r"Only this method's own beside the general ones.  \[default: all]", autocompletion=completing.methods
    ),
]


@settings.command("list")
def list_settings(
    method: _Method = None, form: Annotated[Form, typer.Option("--format", help="How.")] = Form.TABLE
) -> None:
    """List every setting: its key for --set, its default and values, what it means and what the paper has."""
    found = list(_settings(method))
    console = PlainConsole()
    if form is Form.JSON:
        console.say(json.dumps([{"method": of} | dataclasses.asdict(each) for of, each in found], indent=2))
    elif form is Form.MARKDOWN:
        console.say("| method | key | default | values | meaning |\n|---|---|---|---|---|")
        for of, each in found:
            cells = (of, f"`{each.key}`", each.default, ", ".join(each.values), each.meaning)
            console.say("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    else:
        table = Table(Column("key", no_wrap=True), "default", "meaning")
        last = ""
        for of, each in found:
            if of != last:
                table.add_section()
            meaning = f"{', '.join(each.values)}. {each.meaning}" if each.values else each.meaning
            table.add_row(each.key + (f" ({of})" if of else ""), each.default or "none", meaning)
            last = of
        console.print(table)
        console.say("a run takes them by --set KEY=VALUE, a scenario file in its [settings]: docs/scenarios.md")


@settings.command("show")
def show_setting(
    key: Annotated[str, typer.Argument(help="The key, such as training.steps or method.temperature.")],
    method: _Method = None,
) -> None:
    """Explain one setting."""
    own = key.startswith("method.")
    found = [(of, each) for of, each in _settings(method, general=not own, methods=own) if each.key == key]
    if not found:
        known = {each.key for _, each in _settings(method)}
        raise SettingsError(f"unknown setting {key!r}; {hint(key, known)}see fedmosaic settings list")
    console = PlainConsole()
    for of, each in found:
        console.say(f"{each.key}{f' ({of})' if of else ''}")
        for title, text in (
            ("default", each.default or "none"),
            ("values", ", ".join(each.values)),
            ("meaning", each.meaning),
            ("source", each.source),
        ):
            if text:
                console.say(f"  {title + ':':<9}{text}")


def _settings(method: str | None, *, general: bool = True, methods: bool = True) -> Iterator[tuple[str, Setting]]:
    """Yield the settings with the method whose own they are, or an empty text."""
    from fedmosaic.config.describe import described
    from fedmosaic.config.settings import RunDefaults

    names = list(METHODS) if method is None else [METHODS.check(method)]
    if general:
        yield from (("", each) for each in described(RunDefaults) if each.key != "method_settings")
    for name in names if methods else ():
        yield from ((name, each) for each in described(METHODS.load(name).Settings, "method."))
