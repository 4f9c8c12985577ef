"""Running the program in this process."""

import sys

from fedmosaic.cli import main


def call(monkeypatch, capsys, *arguments):
    """Return (exit status, standard output, standard error)."""
    monkeypatch.setattr(sys, "argv", ["fedmosaic", *map(str, arguments)])
    try:
        main()
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    captured = capsys.readouterr()
    return status, captured.out, captured.err
