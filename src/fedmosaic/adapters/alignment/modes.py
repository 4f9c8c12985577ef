"""How the frozen bases A and B of one module position are chosen for all architectures, each in closed form.

The latent inputs are ``A x``, the latent outputs act through ``B``. A mode sees the joint second moments of the
architectures' features at matched positions, and the orthonormal random bases that they would have otherwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from fedmosaic.adapters.alignment.algebra import maxvar, nearest_orthonormal, power, ridge_map
from fedmosaic.adapters.alignment.moments import JointMoments
from fedmosaic.adapters.alignment.observe import GRADIENTS, INPUTS, OUTPUTS
from fedmosaic.errors import SettingsError


class Basis(NamedTuple):
    """Frozen bases of one module: A (r, in) and B (out, r)."""

    A: Tensor
    B: Tensor


class Mode(ABC):
    """One way to choose the bases.

    Attributes:
        name: as given on the command line.
        reads: which features it needs moments of.
        orthonormal: whether the rows of A and the columns of B come out orthonormal (FedMosaic, theorem 1).
    """

    name: ClassVar[str]
    reads: ClassVar[frozenset[str]]
    orthonormal: bool = True

    @abstractmethod
    def solve(self, moments: Mapping[str, JointMoments], start: Sequence[Basis], pivot: int) -> list[Basis]:
        """Return the bases of one module position in each architecture.

        Args:
            moments: of the features that the mode reads; views in the architectures' order.
            start: random orthonormal bases in float64.
            pivot: the architecture that the others follow, where a mode has one.
        """


@dataclass(frozen=True)
class NoAlignment(Mode):
    """Random orthonormal bases: what the r latents mean differs between architectures."""

    name = "none"
    reads = frozenset()

    def solve(self, moments: Mapping[str, JointMoments], start: Sequence[Basis], pivot: int) -> list[Basis]:
        """Return the bases as they are."""
        return list(start)


@dataclass(frozen=True)
class InputsOnly(Mode):
    """A follows the pivot's: least squares ``A_l x_l ≈ A_p x_p``, then nearest row-orthonormal. B stays random.

    Attributes:
        ridge: of the regression, in units of the mean variance.
    """

    name = "a"
    reads = frozenset({INPUTS})
    ridge: float = 1e-2

    def solve(self, moments: Mapping[str, JointMoments], start: Sequence[Basis], pivot: int) -> list[Basis]:
        """Return the start with each A but the pivot's replaced."""
        inputs = moments[INPUTS]
        return [
            basis if view == pivot else Basis(self._follow(inputs, start[pivot].A, view, pivot), basis.B)
            for view, basis in enumerate(start)
        ]

    def _follow(self, inputs: JointMoments, pivots: Tensor, view: int, pivot: int) -> Tensor:
        target = inputs.block(view, pivot) @ pivots.T
        return nearest_orthonormal(ridge_map(inputs.block(view, view), target, ridge=self.ridge))


@dataclass(frozen=True)
class Published(InputsOnly):
    """The published alignment (METHODS A.5), with A in closed form instead of by gradient descent.

    B by CCA of ``X_1 = B_1 A_1 x`` (pivot) and ``X_3 = B_3 A_3 x`` (centred sums of products S_ab, 1e-4 on the
    diagonals): ``S_33^-½ S_31 S_11^-½ = U Σ Vᵀ``, ``B_3 := S_33^½ U Vᵀ S_11^-½ B_1``.

    Its weakness: X_3 lies in the span of the random B_3, so the result is ``B_3 T`` with T (r, r). The output subspace
    stays random; the better A is aligned, the nearer T is to the identity, and the less changes at all. If A is not
    aligned well, B loses its orthonormal columns.
    """

    name = "published"
    reads = frozenset({INPUTS})
    orthonormal: bool = False
    regular: float = 1e-4

    def solve(self, moments: Mapping[str, JointMoments], start: Sequence[Basis], pivot: int) -> list[Basis]:
        """Return aligned A, and B as published."""
        aligned = super().solve(moments, start, pivot)
        inputs = moments[INPUTS]
        return [
            basis if view == pivot else Basis(basis.A, basis.B @ self._turn(inputs, aligned, view, pivot))
            for view, basis in enumerate(aligned)
        ]

    def _turn(self, inputs: JointMoments, bases: Sequence[Basis], view: int, pivot: int) -> Tensor:
        """Return T (r, r): all factors act within span(B_3) and span(B_1), so latents do for outputs."""

        def products(one: int, other: int) -> Tensor:
            return inputs.count * (bases[one].A @ inputs.block(one, other) @ bases[other].A.T)

        diagonal = self.regular * torch.eye(len(bases[pivot].A), dtype=torch.float64)
        own, pivots = products(view, view) + diagonal, products(pivot, pivot) + diagonal
        left, _, right = torch.linalg.svd(power(own, -0.5) @ products(view, pivot) @ power(pivots, -0.5))
        turn: Tensor = power(own, 0.5) @ left @ right @ power(pivots, -0.5)
        return turn


