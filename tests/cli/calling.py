"""Running the program in this process."""

import sys
from functools import cache

import typer

from fedmosaic.cli import main

_command = cache(typer.main.get_command)  # to make all commands takes a third of a second


def call(monkeypatch, capsys, *arguments):
    """Return (exit status, standard output, standard error)."""
    monkeypatch.setattr(typer.main, "get_command", _command)
    monkeypatch.setattr(sys, "argv", ["fedmosaic", *map(str, arguments)])
    try:
        main()
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    captured = capsys.readouterr()
    return status, captured.out, captured.err
