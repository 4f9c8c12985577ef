"""Floating-point operations of a forward pass or a training step of a base model's decoder.

Counted from the modules, adapters included: a matrix with k elements costs 2k operations per token in the forward
pass, 2k in the backward pass for the gradient of its input, and 2k more for its own gradient if it is trained.
Attention costs 4 T^2 d per layer and sequence forwards and twice that backwards. Norms, activations and the embedding
look-up are left out, as usual; so are the vision tower and the projector, but for an adapter there. The base is
frozen, so there is no backward pass below the first layer that holds trained weights.
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

_INPUT_LINEARS: WeakKeyDictionary[nn.Module, frozenset[str]] = WeakKeyDictionary()  # by decoder


@dataclass(frozen=True)
class BatchShape:
    """The size of a batch.

    Attributes:
        sequences: number of rows.
        length: tokens of a row, padding included.
        head_tokens: number of positions at which the head is computed.
        image_tokens: number of positions that hold an image's tokens, where a tower adapter reads them; else 0.
    """

    sequences: int
    length: int
    head_tokens: int
    image_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Return the number of positions, padding included (it is computed too)."""
        return self.sequences * self.length


@dataclass(frozen=True)
class _LayerCost:
    """Multiply-adds per token of one decoder layer's matrices."""

    all: int
    trained: int
    from_input: int  # those of linears that read the layer's input


def batch_shape(model: BaseModel, batch: Batch) -> BatchShape:
    """Return the size of a batch with its answers.

    Args:
        model: with or without adapters.
        batch: of the model's tokens.
    """
    sequences, length = batch.input_ids.shape
    interface = None if model.adapter is None else model.adapter.interface
    images = 0 if interface is None else len(interface.sequences(batch.input_ids))
    return BatchShape(sequences, length, int((batch.labels != IGNORED).sum()), images)


def forward_flops(model: BaseModel, shape: BatchShape) -> int:
    """Return the operations of one forward pass through decoder and head.

    Args:
        model: with or without adapters in its decoder.
        shape: the batch's size.
        model: with or without adapters in its decoder.
        shape: of the batch.
    """
    layers = decoder_layers(model.decoder)
    matrices = sum(_layer_cost(layer, frozenset()).all for layer in layers)
    attention = len(layers) * _attention_flops(model, shape)
    entry = 2 * shape.image_tokens * _entry_cost(model)[0] if shape.image_tokens else 0
    return 2 * shape.tokens * matrices + attention + _head_flops(model, shape) + entry


def train_step_flops(model: BaseModel, shape: BatchShape) -> int:
    """Return the operations of a forward and a backward pass with only the parameters that require gradients trained.

    Args:
        model: with adapters in its decoder; without any, the step is a forward pass.
        shape: the batch's size.
        model: with adapters in its decoder; without any, the step is a forward pass.
        shape: of the batch.
    """
    input_linears = _input_linears(model)
    costs = [_layer_cost(layer, input_linears) for layer in decoder_layers(model.decoder)]
    entry = _entry_cost(model)[1] if shape.image_tokens else 0
    first = 0 if entry else next((index for index, cost in enumerate(costs) if cost.trained), None)
    if first is None:
        return forward_flops(model, shape)
    reached = costs[first:]
    # Nothing below the first trained layer needs a gradient, so neither does that layer's input; but images' tokens do
    # where a tower adapter is trained.
    inputs = sum(cost.all for cost in reached) - (0 if entry else reached[0].from_input)
    weights = sum(cost.trained for cost in reached)
    attention = 2 * len(reached) * _attention_flops(model, shape)
    backward = 2 * shape.tokens * (inputs + weights) + attention + _head_flops(model, shape)
    return forward_flops(model, shape) + backward + 2 * shape.image_tokens * entry


@runtime_checkable
class Counted(Protocol):
    """A module that computes its own cost, which its parameters do not show (e.g. an adapted linear)."""

    def multiply_adds(self) -> tuple[int, int]:
        """Return the multiply-adds per token of the forward pass, and of the gradients of trained weights."""
        ...


@runtime_checkable
class CountedEntry(Protocol):
    """An adapted linear at the entry of a projector, below which nothing needs a gradient."""

    def entry_multiply_adds(self) -> tuple[int, int]:
        """Return the multiply-adds per row of the branches: forwards, and backwards (0 if they are not trained)."""
        ...


def _entry_cost(model: BaseModel) -> tuple[int, int]:
    """Return what a tower adapter adds, in multiply-adds per image token forwards and backwards; 0 without one.

    Backwards it is the way through the rest of the projector, too; forwards the projector is there in any case, and
    left out like the tower.
    """
    interface = None if model.adapter is None else model.adapter.interface
    if interface is None:
        return 0, 0
    linear = model.module.get_submodule(interface.path)
    if not isinstance(linear, CountedEntry):
        return 0, 0
    forwards, backwards = linear.entry_multiply_adds()
    projector = model.module.get_submodule(interface.projector)
    bare = getattr(linear, "weight", None)  # may be a parameter of the projector itself
    own = {id(parameter) for parameter in (*linear.parameters(), bare)}
    rest = sum(each.numel() for each in projector.parameters() if each.ndim == 2 and id(each) not in own)
    return forwards, backwards + rest if backwards else 0


def _layer_cost(layer: nn.Module, input_linears: frozenset[str]) -> _LayerCost:
    every = trained = from_input = 0
    for name, module in _counted_modules(layer, ""):
        if isinstance(module, Counted):
            own, own_trained = module.multiply_adds()
        else:
            matrices = [parameter for parameter in module.parameters(recurse=False) if parameter.ndim == 2]
            own = sum(parameter.numel() for parameter in matrices)
            own_trained = sum(parameter.numel() for parameter in matrices if parameter.requires_grad)
        every += own
        trained += own_trained
        from_input += own if name and any(_overlap(name, input_linear) for input_linear in input_linears) else 0
    return _LayerCost(every, trained, from_input)


def _counted_modules(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield a module and all below it, but nothing below one that counts itself."""
    yield name, module
    if not isinstance(module, Counted):
        for child_name, child in module.named_children():
            yield from _counted_modules(child, f"{name}.{child_name}")


def _overlap(name: str, other: str) -> bool:
    """Return whether one path is the other or lies below it: an adapter contains its linear."""
    return f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.")


def _input_linears(model: BaseModel) -> frozenset[str]:
    """Return the names, within a layer, of the linears that read its input; they depend on the family.

    Two tokens are computed while each linear of the first layer adds a term that requires a gradient to its output: an
    input that does not require one has passed no other linear.
    """
    if model.decoder not in _INPUT_LINEARS:
        first = decoder_layers(model.decoder)[0]
        parts = {
            name: part
            for name, part in _counted_modules(first, "")
            if isinstance(part, Counted) or linear_features(part)
        }
        found: set[str] = set()

        def make_hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
            def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
                if inputs and not inputs[0].requires_grad:
                    found.add(name)
                return output + torch.zeros_like(output, requires_grad=True)

            return hook

        handles = [part.register_forward_hook(make_hook(name)) for name, part in parts.items()]
        try:
            ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
            devices = [model.device] if model.device.type == "cuda" else []
            with torch.enable_grad(), torch.random.fork_rng(devices):  # the count must not advance dropout's generator
                unwrapped(model).hidden_states(Batch(ids, torch.ones_like(ids), torch.full_like(ids, IGNORED)))
        finally:
            for handle in handles:
                handle.remove()
        _INPUT_LINEARS[model.decoder] = frozenset(found)
    return _INPUT_LINEARS[model.decoder]


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
