"""Names of base models' architectures: equal names mean equal weights and shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_SAMPLED = 64  # numbers read from each tensor


def architecture_name(module: PreTrainedModel) -> str:
    """Return e.g. ``llava-llama-4x128-1f0c33d2``: type, depth x width, and a digest of the weights.

    The digest covers the name, shape and up to 64 evenly spaced values of each parameter, rounded to bf16 so that the
    same checkpoint loaded in another precision keeps its name.

    Args:
        module: the transformers model.
    """
    text = module.config.get_text_config()
    kind = module.config.model_type
    if text.model_type != kind:
        kind = f"{kind}-{text.model_type}"
    return f"{kind}-{text.num_hidden_layers}x{text.hidden_size}-{weights_digest(module)[:8]}"


def weights_digest(module: nn.Module) -> str:
    """Return the digest (32 hexadecimal digits) described at :func:`architecture_name`.

    Args:
        module: any.
    """
    return parameters_digest(module.named_parameters())


def parameters_digest(named: Iterable[tuple[str, Tensor]], more: str = "") -> str:
    """Return the digest (32 hexadecimal digits) described at :func:`architecture_name`.

    Args:
        named: parameters with their names.
        more: what else it covers.
    """
    digest = hashlib.blake2b(more.encode(), digest_size=16)
    for name, parameter in named:
        flat = parameter.detach().flatten()
        values = flat[:: max(1, flat.numel() // _SAMPLED)][:_SAMPLED]
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(values.to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
