"""The stack of a decoder's layers and the linears in them, found from a model's structure, not from its name."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from fedmosaic.errors import ModelError


def linear_features(module: nn.Module) -> tuple[int, int] | None:
    """Return (input, output) widths of a linear-like leaf, also quantised ones and ``Conv1D``; None for others.

    Args:
        module: any.
    """
    for names in (("in_features", "out_features"), ("nx", "nf")):
        sizes = [getattr(module, name, None) for name in names]
        if all(isinstance(size, int) for size in sizes) and (
            isinstance(module, nn.Linear) or not any(module.children())
        ):
            return int(sizes[0]), int(sizes[1])  # type: ignore[arg-type]
    return None


def decoder_layers(decoder: nn.Module) -> nn.ModuleList:
    """Return the decoder layers; see :func:`layer_list`.

    Args:
        decoder: the decoder stack, or a whole language model.

    Raises:
        ModelError: no list of decoder layers, or more than one that could be it.
    """
    return layer_list(decoder)[1]


def layer_list(decoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return path and list of the decoder layers: the longest outermost list of equal layers that hold linears.

    Args:
        decoder: the decoder stack, or a whole language model (also an encoder-decoder one), whose decoder is used.

    Raises:
        ModelError: no list of decoder layers, or more than one that could be it.
    """
    start = decoder
    if callable(own := getattr(decoder, "get_decoder", None)) and isinstance(found := own(), nn.Module):
        start = found
    prefix = next((name for name, module in decoder.named_modules() if module is start), None)
    if prefix is None:
        start, prefix = decoder, ""
    lists = [
        (name, module)
        for name, module in _outermost_lists(start, prefix)
        if len({type(layer) for layer in module}) == 1 and all(any(linears_of(layer)) for layer in module)
    ]
    if not lists:
        raise ModelError(
            f"{type(decoder).__name__} has no list of like layers with linears in it; "
            "pass the decoder stack of a transformer as `decoder`"
        )
    longest = max(len(module) for _, module in lists)
    best = [(name, module) for name, module in lists if len(module) == longest]
    least = min(name.count(".") for name, _ in best)
    best = [(name, module) for name, module in best if name.count(".") == least]  # a tower may lie within a decoder
    if len(best) > 1:
        raise ModelError(
            f"{type(decoder).__name__} has several lists of {longest} layers ({', '.join(name for name, _ in best)}); "
            "pass the one decoder stack that is to be adapted as `decoder`"
        )
    return best[0]


def _outermost_lists(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.ModuleList]]:
    """Yield the module lists that do not lie within another one (experts and the parts of a T5 block do)."""
    for name, child in module.named_children():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(child, nn.ModuleList):
            yield path, child
        else:
            yield from _outermost_lists(child, path)


def linears_of(layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield path and module of every linear below a layer.

    Args:
        layer: a decoder layer.
    """
    return ((name, module) for name, module in layer.named_modules() if name and linear_features(module) is not None)
