"""What limits the transfer test: how alike the ways are in which two architectures would learn a skill through P and Q.

    python benchmarks/transfer_limits.py --out runs/transfer --modes joint,none     # the folder of transfer.py

Cosines between two architectures of vectors over all of P, means over pairs of architectures:

- ``samples``: gradients of the right answer's lead, sample by sample. This is what the alignment makes alike.
- ``start``: the mean gradient of the loss over the skill, along which training starts.
- ``learned``: P after training, and ``others``: P of two different skills, which should be 0.

``kinds`` is the effective number of directions among the samples' gradients (participation ratio, mean over modules; at
most r x r, and at most the number of samples). If it is small, samples agree about little more than the answer's words.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from statistics import mean

import torch
from torch import Tensor
from transfer import SEEN, Bench, options

from fedmosaic.alignment.activations import View, answer_margin
from fedmosaic.data.sample import Sample

LOOKS = 48  # samples whose gradients are compared
Vectors = dict[str, Tensor]
"""Module -> values of P: (r * r,), or (samples, r * r)."""


def gradients(
    bench: Bench, name: str, samples: Sequence[Sample], loss: Callable[[Sequence[Sample]], Tensor]
) -> Vectors:
    """Return the gradient with respect to P of every sample of ``loss``, at P = Q = 0."""
    bench.reset(name)
    bench.adapters[name].train_only("local")
    parameters = {key: p for key, p in bench.adapters[name].named_groups()["colora"].items() if key.endswith(".P")}
    rows = [torch.autograd.grad(loss([sample]), list(parameters.values()), allow_unused=True) for sample in samples]
    columns = zip(parameters, zip(*rows, strict=True), strict=True)
    return {key: torch.stack([_flat(g, parameters[key]) for g in column]) for key, column in columns}


def _flat(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return (torch.zeros_like(parameter) if gradient is None else gradient).detach().flatten()


def looks(bench: Bench, name: str, skill: str) -> dict[str, Vectors]:
    """Return what one architecture says of a skill."""
    model, task = bench.models[name], bench.tasks[skill]
    view = View(model, {})
    samples = task.train[:LOOKS]
    leads = gradients(bench, name, samples, lambda some: -answer_margin(view, model.collate(some), some).sum())
    losses = gradients(bench, name, samples, lambda some: model.loss(model.collate(some)))
    bench.reset(name)
    bench.train(name, task.train[:SEEN], bench.arguments.steps, seed=0)
    learned = {f"local/{key}": value.flatten() for key, value in bench.shared(name).items() if key.endswith(".P")}
    return {"samples": leads, "start": {key: value.mean(0) for key, value in losses.items()}, "learned": learned}


def cosine(one: Vectors, other: Vectors) -> float:
    """Return the cosine of everything together."""
    a, b = (torch.cat([vectors[key].flatten() for key in one]) for vectors in (one, other))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def kinds(samples: Vectors) -> float:
    """Return the participation ratio of the singular values, mean over modules."""
    shares = [torch.linalg.svdvals(rows).square() for rows in samples.values()]
    return mean(float(each.sum() ** 2 / each.square().sum()) for each in shares)


def measure(bench: Bench, recipe: str) -> dict[str, dict[str, float]]:
    """Return the numbers of every skill in one recipe's bases."""
    bench.use(recipe)
    found = {(name, skill): looks(bench, name, skill) for skill in bench.tasks for name in bench.models}
    pairs = list(itertools.combinations(bench.models, 2))
    table: dict[str, dict[str, float]] = {}
    for skill in bench.tasks:
        same = [(found[one, skill], found[other, skill]) for one, other in pairs]
        unlike = [
            (found[one, skill], found[two, other]) for one, two in pairs for other in bench.tasks if other != skill
        ]
        table[skill] = {
            what: mean(cosine(a[what], b[what]) for a, b in same) for what in ("samples", "start", "learned")
        }
        table[skill]["others"] = mean(cosine(a["learned"], b["learned"]) for a, b in unlike) if unlike else 0.0
        table[skill]["kinds"] = mean(kinds(found[name, skill]["samples"]) for name in bench.models)
    return table


def show(recipe: str, table: dict[str, dict[str, float]]) -> Iterable[str]:
    """Yield a recipe's Markdown table."""
    columns = ("samples", "start", "learned", "others", "kinds")
    yield f"| `{recipe}` | {' | '.join(columns)} |"
    yield f"|---{'|---' * len(columns)}|"
    every = {"mean": {column: mean(row[column] for row in table.values()) for column in columns}}
    for skill, row in (table | every).items():
        yield f"| {skill} | {' | '.join(f'{row[column]:.2f}' for column in columns)} |"


def main() -> None:
    """Write ``limits.json`` and print the tables."""
    arguments: argparse.Namespace = options(__doc__).parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments)
    tables = {recipe: measure(bench, recipe) for recipe in arguments.modes}
    (arguments.out / "limits.json").write_text(json.dumps(tables, indent=1) + "\n")
    for recipe, table in tables.items():
        print("\n".join(show(recipe, table)) + "\n")


if __name__ == "__main__":
    main()
