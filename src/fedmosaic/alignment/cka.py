"""How alike two models' layers are: linear centred kernel alignment (Kornblith et al., 2019, arXiv 1905.00414).

The paper divides models into blocks of equal relative depth because CKA is highest there. Here it tells, too, what can
be expected of an alignment: bases cannot agree more than the features do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from fedmosaic.alignment.activations import INPUTS, View
from fedmosaic.alignment.moments import JointMoments
from fedmosaic.alignment.stream import MomentSource, PositionWeights, select_positions
from fedmosaic.data.sample import Sample
from fedmosaic.models import BaseModel
from fedmosaic.models.stack import decoder_layers


def linear_cka(moments: JointMoments, one: int, other: int) -> float:
    """Return the linear CKA of two views' features, ``||C_ab||² / (||C_aa|| ||C_bb||)``.

    Args:
        moments: joint second moments of both.
        one: number of the first view.
        other: number of the second view.

    Returns:
        From 0 to 1; 1 if the features are equal up to rotation and scale.
    """
    cross, own, others = (moments.block(*pair).norm() for pair in ((one, other), (one, one), (other, other)))
    return float(cross**2 / (own * others).clamp(min=1e-300))


@dataclass(frozen=True)
class LayerSimilarity:
    """CKA between all layers of two models.

    Attributes:
        one, other: names of the models.
        cka: (layers of one, layers of other).
    """

    one: str
    other: str
    cka: Tensor

    def depth_distance(self) -> float:
        """Return the mean distance in relative depth (0 to 1) between a layer of one and its most similar layer."""
        rows, columns = (max(size - 1, 1) for size in self.cka.shape)
        nearest: list[int] = self.cka.argmax(1).tolist()
        return sum(abs(row / rows - column / columns) for row, column in enumerate(nearest)) / len(nearest)


def compare_layers(models: Mapping[str, BaseModel], samples: Sequence[Sample]) -> list[LayerSimilarity]:
    """Compare the layers of all pairs of models.

    Args:
        models: base models by name, without adapters.
        samples: what all of them read.

    Returns:
        One similarity for each pair, in the order of ``models``.
    """
    return [
        LayerSimilarity(one, other, layer_similarity(models[one], models[other], samples))
        for one, other in combinations(models, 2)
    ]


def layer_similarity(
    one: BaseModel,
    other: BaseModel,
    samples: Sequence[Sample],
    *,
    positions: PositionWeights | None = None,
    batch_size: int = 32,
) -> Tensor:
    """Return the CKA (layers of one, layers of other) of what the decoder layers read, at matched positions.

    Args:
        one: a base model without an adapter.
        other: another one.
        samples: what both read.
        positions: which positions count, and how much.
        batch_size: samples that go through a model at once.
    """
    views = [View(model, _layers(model)) for model in (one, other)]
    depths = [len(view.linears) for view in views]
    names = [str(layer) for layer in range(max(depths))]
    source = MomentSource(views, samples, names, positions or PositionWeights(), batch_size)
    moments: JointMoments | None = None
    for activations in source.activations((INPUTS,)):
        at, weights = source.matched_positions(activations)
        rows = [
            select_positions(features[name][INPUTS], where)
            for features, where in zip(activations.features, at, strict=True)
            for name in features
        ]
        moments = moments or JointMoments([row.shape[1] for row in rows])
        moments.add(rows, weights)
    if moments is None:
        return torch.zeros(*depths)
    return torch.tensor([[linear_cka(moments, a, depths[0] + b) for b in range(depths[1])] for a in range(depths[0])])


def _layers(model: BaseModel) -> dict[str, nn.Module]:
    return {str(index): layer for index, layer in enumerate(decoder_layers(model.decoder))}
