"""How many floating-point operations a forward pass or a training step of a base model's decoder takes.

Counted from the real modules, adapters included: a matrix with k numbers costs 2k operations per token forwards, 2k
backwards for the gradient of its input, and 2k more for its own gradient if it is trained. Attention costs 4 T^2 d per
layer and sequence forwards and twice that backwards. Norms, activations and the embedding look-up are left out, as
usual. The base is frozen, so there is no backward pass below the first layer that holds trained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fedmosaic.models.base import IGNORED, BaseModel, Batch, output_matrix
from fedmosaic.models.stack import decoder_layers, linear_features
from fedmosaic.models.wrapper import unwrapped

_ENTRANCES: WeakKeyDictionary[nn.Module, frozenset[str]] = WeakKeyDictionary()  # by decoder, see _entrances


@dataclass(frozen=True)
class BatchShape:
    """The size of a batch: ``sequences`` rows of ``length`` tokens, the head computed at ``head_tokens`` positions."""

    sequences: int
    length: int
    head_tokens: int

    @property
    def tokens(self) -> int:
        """Return the number of positions, padding included (it is computed too)."""
        return self.sequences * self.length


@dataclass(frozen=True)
class _LayerCost:
    """Multiply-adds per token of one decoder layer's matrices."""

    all: int
    trained: int
    entry: int  # those that read the layer's input, through norms at most


def forward_flops(model: BaseModel, shape: BatchShape) -> int:
    """Return the operations of one forward pass through decoder and head.

    Args:
        model: with or without adapters in its decoder.
        shape: of the batch.
    """
    layers = decoder_layers(model.decoder)
    matrices = sum(_layer_cost(layer, frozenset()).all for layer in layers)
    attention = len(layers) * _attention_flops(model, shape)
    return 2 * shape.tokens * matrices + attention + _head_flops(model, shape)


def train_step_flops(model: BaseModel, shape: BatchShape) -> int:
    """Return the operations of a forward and a backward pass with only the parameters that require gradients trained.

    Args:
        model: with adapters in its decoder; without any, the step is a forward pass.
        shape: of the batch.
    """
    entrances = _entrances(model)
    costs = [_layer_cost(layer, entrances) for layer in decoder_layers(model.decoder)]
    first = next((index for index, cost in enumerate(costs) if cost.trained), None)
    if first is None:
        return forward_flops(model, shape)
    reached = costs[first:]
    # Nothing below the first trained layer needs a gradient, so neither does that layer's input.
    inputs = sum(cost.all for cost in reached) - reached[0].entry
    weights = sum(cost.trained for cost in reached)
    attention = 2 * len(reached) * _attention_flops(model, shape)
    backward = 2 * shape.tokens * (inputs + weights) + attention + _head_flops(model, shape)
    return forward_flops(model, shape) + backward


@runtime_checkable
class Counted(Protocol):
    """A module that knows its own cost, because its parameters do not tell it (e.g. an adapted linear)."""

    def multiply_adds(self) -> tuple[int, int]:
        """Return the multiply-adds per token of the forward pass, and of the gradients of trained weights."""
        ...


def _layer_cost(layer: nn.Module, entrances: frozenset[str]) -> _LayerCost:
    every = trained = entry = 0
    for name, module in _parts(layer, ""):
        if isinstance(module, Counted):
            own, own_trained = module.multiply_adds()
        else:
            matrices = [parameter for parameter in module.parameters(recurse=False) if parameter.ndim == 2]
            own = sum(parameter.numel() for parameter in matrices)
            own_trained = sum(parameter.numel() for parameter in matrices if parameter.requires_grad)
        every += own
        trained += own_trained
        entry += own if name and any(_related(name, entrance) for entrance in entrances) else 0
    return _LayerCost(every, trained, entry)


def _parts(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield a module and all below it, but nothing below one that counts itself."""
    yield name, module
    if not isinstance(module, Counted):
        for child_name, child in module.named_children():
            yield from _parts(child, f"{name}.{child_name}")


def _related(name: str, other: str) -> bool:
    """Whether one is the other or lies in it: an adapter stands around its linear."""
    return f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.")


def _entrances(model: BaseModel) -> frozenset[str]:
    """Return the names, within a layer, of the linears that read its input: which they are depends on the family.

    Two tokens are read while each linear of the first layer adds something that requires a gradient to its output: what
    reaches a linear without needing one has passed no other linear.
    """
    if model.decoder not in _ENTRANCES:
        first = decoder_layers(model.decoder)[0]
        parts = {name: part for name, part in _parts(first, "") if isinstance(part, Counted) or linear_features(part)}
        found: set[str] = set()

        def look(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
            def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
                if inputs and not inputs[0].requires_grad:
                    found.add(name)
                return output + torch.zeros_like(output, requires_grad=True)

            return hook

        handles = [part.register_forward_hook(look(name)) for name, part in parts.items()]
        try:
            ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
            devices = [model.device] if model.device.type == "cuda" else []
            with torch.enable_grad(), torch.random.fork_rng(devices):  # dropout must not draw for the sake of a count
                unwrapped(model).hidden_states(Batch(ids, torch.ones_like(ids), torch.full_like(ids, IGNORED)))
        finally:
            for handle in handles:
                handle.remove()
        _ENTRANCES[model.decoder] = frozenset(found)
    return _ENTRANCES[model.decoder]


def _attention_flops(model: BaseModel, shape: BatchShape) -> int:
    """Return the operations of scores and weighted sums in one layer; masked positions are computed too."""
    config = model.module.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:  # state-space models have no scores
        return 0
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(4 * shape.sequences * shape.length**2 * heads * size)


def _head_flops(model: BaseModel, shape: BatchShape) -> int:
    return 2 * shape.head_tokens * output_matrix(model.module).weight.numel()
