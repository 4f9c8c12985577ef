"""Aligning Co-LoRA's frozen bases: from public samples to bases in which all architectures' latents mean the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from fedmosaic.adapters.alignment.joint import Joint
from fedmosaic.adapters.alignment.measure import measure
from fedmosaic.adapters.alignment.modes import InputsOnly, Mode, NoAlignment, Pivot, Published
from fedmosaic.adapters.alignment.observe import View
from fedmosaic.adapters.alignment.result import Alignment, identity_of
from fedmosaic.adapters.alignment.stream import Bases, Basis, Positions, Source
from fedmosaic.adapters.bases import colora_pair
from fedmosaic.adapters.build import check_free
from fedmosaic.adapters.placement import Target, place
from fedmosaic.data.sample import Sample
from fedmosaic.errors import ModelError, SettingsError
from fedmosaic.models import BaseModel

MODES: dict[str, Mode] = {mode.name: mode for mode in (NoAlignment(), InputsOnly(), Published(), Pivot(), Joint())}

HELD_OUT = 5  # every fifth sample measures the alignment instead of making it
_LEAST = 2 * HELD_OUT

Targets = Mapping[str, Target]
"""Co-LoRA modules of one architecture by their common names."""


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

    The same arguments give the same bases on one machine. Modules meet by block and name, positions as
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
        memory: bytes that moments may take at one time; modules that do not fit wait for more passes over the samples.

    Raises:
        SettingsError: an unknown mode, fewer than two architectures, too few samples, or a rank or number of blocks
            that does not fit.
        ModelError: a model carries an adapter, or the models' modules differ in their names.
    """
    chosen, positions = find_mode(mode), positions or Positions()
    distinct = {model.architecture: model for model in models.values()}
    _check(models, distinct, samples)
    targets = _common_targets(list(distinct.values()), blocks)
    views = [
        View(model, {name: model.decoder.get_submodule(target.path) for name, target in own.items()})
        for model, own in zip(distinct.values(), targets, strict=True)
    ]
    sizes = [model.parameter_count for model in distinct.values()]
    made_of = [sample for index, sample in enumerate(samples) if index % HELD_OUT]
    bases: dict[str, list[Basis]] = {}
    for names in _groups(targets, kinds=chosen.kinds, memory=memory):
        start = {
            name: [_random(v, own[name], rank, seed) for v, own in zip(views, targets, strict=True)] for name in names
        }
        source = Source(views, made_of, names, positions, batch_size)
        for name, each in chosen.solve(source, start, sizes.index(min(sizes))).items():
            bases[name] = [Basis(basis.A.float().contiguous(), basis.B.float().contiguous()) for basis in each]
    held_out = Source(views, samples[::HELD_OUT], list(bases), positions, batch_size)
    tensors = {view.model.architecture: _named(bases, index) for index, view in enumerate(views)}
    return Alignment(
        mode=chosen.name,
        form=chosen.form,
        rank=rank,
        blocks=blocks,
        seed=seed,
        samples=len(samples),
        architectures={name: model.architecture for name, model in models.items()},
        bases={name: tensors[model.architecture] for name, model in models.items()},
        correlations=measure(held_out, bases),
        identity=identity_of(tensors),
    )


def _common_targets(models: Sequence[BaseModel], blocks: int) -> list[Targets]:
    """Return each model's Co-LoRA modules, which have the same names in all."""
    found = []
    for model in models:
        placed = place(model.decoder, blocks=blocks).targets
        found.append({target.prefix: target for target in placed if target.block is not None})
    for model, targets in zip(models, found, strict=True):
        apart = sorted(set(found[0]) ^ set(targets))
        if apart:
            raise ModelError(
                f"{models[0].name} and {model.name} cannot be aligned: {apart[0]} is a linear of only one of them "
                f"({len(apart)} such); P and Q mean something between architectures of like modules only. Set "
                "adapter.alignment=none to draw bases at random, or adapter.blocks=0 to do without Co-LoRA"
            )
    return [{name: targets[name] for name in found[0]} for targets in found]


def _groups(targets: Sequence[Targets], *, kinds: int, memory: int) -> Iterator[list[str]]:
    """Divide the modules into groups whose moments fit into memory together; a group has at least one module."""
    group: list[str] = []
    used = 0
    for name in targets[0]:
        sides = [(own[name].in_features, own[name].out_features) for own in targets]
        size = 8 * kinds * max(sum(side) for side in zip(*sides, strict=True)) ** 2
        if group and used + size > memory:
            yield group
            group, used = [], 0
        group.append(name)
        used += size
    if group:
        yield group


def _random(view: View, target: Target, rank: int, seed: int) -> Basis:
    down, up = colora_pair(target, rank, seed=seed, architecture=view.model.architecture)
    return Basis(down.double(), up.double())


def _named(bases: Bases, view: int) -> dict[str, Tensor]:
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
