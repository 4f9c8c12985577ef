"""Where adapters go: the decoder's linears, found from the model's structure and never from its name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from fedmosaic.errors import ModelError, SettingsError
from fedmosaic.models.stack import layer_list, linear_features, linears_of


@dataclass(frozen=True, slots=True)
class Target:
    """One linear that gets an adapter.

    Attributes:
        path: dotted module path, relative to the decoder that was given to :func:`find_targets`.
        layer: index of its decoder layer.
        block: index of the block that this layer ends (the linear carries Co-LoRA), or None (conventional LoRA).
        module: its name within the layer, e.g. ``q_proj``: the shortest ending of the path that is unique there.
        in_features: input width.
        out_features: output width.
    """

    path: str
    layer: int
    block: int | None
    module: str
    in_features: int
    out_features: int

    @property
    def prefix(self) -> str:
        """Start of the names of this target's tensors: by block where architectures meet, by layer elsewhere."""
        return f"{self.by_layer}" if self.block is None else f"block.{self.block}.{self.module}"

    @property
    def by_layer(self) -> str:
        """``layer.{i}.{module}``, whatever kind of adapter sits there."""
        return f"layer.{self.layer}.{self.module}"


@dataclass(frozen=True, slots=True)
class Placement:
    """All targets of one decoder.

    Attributes:
        layers: number of decoder layers L.
        ends: for each block, the index of its last layer (the Co-LoRA layers); empty without Co-LoRA.
        targets: in the order of the layers and, within one, of the model's own registration.
    """

    layers: int
    ends: tuple[int, ...]
    targets: tuple[Target, ...]


EVERY_LAYER = -1
"""Number of blocks of a decoder whose every layer is a block: all carry Co-LoRA, whatever their number."""


def block_ends(layers: int, blocks: int) -> tuple[int, ...]:
    """Return the last layer of each block: ``k * (L // N_B) - 1`` for k < N_B, and ``L - 1`` (FedMosaic, Co-LoRA).

    Args:
        layers: number of decoder layers L.
        blocks: number of blocks N_B; 0 means no Co-LoRA anywhere, :data:`EVERY_LAYER` everywhere.

    Raises:
        SettingsError: more blocks than layers, or a negative number.
    """
    if blocks == EVERY_LAYER:
        return tuple(range(layers))
    if blocks < 0:
        raise SettingsError(f"blocks={blocks}: expected 0 (no Co-LoRA) or a positive number")
    if blocks > layers:
        raise SettingsError(
            f"blocks={blocks} but the decoder has only {layers} layer(s); set blocks to {layers} or less, "
            "the same on all clients"
        )
    if blocks == 0:
        return ()
    return (*(k * (layers // blocks) - 1 for k in range(1, blocks)), layers - 1)


def find_targets(decoder: nn.Module, *, blocks: int, modules: Collection[str] | None = None) -> Placement:
    """Find the attention and MLP projections of a decoder and divide its layers into blocks.

    Args:
        decoder: the decoder stack; of a whole language model (also an encoder-decoder one) its decoder is taken.
        blocks: number of blocks N_B, each ending in one Co-LoRA layer; 0 for conventional LoRA everywhere,
            :data:`EVERY_LAYER` for Co-LoRA everywhere.
        modules: names of the projections to adapt, e.g. ``{"q_proj", "v_proj"}``; None adapts all.

    Returns:
        The placement of adapters.

    Raises:
        ModelError: no list of decoder layers, more than one that could be it, or a linear shared between layers.
        SettingsError: more blocks than layers, or ``modules`` has a name that the decoder lacks.
    """
    path, layers = layer_list(decoder)
    found = [(index, inner, module) for index, layer in enumerate(layers) for inner, module in linears_of(layer)]
    _check_not_shared(found)
    names = _short_names({inner for _, inner, _ in found})
    wanted = _wanted(modules, known=sorted(set(names.values())))
    ends = block_ends(len(layers), blocks)
    block_of = {layer: block for block, layer in enumerate(ends)}
    targets = []
    for index, inner, module in found:
        features = linear_features(module)
        if names[inner] in wanted and features is not None:
            target = Target(f"{path}.{index}.{inner}", index, block_of.get(index), names[inner], *features)
            targets.append(target)
    return Placement(layers=len(layers), ends=ends, targets=tuple(targets))


def _check_not_shared(found: list[tuple[int, str, nn.Module]]) -> None:
    owner: dict[int, str] = {}
    for index, inner, module in found:
        here = f"layer {index} {inner}"
        if id(module) in owner:
            raise ModelError(
                f"{owner[id(module)]} and {here} are the same module; layers that share weights cannot be adapted apart"
            )
        owner[id(module)] = here


def _short_names(paths: Collection[str]) -> dict[str, str]:
    """Give each path within a layer its shortest ending that no other path has (``q_proj``, ``SelfAttention.q``)."""

    def ending(path: str, parts: int) -> str:
        return ".".join(path.split(".")[-parts:])

    short = {}
    for path in paths:
        lengths = range(1, path.count(".") + 2)
        short[path] = next(
            (ending(path, n) for n in lengths if sum(ending(other, n) == ending(path, n) for other in paths) == 1), path
        )
    return short


def _wanted(modules: Collection[str] | None, *, known: list[str]) -> Collection[str]:
    if modules is None:
        return known
    unknown = sorted(set(modules) - set(known))
    if unknown or not modules:
        raise SettingsError(f"modules={sorted(modules)}: {unknown or 'empty'}; this decoder has {', '.join(known)}")
    return modules
