"""Gradient checkpointing of the decoder's layers under an adapter: computed again instead of kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fedmosaic.adapters.forward_context import ForwardContext


@contextmanager
def recomputed(layers: nn.ModuleList, context: ForwardContext) -> Iterator[None]:
    """Keep only the layers' inputs of what is computed with gradients inside the block.

    The backward pass comes when the block is left, and maybe another mix is in use: it computes the layers again under
    the mix and the batch that they were computed with, and with the same draws of dropout.

    Args:
        layers: of the decoder.
        context: of the adapter in them.
    """
    if not torch.is_grad_enabled():
        yield
        return
    then = dataclasses.replace(context)

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _as_then(context, then)

    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, context_fn=contexts)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the instance's; the class's own shows again


@contextmanager
def _as_then(context: ForwardContext, then: ForwardContext) -> Iterator[None]:
    """Compute with the context as it was."""
    names = [field.name for field in dataclasses.fields(context)]
    now = {name: getattr(context, name) for name in names}
    for name in names:
        setattr(context, name, getattr(then, name))
    try:
        yield
    finally:
        for name, value in now.items():
            setattr(context, name, value)
