"""Aligning Co-LoRA's frozen bases: from public samples to bases in which all architectures' latents mean the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedmosaic.adapters.alignment.modes import Basis, Mode, find_mode
from fedmosaic.adapters.alignment.moments import JointMoments
from fedmosaic.adapters.alignment.observe import GRADIENTS, INPUTS
from fedmosaic.adapters.alignment.result import Alignment, Correlation
from fedmosaic.adapters.alignment.stream import Positions, View, gather, make_views, passes, read
from fedmosaic.adapters.bases import colora_pair
from fedmosaic.adapters.build import check_free
from fedmosaic.data.sample import Sample
from fedmosaic.errors import SettingsError
from fedmosaic.models import BaseModel

HELD_OUT = 5  # every fifth sample measures the alignment instead of making it
_LEAST = 2 * HELD_OUT


def align(
    models: Mapping[str, BaseModel],
    samples: Sequence[Sample],
    *,
    rank: int,
    blocks: int,
    mode: str | Mode = "joint",
    seed: int = 0,
    positions: Positions | None = None,
    batch_size: int = 32,
    memory: int = 1 << 30,
) -> Alignment:
    """Choose the frozen bases A and B of every Co-LoRA module in every architecture (FedMosaic, Co-LoRA; METHODS A.5).

    The same arguments give the same bases on one machine. Modules meet by block and name, the samples' positions as
    :mod:`~fedmosaic.adapters.alignment.positions` says.

    Args:
        models: base models by name, without adapters; those of one architecture share their bases.
        samples: public samples; every fifth is held out to measure the correlations.
        rank: r.
        blocks: number of blocks N_B.
        mode: ``none``, ``a``, ``published``, ``pivot`` or ``joint``, or one of their classes with other values.
        seed: of the random bases from which all modes but ``joint`` start.
        positions: how much image, text and answer positions count.
        batch_size: samples that go through a model at once.
        memory: bytes that moments may take at one time; modules that do not fit wait for another pass over the samples.

    Raises:
        SettingsError: an unknown mode, fewer than two architectures, too few samples, or a rank or number of blocks
            that does not fit.
        ModelError: a model carries an adapter, or the models' modules differ in their names.
    """
    chosen, positions = find_mode(mode), positions or Positions()
    distinct = {model.architecture: model for model in models.values()}
    _check(models, distinct, samples)
    views = make_views(list(distinct.values()), blocks=blocks)
    sizes = [model.parameter_count for model in distinct.values()]
    pivot = sizes.index(min(sizes))
    used = [sample for index, sample in enumerate(samples) if index % HELD_OUT]
    held_out = samples[::HELD_OUT]
    bases: dict[str, list[Basis]] = {}
    names = list(views[0].targets)
    for group in passes(views, names, kinds=max(1, len(chosen.reads)), memory=memory):
        moments = gather(views, used, names=group, reads=chosen.reads, positions=positions, batch_size=batch_size)
        for name in group:
            start = [_random(view, name, rank, seed) for view in views]
            solved = chosen.solve(moments.pop(name), start, pivot)
            bases[name] = [Basis(basis.A.float().contiguous(), basis.B.float().contiguous()) for basis in solved]
    tensors = {view.model.architecture: _named(bases, index) for index, view in enumerate(views)}
    return Alignment(
        mode=chosen.name,
        rank=rank,
        blocks=blocks,
        seed=seed,
        samples=len(samples),
        orthonormal=chosen.orthonormal,
        architectures={name: model.architecture for name, model in models.items()},
        bases={name: tensors[model.architecture] for name, model in models.items()},
        correlations=measure(views, held_out, bases, positions=positions, batch_size=batch_size),
    )


def measure(
    views: Sequence[View],
    samples: Sequence[Sample],
    bases: Mapping[str, Sequence[Basis]],
    *,
    positions: Positions,
    batch_size: int,
) -> dict[str, Correlation]:
    """Return for each module how well its latents agree between architectures, on samples of their own.

    Args:
        views: the architectures.
        samples: not those that made the bases.
        bases: of each module, in the architectures' order.
        positions: their weights.
        batch_size: samples in a batch.
    """
    rank = len(next(iter(bases.values()))[0].A)
    inputs = {name: JointMoments([rank] * len(views)) for name in bases}
    effects = {name: JointMoments([rank] * len(views)) for name in bases}
    wanted = (INPUTS, GRADIENTS)
    for reading in read(views, samples, names=list(bases), reads=wanted, positions=positions, batch_size=batch_size):
        for name, each in bases.items():
            latents = [x.cpu() @ basis.A.T for x, basis in zip(reading.of(name, INPUTS), each, strict=True)]
            pushes = [g.cpu() @ basis.B for g, basis in zip(reading.of(name, GRADIENTS), each, strict=True)]
            inputs[name].add(latents, reading.weights)
            effects[name].add(pushes, reading.weights)
    return {
        name: Correlation(
            _mean_correlation(inputs[name], centred=True), _mean_correlation(effects[name], centred=False)
        )
        for name in bases
    }


def _mean_correlation(moments: JointMoments, *, centred: bool) -> float:
    """Mean, over latents and pairs of architectures, of the correlation between the two values of a latent."""
    views = len(moments.widths)
    deviations = [
        moments.block(view, view, centred=centred).diagonal().clamp(min=1e-30).sqrt() for view in range(views)
    ]
    found = [
        moments.block(one, other, centred=centred).diagonal() / (deviations[one] * deviations[other])
        for one in range(views)
        for other in range(one)
    ]
    return float(torch.cat(found).mean())


def _random(view: View, name: str, rank: int, seed: int) -> Basis:
    down, up = colora_pair(view.targets[name], rank, seed=seed, architecture=view.model.architecture)
    return Basis(down.double(), up.double())


def _named(bases: Mapping[str, Sequence[Basis]], view: int) -> dict[str, Tensor]:
    return {
        f"{name}.{letter}": tensor
        for name, each in bases.items()
        for letter, tensor in zip("AB", each[view], strict=True)
    }


def _check(models: Mapping[str, BaseModel], distinct: Mapping[str, BaseModel], samples: Sequence[Sample]) -> None:
    if len(distinct) < 2:
        raise SettingsError(
            f"alignment is between architectures, but {', '.join(models) or 'nothing'} is "
            f"{len(distinct)} architecture(s); give models of at least two, or do without alignment"
        )
    if len(samples) < _LEAST:
        raise SettingsError(f"alignment from {len(samples)} samples: give at least {_LEAST}, better thousands")
    for model in distinct.values():
        check_free(model.module)
