"""What the benchmarks share that measure finished runs again: one entry of a JSON file for each run folder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmosaic.io import write_atomically


def main(
    about: str | None, measure: Callable[[Path], Any], show: Callable[[dict[str, Any]], str], *, again: bool
) -> None:
    """Measure the runs that the command line names, or print the table of what was measured.

    Args:
        about: the benchmark's docstring.
        measure: gives a run folder's entry.
        show: gives the Markdown table of all entries, by the folders' names.
        again: whether a run that has an entry is measured again.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--markdown", action="store_true", help="print the table of an earlier call's file")
    arguments = parser.parse_args()
    found = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    for run in arguments.runs:
        if again or run.name not in found:
            found[run.name] = measure(run)
            write_atomically(arguments.out, json.dumps(found, indent=1) + "\n")
    if arguments.markdown:
        print(show(found))
