"""The modes that follow one architecture, or none: how the frozen bases A and B of all architectures are chosen.

The latent inputs are ``A x``, the latent outputs act through ``B``. Every mode is closed-form in joint second moments
of the architectures' features. (The default mode is in :mod:`~fedmosaic.alignment.joint`.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedmosaic.alignment.activations import INPUTS, OUTPUTS
from fedmosaic.alignment.algebra import nearest_orthonormal, power, ridge_map
from fedmosaic.alignment.moments import JointMoments
from fedmosaic.alignment.stream import Bases, Basis, Moments, MomentSource

BasisForm = Literal["orthonormal", "scaled", "free"]
"""Of the rows of A and the columns of B: orthonormal, orthonormal up to one factor per basis, or neither."""


class Mode(ABC):
    """One way to choose the bases.

    Attributes:
        name: as given on the command line.
        form: of the bases that come out (FedMosaic's theorem 1 holds for the first two).
        kinds: number of kinds of moments that it holds at one time.
    """

    name: ClassVar[str]
    form: ClassVar[BasisForm] = "orthonormal"
    kinds: ClassVar[int] = 1

    @abstractmethod
    def solve(self, source: MomentSource, start: Bases, pivot: int) -> Bases:
        """Return the bases of the source's modules in each architecture, in float64.

        Args:
            source: gathers the moments that the mode needs.
            start: random orthonormal bases.
            pivot: number of the architecture that the others follow, where a mode has one.

        Returns:
            By module, the bases of each architecture.
        """


@dataclass(frozen=True)
class NoAlignment(Mode):
    """Random orthonormal bases: what the r latents mean differs between architectures."""

    name = "none"

    def solve(self, source: MomentSource, start: Bases, pivot: int) -> Bases:
        """Return ``start`` as it is. See :meth:`Mode.solve`."""
        return start


class PivotMode(Mode):
    """A mode in which all other architectures follow the pivot, module by module.

    Subclasses give ``quantities``, the activations whose moments :meth:`align_module` needs.
    """

    quantities: ClassVar[tuple[str, ...]] = (INPUTS,)

    def solve(self, source: MomentSource, start: Bases, pivot: int) -> Bases:
        """See :meth:`Mode.solve`."""
        gathered = source.moments_at_positions(self.quantities)
        return {name: self.align_module(_of_module(gathered, name), start[name], pivot) for name in source.names}

    @abstractmethod
    def align_module(self, moments: Mapping[str, JointMoments], start: Sequence[Basis], pivot: int) -> list[Basis]:
        """Return one module's bases.

        Args:
            moments: by quantity, the joint moments of the module's activations.
            start: random orthonormal bases of each architecture.
            pivot: number of the architecture that the others follow.

        Returns:
            Bases of each architecture; the pivot's are those of ``start``.
        """


@dataclass(frozen=True)
class InputsOnly(PivotMode):
    """A follows the pivot's: least squares ``A_l x_l ≈ A_p x_p``, then nearest row-orthonormal. B stays random.

    Attributes:
        ridge: of the regression, in units of the mean variance.
    """

    name = "a"
    ridge: float = 1e-2

    def align_module(self, moments: Mapping[str, JointMoments], start: Sequence[Basis], pivot: int) -> list[Basis]:
        """Return ``start`` with each A but the pivot's replaced. See :meth:`PivotMode.align_module`."""
        inputs = moments[INPUTS]

        def carried(view: int) -> Tensor:
            target = inputs.block(view, pivot) @ start[pivot].A.T
            return nearest_orthonormal(ridge_map(inputs.block(view, view), target, ridge=self.ridge))

        return [basis if v == pivot else Basis(carried(v), basis.B) for v, basis in enumerate(start)]


@dataclass(frozen=True)
class Published(InputsOnly):
    """The published alignment (docs/method-facts.md#published-alignment), with A in closed form.

    B by CCA of ``X_1 = B_1 A_1 x`` (pivot) and ``X_3 = B_3 A_3 x`` (centred sums of products S_ab, 1e-4 on the
    diagonals): ``S_33^-½ S_31 S_11^-½ = U Σ Vᵀ``, ``B_3 := S_33^½ U Vᵀ S_11^-½ B_1``.

    Its weakness: X_3 lies in the span of the random B_3, so the result is ``B_3 T`` with T (r, r). The output subspace
    stays random; the better A is aligned, the nearer T is to the identity, and the less changes at all. If A is not
    aligned well, B loses its orthonormal columns.

    Attributes:
        regular: added to the diagonals of S_11 and S_33.
    """

    name = "published"
    form = "free"
    regular: float = 1e-4

    def align_module(self, moments: Mapping[str, JointMoments], start: Sequence[Basis], pivot: int) -> list[Basis]:
        """Return aligned A, and B as published. See :meth:`PivotMode.align_module`."""
        inputs, aligned = moments[INPUTS], super().align_module(moments, start, pivot)
        return [
            basis if view == pivot else Basis(basis.A, basis.B @ self._rotation(inputs, aligned, view, pivot))
            for view, basis in enumerate(aligned)
        ]

    def _rotation(self, inputs: JointMoments, bases: Sequence[Basis], view: int, pivot: int) -> Tensor:
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
    kinds = 2
    quantities = (INPUTS, OUTPUTS)

    def align_module(self, moments: Mapping[str, JointMoments], start: Sequence[Basis], pivot: int) -> list[Basis]:
        """Return A and B that follow the pivot's. See :meth:`PivotMode.align_module`."""
        outputs, aligned = moments[OUTPUTS], super().align_module(moments, start, pivot)

        def carried(view: int) -> Tensor:
            mapped = ridge_map(outputs.block(pivot, pivot), outputs.block(pivot, view), ridge=self.ridge)
            return nearest_orthonormal(mapped @ start[pivot].B)

        return [basis if v == pivot else Basis(basis.A, carried(v)) for v, basis in enumerate(aligned)]


def _of_module(gathered: Mapping[str, Moments], name: str) -> dict[str, JointMoments]:
    return {what: moments[name] for what, moments in gathered.items()}
