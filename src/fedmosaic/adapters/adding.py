"""A PEFT LoRA folder added to the weights of a loaded model, where PEFT itself is not needed."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from fedmosaic.adapters.layer import Folded
from fedmosaic.adapters.start import read_lora
from fedmosaic.errors import ModelError
from fedmosaic.models.parameter_linear import ParameterLinear


@torch.no_grad()
def add_lora(module: nn.Module, folder: Path) -> None:
    """Add a LoRA to the weights in place: summed in float64, rounded once to the weights' dtype.

    A linear without a bias gets one where the LoRA has an offset.

    Args:
        module: the model that the LoRA is of.
        folder: ``adapter_config.json`` and ``adapter_model.safetensors``.

    Raises:
        ModelError: the folder cannot be read, or is of another model.
    """
    linears = dict(module.named_modules())
    branches = read_lora(folder, linears)
    for path, branch in branches.items():
        if not _fits(linears.get(path), branch):
            raise ModelError(f"{folder} adapts {path}, which this model has not, or in other widths; name its own base")
    for path, branch in branches.items():
        _add(linears[path], branch)


def _fits(linear: nn.Module | None, branch: Folded) -> bool:
    if isinstance(linear, nn.Linear):
        return linear.weight.shape == branch.change.shape
    return isinstance(linear, Conv1D | ParameterLinear) and linear.weight.shape == branch.change.T.shape


def _add(linear: nn.Module, branch: Folded) -> None:
    assert isinstance(linear, nn.Linear | Conv1D | ParameterLinear)  # it fits
    weight = linear.weight
    change = branch.change.to(weight.device)
    weight.copy_(weight.double() + (change if isinstance(linear, nn.Linear) else change.T))
    if branch.offset is not None and bool(branch.offset.any()):
        offset = (branch.scale * branch.offset).to(weight.device)
        before = 0.0 if linear.bias is None else linear.bias.double()
        linear.bias = nn.Parameter((before + offset).to(weight.dtype), requires_grad=False)
