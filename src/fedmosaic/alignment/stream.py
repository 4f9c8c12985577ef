"""Streaming public samples through all architectures at once, and gathering joint moments on the way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedmosaic import events
from fedmosaic.alignment.activations import GRADIENTS, INPUTS, Activations, View, collect_activations
from fedmosaic.alignment.moments import JointMoments
from fedmosaic.alignment.positions import find_positions, match_positions
from fedmosaic.data.sample import Sample
from fedmosaic.models import Batch

Moments = dict[str, JointMoments]
"""Joint moments by module."""


class Basis(NamedTuple):
    """Frozen bases of one module in one architecture.

    Attributes:
        A: (r, in).
        B: (out, r).
    """

    A: Tensor
    B: Tensor


Bases = Mapping[str, Sequence[Basis]]
"""Bases by module, of each architecture in order."""


@dataclass(frozen=True, kw_only=True)
class PositionWeights:
    """Weight of each kind of position; 0 leaves it out.

    Attributes:
        image: of one image token.
        text: of one text token.
        answer: of the position that predicts the answer (one per sample).
    """

    image: float = 1.0
    text: float = 1.0
    answer: float = 1.0

    def of(self, kind: str) -> float:
        """Return the weight of a kind of match.

        Args:
            kind: ``image``, ``text`` or ``answer``.
        """
        weight: float = getattr(self, kind)
        return weight


@dataclass(frozen=True)
class BatchActivations:
    """Activations of all architectures on one batch of samples.

    Attributes:
        samples: the batch's samples.
        batches: the samples as each architecture reads them.
        features: activations of each architecture.
    """

    samples: Sequence[Sample]
    batches: list[Batch]
    features: list[Activations]

    def of(self, name: str, what: str) -> list[Tensor]:
        """Return one module's activations in each architecture.

        Args:
            name: of the module.
            what: ``inputs``, ``outputs`` or ``gradients``.

        Returns:
            (B, T, width) of each architecture.
        """
        return [features[name][what] for features in self.features]


@dataclass(frozen=True)
class MomentSource:
    """Gathers joint moments of several architectures' activations from public samples.

    Attributes:
        views: the architectures.
        samples: in any order; those of similar length are batched together.
        names: of the modules whose activations are gathered.
        positions: weights of the kinds of positions.
        batch_size: samples in a batch.
    """

    views: Sequence[View]
    samples: Sequence[Sample]
    names: Sequence[str]
    positions: PositionWeights
    batch_size: int

    def activations(self, quantities: Collection[str]) -> Iterator[BatchActivations]:
        """Yield the architectures' activations, batch by batch.

        Args:
            quantities: any of ``inputs``, ``outputs`` and ``gradients``.

        Yields:
            One for each batch; the samples are ordered by length.
        """
        order = sorted(self.samples, key=lambda sample: (len(sample.images), len(sample.prompt)))
        for start in range(0, len(order), self.batch_size):
            samples = order[start : start + self.batch_size]
            batches = [view.model.collate(samples) for view in self.views]
            features = [
                collect_activations(view, self.names, batch, samples, quantities=quantities)
                for view, batch in zip(self.views, batches, strict=True)
            ]
            yield BatchActivations(samples, batches, features)
            events.work("samples of this pass", start + len(samples), len(order))

    def matched_positions(self, activations: BatchActivations) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Return the matched positions of a batch.

        Args:
            activations: the batch.

        Returns:
            Rows and columns (n,) in each architecture's batch, and the positions' weights (n,).
        """
        found = [
            find_positions(v.model, activations.samples, b)
            for v, b in zip(self.views, activations.batches, strict=True)
        ]
        pairs = [
            (row, one)
            for row, sample in enumerate(zip(*found, strict=True))
            for one in match_positions(sample)
            if self.positions.of(one.kind) > 0
        ]
        rows = torch.tensor([row for row, _ in pairs])
        columns = torch.tensor([one.columns for _, one in pairs]).T
        return [(rows, column) for column in columns], torch.tensor([self.positions.of(one.kind) for _, one in pairs])

    def moments_at_positions(self, quantities: Collection[str]) -> dict[str, Moments]:
        """Return joint moments of activations at matched positions.

        Args:
            quantities: any of ``inputs``, ``outputs`` and ``gradients``.

        Returns:
            By quantity and module.
        """
        gathered: dict[str, Moments] = {what: {} for what in quantities}
        for activations in self.activations(quantities) if quantities else ():
            at, weights = self.matched_positions(activations)
            for what, moments in gathered.items():
                for name in self.names:
                    rows = [select_positions(x, where) for x, where in zip(activations.of(name, what), at, strict=True)]
                    _add(moments, name, rows, weights)
        return gathered

    def update_moments(self, bases: Bases, *, side: str) -> Moments:
        """Return joint moments of single samples' gradients of each module, projected by one of its bases.

        A sample's gradient with respect to a module's weight is ``D = sum_t g_t x_t^T`` (out, in), and that with
        respect to P is ``B^T D A^T``. Samples are the same for all architectures, so no positions need to be matched.

        Args:
            bases: those that D is projected by.
            side: ``outputs``: r rows ``D A^T`` of width out per sample, one for each latent input; ``inputs``: r rows
                ``B^T D`` of width in, one for each latent output.

        Returns:
            By module.
        """
        moments: Moments = {}
        for activations in self.activations((INPUTS, GRADIENTS)):
            for name in self.names:
                rows = []
                for x, g, basis in zip(
                    activations.of(name, INPUTS), activations.of(name, GRADIENTS), bases[name], strict=True
                ):
                    projected = (x @ basis.A.to(x).T).mT @ g if side == "outputs" else (g @ basis.B.to(g)).mT @ x
                    rows.append(projected.flatten(0, 1))
                _add(moments, name, rows)
        return moments


def select_positions(features: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
    """Return the features at some positions of a batch.

    Args:
        features: (B, T, width).
        at: rows and columns, (n,) each.

    Returns:
        (n, width).
    """
    return features[at[0].to(features.device), at[1].to(features.device)]


def _add(moments: Moments, name: str, rows: Sequence[Tensor], weights: Tensor | None = None) -> None:
    if name not in moments:
        moments[name] = JointMoments([row.shape[1] for row in rows])
    moments[name].add(rows, weights)
