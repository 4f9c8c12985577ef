"""An adapter added into its base model's own weights: a checkpoint that needs no adapter any more.

    W' = W + scale * up @ down        bias' = bias + scale * offset

Co-LoRA's Q makes an offset. Where a linear has no bias to take it up, the architecture may know a setting that gives it
one (Llama's ``attention_bias`` and ``mlp_bias``, LLaVA's ``multimodal_projector_bias``); where it knows none, merging
would change what the model computes and is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fedmosaic.adapters.adapter import Adapter
from fedmosaic.adapters.export import folded
from fedmosaic.adapters.layer import Folded
from fedmosaic.errors import ModelError
from fedmosaic.models.parameter_linear import ParameterLinear, stored_name

_BIAS_SETTINGS = ("attention_bias", "mlp_bias")
_PROJECTOR_BIAS = "multimodal_projector_bias"


class Merged(NamedTuple):
    """The tensors of a merged model that differ from the base model's.

    Attributes:
        changes: tensors by name, in the base's dtype.
        config: the configuration that they fit, or None if it is the base's own.
    """

    changes: dict[str, Tensor]
    config: PreTrainedConfig | None


@torch.no_grad()
def merged(adapter: Adapter, module: PreTrainedModel) -> Merged:
    """Add the slots in use, mixed as they are now, to copies of the base model's weights.

    Args:
        adapter: attached to the module or not.
        module: its base model.

    Returns:
        The changed tensors; the model itself stays as it is.

    Raises:
        ModelError: the slots in use cannot be folded, a base is quantised, or a linear has no bias and can get none.
    """
    branches = folded(adapter)
    changes: dict[str, Tensor] = {}
    unmergeable = {}
    for adapted in adapter.linears():
        base, branch = adapted.linear.base, branches[adapted.path]
        weight, bias = _weights(adapted.path, base)
        change = branch.change if isinstance(base, nn.Linear) else branch.change.t()
        changes[_name(adapted.path, base)] = _added(weight, change)
        if branch.offset is not None and bias is not None:
            changes[f"{adapted.path}.bias"] = _added(bias, branch.scale * branch.offset)
        elif branch.offset is not None and branch.offset.any():
            unmergeable[adapted.path] = branch
    if not unmergeable:
        return Merged(changes, None)
    entry = adapter.interface.path if adapter.interface else None
    config, names = _with_biases(module, unmergeable, projector=entry in unmergeable)
    changes |= {name: torch.zeros(shape, dtype=module.dtype) for name, shape in names.items()}
    for path, branch in unmergeable.items():
        name = f"{path}.bias"
        assert branch.offset is not None  # only offsets are unmergeable
        changes[name] = _added(changes[name], branch.scale * branch.offset.cpu())
    return Merged(changes, config)


def _name(path: str, base: nn.Module) -> str:
    return stored_name(path) if isinstance(base, ParameterLinear) else f"{path}.weight"


def _weights(path: str, base: nn.Module) -> tuple[Tensor, Tensor | None]:
    weight = getattr(base, "weight", None)
    if (
        not isinstance(base, nn.Linear | Conv1D | ParameterLinear)
        or type(weight) is not nn.Parameter
        or not weight.is_floating_point()
    ):
        raise ModelError(
            f"{path} is a {type(base).__name__} with a {type(weight).__name__} for a weight: a quantised base cannot "
            "be merged; export with --as lora, or merge into the model before it is quantised"
        )
    return weight, base.bias


def _added(own: Tensor, change: Tensor) -> Tensor:
    return (own.double() + change).to(own.dtype)


def _with_biases(
    module: PreTrainedModel, needed: Mapping[str, Folded], *, projector: bool
) -> tuple[PreTrainedConfig, dict[str, torch.Size]]:
    """Return a configuration that gives these linears a bias, and names and shapes of all tensors that it adds.

    Raises:
        ModelError: the architecture has none.
    """
    config = copy.deepcopy(module.config)
    text = config.get_text_config()
    for name in _BIAS_SETTINGS:
        if getattr(text, name, None) is False:
            setattr(text, name, True)
    if projector and getattr(config, _PROJECTOR_BIAS, None) is False:
        setattr(config, _PROJECTOR_BIAS, True)
    with torch.device("meta"):
        twin = type(module)(config)
    own = {name.replace(".base.", ".") for name, _ in module.named_parameters()}
    new = {name: parameter.shape for name, parameter in twin.named_parameters() if name not in own}
    missing = [path for path in needed if f"{path}.bias" not in new]
    if missing:
        raise ModelError(
            f"{type(module).__name__} ({text.model_type}) cannot take up this client's adapter: Co-LoRA's Q is an "
            f"offset on {_listed(needed)}, and this architecture has no bias at {_listed(missing)}. "
            "The LoRA export is exact here: use --as lora"
        )
    return config, {name: shape for name, shape in new.items() if name.endswith(".bias")}


def _listed(paths: Collection[str], shown: int = 3) -> str:
    """Return e.g. ``a, b, c and 11 more``."""
    first = ", ".join(list(paths)[:shown])
    return first if len(paths) <= shown else f"{first} and {len(paths) - shown} more"
