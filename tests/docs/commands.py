"""Reads commands as far as their own parsers do, so that one that takes hours is known to be typed correctly."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import click
import typer
from tests.docs.pages import ROOT

from fedmosaic.cli import app
from fedmosaic.config import load_scenario, resolve
from fedmosaic.experiments.sweep import variants
from fedmosaic.methods.registry import make_method

PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+")
_OURS = {"python", "fedmosaic", "pip"}


def calls(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell script, without what is set before it."""
    for line in text.replace("\\\n", "").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set(";&|()"):
                words.append(word)
                continue
            while words and (words[0] == "do" or re.match(r"\w+=", words[0])):
                words.pop(0)
            if words:
                yield words
            words = []


def check(words: list[str]) -> bool:
    """Read a command as the program that it calls would; return whether that is a program of ours.

    Raises:
        Exception: whatever the parser raises.
    """
    program, *arguments = words
    if program not in _OURS:
        return False
    {"python": _check_python, "fedmosaic": _check_fedmosaic, "pip": _check_pip}[program](arguments)
    return True


def parameters(arguments: list[str]) -> tuple[str, dict[str, object]]:
    """Return the verb that the command line's parsers find, and its parameters."""
    command = typer.main.get_command(app)
    name, context = "fedmosaic", None
    while True:
        try:
            context = command.make_context(name, list(arguments), parent=context)
        except click.exceptions.Exit:  # --version and the like have been read, and done
            return name, {}
        if not hasattr(command, "commands"):
            return name, context.params
        rest = [*getattr(context, "protected_args", ()), *context.args] or list(getattr(context, "_protected_args", ()))
        if not rest:
            return name, context.params
        name, command, arguments = command.resolve_command(context, rest)
        if command is None:
            raise click.UsageError(f"no such command: {name}")


def _check_fedmosaic(arguments: list[str]) -> None:
    verb, found = parameters(arguments)
    scenario = found.get("scenario")
    if verb not in ("run", "compare") or found.get("resume"):
        return
    known = scenario is None or PLACEHOLDER.fullmatch(str(scenario)) or Path(str(scenario)).suffix
    settings = resolve(
        load_scenario("demo" if known else str(scenario)),
        method=found.get("method"),
        overrides=list(found.get("overrides") or ()),
    )
    make_method(settings.method, settings.method_settings)
    for variant in filter(None, str(found.get("methods") or "").split(",")):
        (changed,) = variants(settings, [variant]).values()
        make_method(changed.method, changed.method_settings)


def _check_pip(arguments: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        unknown = set(name.split(",")) - set(extras)
        assert not unknown, f"no such extra: {unknown}"


class _OptionsReadError(Exception):
    """The options have been read."""


def _check_python(arguments: list[str]) -> None:
    module = arguments[0] == "-m"
    name, *options = arguments[1:] if module else arguments
    if module and not name.startswith("fedmosaic."):
        return
    path = Path(find_spec(name).origin) if module else ROOT / name
    if "argparse" not in path.read_text() and "options(__doc__)" not in path.read_text():
        return
    reads = argparse.ArgumentParser.parse_args

    def read(parser: argparse.ArgumentParser, given: list[str] | None = None, namespace: object = None) -> None:
        reads(parser, given, namespace)
        raise _OptionsReadError

    with (
        mock.patch.object(sys, "argv", [str(path), *options]),
        mock.patch.object(sys, "path", [str(path.parent), *sys.path]),
        mock.patch("argparse.ArgumentParser.parse_args", read),
    ):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except _OptionsReadError:
            return
        except SystemExit as stop:
            assert stop.code == 0, f"{name} {options}"
            return
    raise AssertionError(f"{name} has read no options")