@dataclass(frozen=True)
class Pivot(InputsOnly):
    """As ``a``, and B mapped through the modules' real outputs, ``y_l ≈ M y_p``: nearest orthonormal to ``M B_p``."""

    name = "pivot"
    reads = frozenset({INPUTS, OUTPUTS})

    def solve(self, moments: Mapping[str, JointMoments], start: Sequence[Basis], pivot: int) -> list[Basis]:
        """Return A and B that follow the pivot's."""
        outputs = moments[OUTPUTS]

        def carried(view: int) -> Tensor:
            mapped = ridge_map(outputs.block(pivot, pivot), outputs.block(pivot, view), ridge=self.ridge)
            return nearest_orthonormal(mapped @ start[pivot].B)

        aligned = super().solve(moments, start, pivot)
        return [basis if view == pivot else Basis(basis.A, carried(view)) for view, basis in enumerate(aligned)]


@dataclass(frozen=True)
class Joint(Mode):
    """A common basis for all architectures at once, by generalised CCA (:func:`~.algebra.maxvar`).

    A: directions of the modules' *inputs* that agree between all architectures, so that a latent input says the same.
    B: directions along which the *gradients of the answer loss with respect to the modules' outputs* agree, so that a
    push on a latent output does the same to the answer, to first order. The mean input is projected out: latents are
    zero on average in every architecture, and Q alone carries constants.

    Attributes:
        orthonormal: nearest orthonormal bases, against ones whose latents have equal variance in all architectures
            (scaled by one factor for all so that the rows' mean norm is 1).
        ridge: of the inputs' CCA, in units of the mean variance.
        gradient_ridge: of the gradients' CCA.
    """

    name = "joint"
    reads = frozenset({INPUTS, GRADIENTS})
    orthonormal: bool = True
    ridge: float = 1e-2
    gradient_ridge: float = 1e-2

    def solve(self, moments: Mapping[str, JointMoments], start: Sequence[Basis], pivot: int) -> list[Basis]:
        """Return the common bases."""
        rank = len(start[pivot].A)
        inputs, gradients = moments[INPUTS], moments[GRADIENTS]
        downs = maxvar(_without_mean(inputs), inputs.widths, rank, ridge=self.ridge)
        ups = maxvar(gradients.covariance(centred=False), gradients.widths, rank, ridge=self.gradient_ridge)
        if self.orthonormal:
            downs, ups = [nearest_orthonormal(each) for each in downs], [nearest_orthonormal(each) for each in ups]
        else:
            downs, ups = _common_scale(downs), _common_scale(ups)
        return [Basis(down, up.T) for down, up in zip(downs, ups, strict=True)]


def _without_mean(moments: JointMoments) -> Tensor:
    """Return the joint covariance of the features, each view's mean direction projected out."""
    keep = []
    for view, width in enumerate(moments.widths):
        mean = moments.mean(view)
        unit = mean / mean.norm().clamp(min=1e-300)
        keep.append(torch.eye(width, dtype=torch.float64) - torch.outer(unit, unit))
    project: Tensor = torch.block_diag(*keep)  # type: ignore[no-untyped-call]
    return project @ moments.covariance() @ project


def _common_scale(maps: Sequence[Tensor]) -> list[Tensor]:
    """Divide all maps by one number: the mean norm of their rows."""
    norm = torch.cat([each.norm(dim=1) for each in maps]).mean()
    return [each / norm for each in maps]


MODES: dict[str, Mode] = {mode.name: mode for mode in (NoAlignment(), InputsOnly(), Published(), Pivot(), Joint())}


def find_mode(mode: str | Mode) -> Mode:
    """Return a mode by its name.

    Raises:
        SettingsError: there is none of this name.
    """
    if isinstance(mode, Mode):
        return mode
    if mode not in MODES:
        raise SettingsError(f"alignment mode {mode!r} is not known; choose one of {', '.join(MODES)}")
    return MODES[mode]
