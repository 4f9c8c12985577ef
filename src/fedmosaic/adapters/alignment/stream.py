"""Streaming public samples through several architectures at once, in as little memory as is asked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmosaic.adapters.alignment.moments import JointMoments
from fedmosaic.adapters.alignment.observe import Features, observe
from fedmosaic.adapters.alignment.positions import Match, anchors, match
from fedmosaic.adapters.placement import Target, place
from fedmosaic.data.sample import Sample
from fedmosaic.errors import ModelError
from fedmosaic.models import BaseModel


@dataclass(frozen=True, kw_only=True)
class Positions:
    """How much each kind of position counts.

    Attributes:
        image: weight of one image token.
        text: weight of one text token.
        answer: weight of the position that predicts the answer (one per sample).
    """

    image: float = 1.0
    text: float = 1.0
    answer: float = 1.0

    def of(self, kind: str) -> float:
        """Return the weight of a kind of match."""
        weight: float = getattr(self, kind)
        return weight


@dataclass(frozen=True)
class View:
    """One architecture as alignment sees it: its Co-LoRA modules by their common names ``block.{k}.{module}``."""

    model: BaseModel
    targets: Mapping[str, Target]
    linears: Mapping[str, nn.Module]


def make_views(models: Sequence[BaseModel], *, blocks: int) -> list[View]:
    """Return the models' views.

    Raises:
        ModelError: two models' decoders have no modules of the same names at their block ends.
        SettingsError: more blocks than layers.
    """
    views = []
    for model in models:
        placed = place(model.decoder, blocks=blocks).targets
        targets = {target.prefix: target for target in placed if target.block is not None}
        linears = {name: model.decoder.get_submodule(target.path) for name, target in targets.items()}
        views.append(View(model, targets, linears))
    first = views[0]
    for view in views[1:]:
        apart = sorted(set(first.targets) ^ set(view.targets))
        if apart:
            raise ModelError(
                f"{first.model.name} and {view.model.name} cannot be aligned: {apart[0]} is a linear of only one of "
                f"them ({len(apart)} such); P and Q mean something between architectures of like modules only"
            )
    return views


@dataclass(frozen=True)
class Reading:
    """Features of one batch of samples, row by row the same position in every architecture.

    Attributes:
        views: features of each architecture.
        weights: (rows,) by kind of position.
    """

    views: list[Features]
    weights: Tensor

    def of(self, name: str, what: str) -> list[Tensor]:
        """Return one module's inputs, outputs or gradients, (rows, width) of each architecture."""
        return [features[name][what] for features in self.views]


def read(
    views: Sequence[View],
    samples: Sequence[Sample],
    *,
    names: Sequence[str],
    reads: Collection[str],
    positions: Positions,
    batch_size: int,
) -> Iterator[Reading]:
    """Yield the features of all samples, batch by batch; positions of weight 0 are left out.

    Args:
        views: the architectures.
        samples: in any order; those of like length are batched together.
        names: the modules to read.
        reads: what to read of them.
        positions: weights.
        batch_size: samples in a batch.
    """
    order = sorted(samples, key=lambda sample: (len(sample.images), len(sample.prompt)))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batches = [view.model.collate(chosen) for view in views]
        read_by = zip(*(anchors(v.model, chosen, b) for v, b in zip(views, batches, strict=True)), strict=True)
        found = [
            (row, one) for row, sample in enumerate(read_by) for one in match(sample) if positions.of(one.kind) > 0
        ]
        rows = torch.tensor([row for row, _ in found])
        features = [
            observe(
                view.model,
                {name: view.linears[name] for name in names if name in view.linears},
                batch,
                (rows, column),
                reads=reads,
            )
            for view, batch, column in zip(views, batches, _columns([one for _, one in found]), strict=True)
        ]
        yield Reading(features, torch.tensor([positions.of(one.kind) for _, one in found]))


def passes(views: Sequence[View], names: Sequence[str], *, kinds: int, memory: int) -> Iterator[list[str]]:
    """Divide the modules into groups whose moments fit into memory together; a group has at least one module.

    Args:
        views: the architectures.
        names: the modules.
        kinds: how many kinds of features of a module are gathered.
        memory: bytes.
    """
    group: list[str] = []
    used = 0
    for name in names:
        targets = [view.targets[name] for view in views]
        width = max(sum(target.in_features for target in targets), sum(target.out_features for target in targets))
        size = 8 * kinds * width**2
        if group and used + size > memory:
            yield group
            group, used = [], 0
        group.append(name)
        used += size
    if group:
        yield group


def gather(
    views: Sequence[View],
    samples: Sequence[Sample],
    *,
    names: Sequence[str],
    reads: Collection[str],
    positions: Positions,
    batch_size: int,
) -> dict[str, dict[str, JointMoments]]:
    """Return the joint moments of some modules: name -> inputs, outputs or gradients -> moments."""
    moments: dict[str, dict[str, JointMoments]] = {name: {} for name in names}
    if not reads:
        return moments
    for reading in read(views, samples, names=names, reads=reads, positions=positions, batch_size=batch_size):
        for name in names:
            for what in sorted(reads):
                rows = reading.of(name, what)
                if what not in moments[name]:
                    moments[name][what] = JointMoments([row.shape[1] for row in rows])
                moments[name][what].add(rows, reading.weights)
    return moments


def _columns(matches: Sequence[Match]) -> list[Tensor]:
    """Return each architecture's positions, (rows,) each."""
    return [torch.tensor(columns) for columns in zip(*(one.columns for one in matches), strict=True)]
