"""Aligning Co-LoRA's frozen bases: from public samples to bases in which all architectures' latents mean the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from fedmosaic.adapters.bases import colora_pair
from fedmosaic.adapters.build import check_free
from fedmosaic.adapters.placement import Target, find_targets
from fedmosaic.alignment.activations import View
from fedmosaic.alignment.joint import Joint
from fedmosaic.alignment.measure import Correlation, measure
from fedmosaic.alignment.modes import InputsOnly, Mode, NoAlignment, Pivot, Published
from fedmosaic.alignment.result import Alignment, identity_of
from fedmosaic.alignment.stream import Bases, Basis, MomentSource, PositionWeights
from fedmosaic.data.sample import Sample
from fedmosaic.errors import ModelError, SettingsError
from fedmosaic.models import BaseModel
from fedmosaic.nearest import hint

MODES: dict[str, Mode] = {mode.name: mode for mode in (NoAlignment(), InputsOnly(), Published(), Pivot(), Joint())}

HELD_OUT = 5  # every fifth sample measures the alignment instead of making it
_LEAST = 2 * HELD_OUT


class NoSharedModulesError(ModelError):
    """The linears of these models have no names in common."""


Targets = Mapping[str, Target]
"""Co-LoRA modules of one architecture by their common names."""


def find_mode(mode: str | Mode) -> Mode:
    """Return a mode by its name.

    Args:
        mode: a name in :data:`MODES`, or a mode itself.

    Raises:
        SettingsError: there is none of this name.
    """
    if isinstance(mode, Mode):
        return mode
    if mode not in MODES:
        raise SettingsError(
            f"alignment mode {mode!r} is not known; {hint(mode, MODES)}choose one of {', '.join(MODES)}"
        )
    return MODES[mode]


def align(
    models: Mapping[str, BaseModel],
    samples: Sequence[Sample],
    *,
    rank: int,
    blocks: int,
    mode: str | Mode = "joint",
    seed: int = 0,
    positions: PositionWeights | None = None,
    batch_size: int = 32,
    memory: int = 2 << 30,
) -> Alignment:
    """Choose the frozen bases A and B of every Co-LoRA module in every architecture (FedMosaic, Co-LoRA).

    The same arguments give the same bases on one machine. Modules meet by block and name, positions as
    :mod:`~fedmosaic.alignment.positions` says. A module that only some of the architectures have is aligned
    between these; one that a single architecture has gets random bases.

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

    Returns:
        The bases of all architectures in float32, with the correlations of their latents on the held-out samples.

    Raises:
        SettingsError: an unknown mode, fewer than two architectures, too few samples, or a rank or number of blocks
            that does not fit.
        ModelError: a model carries an adapter.
        NoSharedModulesError: no two architectures have a module of the same name.
    """
    chosen, positions = find_mode(mode), positions or PositionWeights()
    distinct = {model.architecture: model for model in models.values()}
    _check(models, distinct, samples)
    views, targets = _views(list(distinct.values()), blocks)
    fitting = [sample for index, sample in enumerate(samples) if index % HELD_OUT]
    tensors: dict[str, dict[str, Tensor]] = {architecture: {} for architecture in distinct}
    correlations: dict[str, Correlation] = {}
    for members, names in _by_members(targets).items():
        those, own = [views[i] for i in members], [targets[i] for i in members]
        pairs = list(zip(those, own, strict=True))
        bases = {name: [_random(view, each[name], rank, seed) for view, each in pairs] for name in names}
        if len(members) > 1:
            sizes = [view.model.parameter_count for view in those]
            for group in _fitting_memory(own, names, kinds=chosen.kinds, memory=memory):
                source = MomentSource(those, fitting, group, positions, batch_size)
                found = chosen.solve(source, {name: bases[name] for name in group}, sizes.index(min(sizes)))
                bases |= {name: [Basis(_single(b.A), _single(b.B)) for b in each] for name, each in found.items()}
            correlations |= measure(MomentSource(those, samples[::HELD_OUT], names, positions, batch_size), bases)
        for index, view in enumerate(those):
            tensors[view.model.architecture] |= _named(bases, index)
    return Alignment(
        mode=chosen.name,
        form=chosen.form,
        rank=rank,
        blocks=blocks,
        seed=seed,
        samples=len(samples),
        architectures={name: model.architecture for name, model in models.items()},
        bases={name: tensors[model.architecture] for name, model in models.items()},
        correlations=correlations,
        identity=identity_of(tensors),
    )


def _views(models: Sequence[BaseModel], blocks: int) -> tuple[list[View], list[Targets]]:
    """Return each architecture as alignment sees it, and its Co-LoRA modules.

    Raises:
        NoSharedModulesError: no two of them have a module in common.
    """
    targets: list[Targets] = [
        {
            target.prefix: target
            for target in find_targets(model.decoder, blocks=blocks).targets
            if target.block is not None
        }
        for model in models
    ]
    if all(len(members) == 1 for members in _by_members(targets)):
        own = "; ".join(
            f"{model.name} has {', '.join(sorted({target.module for target in each.values()}))}"
            for model, each in zip(models, targets, strict=True)
        )
        raise NoSharedModulesError(
            f"no linears of these models have a name in common ({own}), so nothing of Co-LoRA can be aligned or "
            "exchanged between them"
        )
    views = [
        View(model, {name: model.decoder.get_submodule(target.path) for name, target in each.items()})
        for model, each in zip(models, targets, strict=True)
    ]
    return views, targets


def _by_members(targets: Sequence[Targets]) -> dict[tuple[int, ...], list[str]]:
    """Group the modules by the architectures that have them; in most families all modules are in one group."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in dict.fromkeys(name for own in targets for name in own):
        groups.setdefault(tuple(i for i, own in enumerate(targets) if name in own), []).append(name)
    return groups


def _fitting_memory(
    targets: Sequence[Targets], names: Sequence[str], *, kinds: int, memory: int
) -> Iterator[list[str]]:
    """Divide modules into groups whose moments fit into memory together; a group has at least one module."""
    group: list[str] = []
    used = 0
    for name in names:
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


def _single(basis: Tensor) -> Tensor:
    return basis.float().contiguous()


def _named(bases: Bases, view: int) -> dict[str, Tensor]:
    return {
        f"{name}.{letter}": _single(tensor)
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
