"""docs/methods.md: what every built-in method is and costs, from the code and from dry runs.

    python -m fedmosaic.report.methods docs/methods.md

The first table is read off the classes; the second is counted in a dry run of the demo scenario: bytes and FLOPs of
its second round, the first in which there is something to receive.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fedmosaic.config import RunSettings, load_scenario, resolve
from fedmosaic.experiments.dry_run import steady_round, with_null_models
from fedmosaic.federation import wire
from fedmosaic.io import write_atomically
from fedmosaic.methods.base import Method
from fedmosaic.methods.registry import method_classes

_HEAD = """\
# Methods

Made by `python -m fedmosaic.report.methods docs/methods.md`; do not edit. Each file says in its first lines what the
original does and what is adapted here. A method of your own: [add-a-method.md](add-a-method.md).

## What they are

⇅ marks the communicated slot; all others never leave the client. Settings are changed with `--set method.NAME=VALUE`.
Clients always differ in their samples; the last column says what else a method is made for. Where base models differ,
methods that do not name them work within groups of equal base models. *Last exchange*: whether a download that is taken
up without training changes the answers ([decision 16](decisions/0016-final-exchange.md)).

"""
_COSTS = """
## What they cost

On the `demo` scenario ({clients} clients, {models} base models, rank {rank}), per client and round. FLOPs are those of
a round of {steps:g} steps, server included, relative to `sft`; of the second one, since in the first nothing has been
received yet. Lines are those of the method's own file that hold code.

"""


@dataclass(frozen=True)
class Cost:
    """What one method's round costs.

    Attributes:
        sends: what a client uploads, in words.
        up: bytes of a client's upload, mean over clients.
        down: bytes of a client's download.
        flops: of all clients and the server.
    """

    sends: str
    up: float
    down: float
    flops: float


def builtin() -> list[type[Method[Any]]]:
    """The methods of this package by name; local training and plain averaging first."""
    own = [kind for kind in method_classes().values() if kind.__module__.startswith("fedmosaic.")]
    return sorted(own, key=lambda kind: (kind.name != "sft", kind.name != "fedavg", kind.name))


def what_they_are() -> str:
    """The table that is read off the classes."""
    head = ("Method", "Paper", "Slots", "Answers with", "Last exchange", "Settings", "May differ")
    return _table(head, (_about(kind) for kind in builtin()))


def what_they_cost(costs: Mapping[str, Cost]) -> str:
    """Return the table of measured costs in Markdown.

    Args:
        costs: by method; those of ``sft`` are the reference for FLOPs.
    """
    rows = [
        (
            f"`{kind.name}`",
            cost.sends,
            f"{cost.up / 1024:.0f}",
            f"{cost.down / 1024:.0f}",
            f"{cost.flops / costs['sft'].flops:.2f}",
            str(lines_of_code(Path(inspect.getfile(kind)).read_text(encoding="utf-8"))),
        )
        for kind in builtin()
        for cost in (costs[kind.name],)
    ]
    return _table(("Method", "Sends", "KB up", "KB down", "FLOPs", "Lines"), rows)


def lines_of_code(source: str) -> int:
    """Return the number of lines of a module with code: without docstrings, comments and empty lines.

    Args:
        source: text of the module.
    """
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            held.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(held)


def measure(settings: RunSettings) -> Cost:
    """Return the costs of the second round of a dry run, with the bytes that would be sent.

    Args:
        settings: of the run.
    """
    assets, clients = with_null_models(settings), settings.scenario.clients
    steady, elastic = steady_round(assets), assets.method.elastic
    names = {name for upload in steady.uploads.values() for name in upload.tensors}
    return Cost(
        sends=_in_words(names) or "nothing",
        up=sum(_bytes(upload.tensors, elastic) for upload in steady.uploads.values()) / len(clients),
        down=sum(_bytes(tensors, elastic) for tensors in steady.downloads.values()) / len(clients),
        flops=steady.flops,
    )


def _bytes(tensors: Mapping[str, Tensor], elastic: bool) -> int:
    """What is sent, by the hash of its names and shapes where they were agreed."""
    agreed = None if elastic else {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return wire.size(wire.pack({}, tensors, agreed=agreed))


def write(path: Path) -> None:
    """Measure all methods and write the page.

    Args:
        path: of the page.
    """
    scenario = load_scenario("demo")
    settings = {
        kind.name: resolve(scenario, method=kind.name, overrides=["adapter.alignment=none"]) for kind in builtin()
    }
    costs = {}
    for name, each in settings.items():
        print(f"measuring {name}", file=sys.stderr)  # noqa: T201 - minutes pass
        costs[name] = measure(each)
    about = _COSTS.format(
        clients=len(scenario.clients),
        models=len(scenario.models),
        rank=settings["sft"].adapter.rank,
        steps=settings["sft"].training.steps,
    )
    write_atomically(path, _HEAD + what_they_are() + about + what_they_cost(costs))


def _about(kind: type[Method[Any]]) -> tuple[str, ...]:
    slots = ", ".join(f"`{slot.name}`{' ⇅' if slot.communicated else ''}" for slot in kind.slots)
    settings = ", ".join(f"`{field.name}={_plain(field.default)}`" for field in dataclasses.fields(kind.Settings))
    file = f"../src/{kind.__module__.replace('.', '/')}.py"
    paper = re.match(r"[^(:]*\([^)]*\)", sys.modules[kind.__module__].__doc__ or "")
    made = kind(kind.Settings())
    answers = _mix(kind) if made.answers_by_mixing else "a rule of its own"
    exchange = "taken up" if made.exchange_changes_answers else "unchanged"
    return (
        f"[`{kind.name}`]({file})", paper[0] if paper else kind.title, slots, answers, exchange,
        settings or "-", kind.heterogeneity or "-",
    )  # fmt: skip


def _mix(kind: type[Method[Any]]) -> str:
    mix = kind.answers_with
    if isinstance(mix, str):
        return kind.gate or "gate" if mix == "gate" else f"`{mix}`"
    return " + ".join(f"{weight:g} `{name}`" for name, weight in mix.items())


def _plain(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _in_words(names: Iterable[str]) -> str:
    """Letters of adapter tensors (``A, B``), and the first word of everything else."""
    kinds = {
        name.rpartition(".")[2] if name.startswith(("layer.", "block.", "tower.")) else re.split(r"\W", name)[0]
        for name in names
    }
    return ", ".join(sorted(kinds))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
