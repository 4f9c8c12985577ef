"""Which layers of two models are alike: CKA as heat-maps, one page for all pairs (FedMosaic's reason for blocks)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.io import write_atomically
from fedmosaic.report.templates import templates


@dataclass(frozen=True)
class LayerPair:
    """CKA of two models' layers.

    Attributes:
        one, other: names of the models.
        values: one row per layer of one, one column per layer of the other.
        apart: mean distance in relative depth (0 to 1) between a layer and the most similar one of the other model.
    """

    one: str
    other: str
    values: Sequence[Sequence[float]]
    apart: float


def write_layers(pairs: Sequence[LayerPair], *, samples: int, path: Path) -> Path:
    """Write the page and return its path.

    Args:
        pairs: one heat-map each.
        samples: how many both models have read.
        path: of the page; its folder is made if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, templates().get_template("layers.html").render(pairs=pairs, samples=samples))
    return path
