"""The default mode: one basis for all architectures at once, in which learning the same moves the same latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.alignment.activations import GRADIENTS, INPUTS
from fedmosaic.alignment.algebra import maxvar, nearest_orthonormal
from fedmosaic.alignment.modes import Mode
from fedmosaic.alignment.moments import JointMoments
from fedmosaic.alignment.stream import Bases, Basis, MomentSource


@dataclass(frozen=True)
class Joint(Mode):
    """Generalised CCA (:func:`~.algebra.maxvar`) over all architectures: of what modules read and could learn.

    1. *Start*, at matched positions: A from the modules' inputs (the mean input projected out), so that a latent input
       means the same; B from the gradients of the answer with respect to the modules' outputs, so that a change of a
       latent output has the same effect.
    2. *Rounds*, by samples: P learns along ``Bᵀ D Aᵀ`` with ``D = sum_t g_t x_tᵀ``. Averaging P between architectures
       means something exactly if these agree. So B is chosen where the rows ``D Aᵀ`` agree, given A, and then A where
       the rows ``Bᵀ D`` agree, given B: each is a closed form, and no positions need to be matched.
    3. *Form*: nearest orthonormal bases, times one factor per basis. The factors make latent inputs, and the gradients
       of P, equally large in all architectures; their product over the architectures is 1. Where norms follow a
       projection, as in Gemma, an equal push can otherwise do 20 times as much in one family as in another.

    Attributes:
        ridge: of every CCA, in units of the mean variance. Small: only agreement counts; large: so does how much there
            is to agree on, and P learns faster.
        rounds: of step 2, at least one; two passes over the samples each.
    """

    name = "joint"
    form = "scaled"
    kinds = 2
    ridge: float = 0.1
    rounds: int = 2

    def solve(self, source: MomentSource, start: Bases, pivot: int) -> Bases:
        """See :meth:`Mode.solve`. Has no pivot; only the rank is taken from ``start``."""
        rank = len(next(iter(start.values()))[pivot].A)
        gathered = source.moments_at_positions((INPUTS, GRADIENTS))
        inputs, gradients = gathered[INPUTS], gathered.pop(GRADIENTS)
        bases: dict[str, list[Basis]] = {}
        for name in source.names:
            downs = self._directions(covariance_without_mean(inputs[name]), inputs[name], rank)
            gradient = gradients.pop(name)
            ups = self._directions(gradient.covariance(centred=False), gradient, rank)
            bases[name] = [Basis(down, up.T) for down, up in zip(downs, ups, strict=True)]
        for _ in range(self.rounds):
            for name, projected in source.update_moments(bases, side="outputs").items():
                ups = self._directions(projected.covariance(centred=False), projected, rank)
                bases[name] = [Basis(basis.A, up.T) for basis, up in zip(bases[name], ups, strict=True)]
            updates = source.update_moments(bases, side="inputs")
            for name, projected in updates.items():
                downs = self._directions(projected.covariance(centred=False), projected, rank)
                bases[name] = [Basis(down, basis.B) for basis, down in zip(bases[name], downs, strict=True)]
        return {name: equalise_scales(bases[name], inputs[name], updates[name]) for name in source.names}

    def _directions(self, joint: Tensor, moments: JointMoments, rank: int) -> list[Tensor]:
        """Return orthonormal directions (rank, width) of each architecture."""
        return [nearest_orthonormal(weights) for weights in maxvar(joint, moments.widths, rank, ridge=self.ridge)]


def covariance_without_mean(moments: JointMoments) -> Tensor:
    """Return the joint covariance of the features after each view's mean direction is projected out.

    The latents of a start made of it are zero on average in every architecture, and Q alone carries constants.

    Args:
        moments: of the inputs of one module.

    Returns:
        (total, total), where total is the sum of the widths.
    """
    keep = []
    for view, width in enumerate(moments.widths):
        mean = moments.mean(view)
        unit = mean / mean.norm().clamp(min=1e-300)
        keep.append(torch.eye(width, dtype=torch.float64) - torch.outer(unit, unit))
    project: Tensor = torch.block_diag(*keep)  # type: ignore[no-untyped-call]
    return project @ moments.covariance() @ project


def equalise_scales(bases: Sequence[Basis], inputs: JointMoments, updates: JointMoments) -> list[Basis]:
    """Scale one module's bases so that latent inputs and gradients of P are equally large in all architectures.

    Args:
        bases: of each architecture.
        inputs: moments of the module's inputs.
        updates: moments of the samples' ``B^T D``, projected by these bases.

    Returns:
        The bases of each architecture, each A and each B times one factor.
    """
    latents = _root_mean_squares([basis.A for basis in bases], inputs, centred=True)
    gradients = _root_mean_squares([basis.A for basis in bases], updates, centred=False) / latents
    downs, ups = latents.log().mean().exp() / latents, gradients.log().mean().exp() / gradients
    return [Basis(basis.A * down, basis.B * up) for basis, down, up in zip(bases, downs, ups, strict=True)]


def _root_mean_squares(maps: Sequence[Tensor], moments: JointMoments, *, centred: bool) -> Tensor:
    """Return the root mean square of each architecture's mapped features."""
    squares = [
        ((weights @ moments.block(view, view, centred=centred)) * weights).sum(1).mean()
        for view, weights in enumerate(maps)
    ]
    return torch.stack(squares).clamp(min=1e-30).sqrt()
