"""The table of docs/models.md: what small random checkpoints of the usual architectures do, and what not and why.

python benchmarks/checkpoints.py                  # prints it; names of instances after it choose some
python benchmarks/checkpoints.py --write          # into docs/models.md
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import types
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import _pytest.outcomes
import torch
import transformers

from fedmosaic.models.library_errors import one_line

HERE = Path(__file__).parents[1]
PAGE = HERE / "docs" / "models.md"
BEGIN, END = "<!-- python benchmarks/checkpoints.py --write -->\n", "<!-- end -->\n"
sys.modules["tests"] = types.ModuleType("tests")  # whatever else is installed under this name
sys.modules["tests"].__path__ = [str(HERE / "tests")]

from tests.models import checks, instances, making  # noqa: E402


def row(name: str) -> tuple[dict[str, str], list[str]]:
    """Return what an instance does (``yes``, ``no`` or ``-``, by column), and why it does not do the rest."""
    instance = instances.INSTANCES[name]
    with tempfile.TemporaryDirectory() as home:
        folder, second = Path(home, "one"), Path(home, "two")
        if missing := [package for package in instance.needs if find_spec(package) is None]:
            return dict.fromkeys(checks.CHECKS, "?"), [f"not tried here: {' and '.join(missing)} not installed"]
        try:
            making.save(instance, folder)
        except Exception as error:  # whatever transformers raises for a kind that it has no class for
            return dict.fromkeys(checks.CHECKS, "no"), [one_line(error)]

        @cache
        def other() -> Path:
            making.save(instance, second, seed=1)
            return second

        done, why = {}, []
        for column, check in checks.CHECKS.items():
            scratch = Path(home, column)
            scratch.mkdir()
            try:
                check(checks.Case(folder, other, scratch))
                done[column] = "yes"
            except _pytest.outcomes.Skipped:
                done[column] = "-"
            except Exception as error:
                done[column] = "no"
                why.append(f"{column}: {one_line(error)}".replace(str(folder), "FOLDER"))
            if done["load"] == "no":
                return {**dict.fromkeys(checks.CHECKS, "-"), **done}, why
        return done, why


def table(names: list[str]) -> str:
    columns = list(checks.CHECKS)
    lines = [f"| architecture | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    notes = []
    for name in names:
        done, why = row(name)
        title = instances.INSTANCES[name].title
        lines.append(f"| {title} | {' | '.join(done[column] for column in columns)} |")
        print(lines[-1], *why, sep="\n    ", file=sys.stderr, flush=True)
        notes += [f"- **{title}**, {text}" for text in why]
    return "\n".join([*lines, "", *notes, ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="instances; all")
    parser.add_argument("--write", action="store_true", help="into docs/models.md")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    made = table(chosen.names or list(instances.INSTANCES))
    if chosen.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{made}{END}{rest.split(END)[1]}", encoding="utf-8")
    else:
        print(made)
