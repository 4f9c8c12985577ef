"""Making the adapted linears of one model: checks first, so that a refused attachment leaves the model untouched."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from fedmosaic.adapters.bases import colora_pair, lora_pair
from fedmosaic.adapters.forward_context import ForwardContext
from fedmosaic.adapters.gate import make_gate
from fedmosaic.adapters.layer import AdaptedLinear, CoLoraLinear, LoraLinear
from fedmosaic.adapters.placement import Placement, Target, find_targets
from fedmosaic.adapters.tower import SCALE, TowerLinear, TowerSite, TowerTarget, lifted
from fedmosaic.errors import ModelError, SettingsError
from fedmosaic.models.parameter_linear import ParameterLinear
from fedmosaic.registry import GATES


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterShape:
    """What fixes an adapter's tensors and what it computes; see :meth:`Adapter.attach`.

    Attributes:
        slots: names of the slots.
        rank: r of every branch.
        alpha: output scale times r.
        blocks: number of blocks N_B.
        dropout: probability on the adapters' input.
        gate: kind of gate.
        gated: names of the slots that the gate weighs, or None without a gate.
        seed: of the initial draws.
        architecture: name of the base model's architecture.
        modules: projections to adapt, or None for all.
        dtype: of the adapters' weights.
        tower: where a tower adapter goes, and its basis; None without one.

    Raises:
        SettingsError: a value is out of range.
    """

    slots: tuple[str, ...]
    rank: int
    alpha: float
    blocks: int
    dropout: float
    gate: str
    gated: tuple[str, ...] | None
    seed: int
    architecture: str
    modules: Collection[str] | None
    dtype: torch.dtype
    tower: TowerSite | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise SettingsError(f"rank={self.rank}: expected a positive whole number")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise SettingsError(f"alpha={self.alpha}: expected a positive number; the output is scaled by alpha / rank")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"dropout={self.dropout}: expected a probability, 0 or more and below 1")
        if not self.dtype.is_floating_point:
            raise SettingsError(f"dtype={self.dtype}: adapters need a floating-point dtype, e.g. torch.float32")


@dataclass(frozen=True, slots=True)
class Adapted:
    """One adapted linear and its place in the model.

    Attributes:
        target: what :func:`find_targets` says of it; or the linear at the vision-language interface.
        path: dotted path in the whole model.
        parent: the module that holds it.
        linear: the adapted linear (the frozen one is ``linear.base``).
    """

    target: Target | TowerTarget
    path: str
    parent: nn.Module
    linear: AdaptedLinear

    def put(self, module: nn.Module) -> None:
        """Make a module the parent's child at this place.

        Args:
            module: the adapted linear, its base, or a replacement.
        """
        setattr(self.parent, self.path.rpartition(".")[2], module)


def check_free(model: nn.Module) -> None:
    """Make sure that a model carries no adapter.

    Args:
        model: the whole model.

    Raises:
        ModelError: an adapter is attached.
    """
    for path, module in model.named_modules():
        if isinstance(module, AdaptedLinear):
            raise ModelError(f"{type(model).__name__} already carries an adapter (at {path}); detach() that one first")


def build(
    model: nn.Module, decoder: nn.Module, shape: AdapterShape, context: ForwardContext
) -> tuple[Placement, tuple[Adapted, ...]]:
    """Make the adapted linears of a model without putting them in.

    Args:
        model: the whole model.
        decoder: its decoder stack (or ``model`` itself).
        shape: of the adapter.
        context: shared by all linears of the adapter.

    Returns:
        The placement, and the adapted linears in its order; the tower adapter's comes last.

    Raises:
        ModelError: the decoder is not part of the model, has no usable structure, or carries an adapter already.
        SettingsError: the shape does not fit the decoder.
    """
    check_free(model)
    prefix = next((name for name, module in model.named_modules() if module is decoder), None)
    if prefix is None:
        raise ModelError(f"the {type(decoder).__name__} given as `decoder` is not part of {type(model).__name__}")
    placement = find_targets(decoder, blocks=shape.blocks, modules=shape.modules)

    def adapted() -> Iterator[Adapted]:
        for target in placement.targets:
            path = f"{prefix}.{target.path}" if prefix else target.path
            parent, base = model.get_submodule(path.rpartition(".")[0]), model.get_submodule(path)
            yield Adapted(target, path, parent, _linear(base, target, shape, context))
        if shape.tower is not None:
            yield _tower(model, shape.tower, shape, context)

    return placement, tuple(adapted())


def _linear(base: nn.Module, target: Target, shape: AdapterShape, context: ForwardContext) -> AdaptedLinear:
    """Make one adapted linear, on the base linear's device and in its mode."""
    device = _device(base)
    draw = lora_pair if target.block is None else colora_pair
    down, up = draw(target, shape.rank, seed=shape.seed, architecture=shape.architecture)
    linear = (LoraLinear if target.block is None else CoLoraLinear)(
        base,
        down.to(device, shape.dtype),
        up.to(device, shape.dtype),
        slots=shape.slots,
        scale=shape.alpha / shape.rank,
        dropout=shape.dropout,
        context=context,
        gate=make_gate(shape.gate, target.in_features, context, device, shape.dtype),
    )
    linear.training = base.training
    return linear


def _tower(model: nn.Module, site: TowerSite, shape: AdapterShape, context: ForwardContext) -> Adapted:
    """Make the linear at the vision-language interface; a gate is the same for all of its inputs."""
    path = site.interface.path
    parent, base = model.get_submodule(path.rpartition(".")[0]), model.get_submodule(path)
    device = _device(base)
    down = site.basis.to(device, shape.dtype)
    up = lifted(base, down)
    kind = "scalar" if shape.gate != "none" and GATES.load(shape.gate).by_input else shape.gate
    linear = TowerLinear(
        base,
        down,
        up,
        slots=shape.slots,
        scale=SCALE,
        dropout=shape.dropout,
        context=context,
        gate=make_gate(kind, down.shape[1], context, device, shape.dtype),
    )
    linear.training = base.training
    return Adapted(TowerTarget(path, site.interface.tower, down.shape[1], up.shape[0]), path, parent, linear)


def _device(base: nn.Module) -> torch.device:
    own = (base.weight,) if isinstance(base, ParameterLinear) else (*base.parameters(), *base.buffers())
    return next((tensor.device for tensor in own), torch.device("cpu"))
