"""How well the latents of one module agree between architectures, on samples that did not choose the bases."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedmosaic.alignment.activations import GRADIENTS, INPUTS
from fedmosaic.alignment.moments import JointMoments
from fedmosaic.alignment.stream import Bases, MomentSource, select_positions


@dataclass(frozen=True)
class Correlation:
    """Agreement between architectures, means over all pairs of them; 1 is perfect, 0 none.

    Attributes:
        inputs: of latent inputs ``A x`` at matched positions; mean over the r latents.
        effects: of the answer's derivatives ``Bᵀ g`` along latent outputs at matched positions, around zero; as above.
        updates: of the gradients with respect to P of single samples, around zero; all r x r entries together.
    """

    inputs: float
    effects: float
    updates: float


def measure(source: MomentSource, bases: Bases) -> dict[str, Correlation]:
    """Return how well the latents of every module of the source agree between the architectures.

    Args:
        source: held-out samples.
        bases: of each module, in the order of the source's views.

    Returns:
        Correlations by module.
    """
    views = len(source.views)
    rank = len(next(iter(bases.values()))[0].A)
    inputs, effects = ({name: JointMoments([rank] * views) for name in bases} for _ in range(2))
    updates = {name: JointMoments([1] * views) for name in bases}
    for activations in source.activations((INPUTS, GRADIENTS)):
        at, weights = source.matched_positions(activations)
        for name, each in bases.items():
            latents = [x @ basis.A.to(x).T for x, basis in zip(activations.of(name, INPUTS), each, strict=True)]
            effect = [g @ basis.B.to(g) for g, basis in zip(activations.of(name, GRADIENTS), each, strict=True)]
            inputs[name].add([select_positions(x, where) for x, where in zip(latents, at, strict=True)], weights)
            effects[name].add([select_positions(g, where) for g, where in zip(effect, at, strict=True)], weights)
            updates[name].add([(g.mT @ x).reshape(-1, 1) for g, x in zip(effect, latents, strict=True)])
    return {
        name: Correlation(
            _mean(inputs[name], centred=True), _mean(effects[name], centred=False), _mean(updates[name], centred=False)
        )
        for name in bases
    }


def _mean(moments: JointMoments, *, centred: bool) -> float:
    """Mean, over latents and pairs of architectures, of the correlation between the two values of a latent."""
    views = range(len(moments.widths))
    sizes = [moments.block(view, view, centred=centred).diagonal().clamp(min=1e-30).sqrt() for view in views]
    found = [
        moments.block(one, other, centred=centred).diagonal() / (sizes[one] * sizes[other])
        for one in views
        for other in range(one)
    ]
    return float(torch.cat(found).mean())
