"""An adapter as an ordinary PEFT LoRA folder.

The slots in use become one branch per linear (:class:`~fedmosaic.adapters.layer.Folded`): conventional ones by
concatenation of their A and B, so their ranks add up; Co-LoRA as ``A' = A``, ``B' = B P``, and ``B Q`` as the bias that
PEFT's ``lora_bias`` adds to lora_B. PEFT computes ``(lora_alpha / r) * (B' A' x + bias)`` with the r of each linear, so
the alpha of each is our scale times its rank. PEFT itself is not needed to write its format.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from fedmosaic.adapters.adapter import Adapter
from fedmosaic.adapters.layer import Folded
from fedmosaic.errors import ModelError
from fedmosaic.models.parameter_linear import PARAMETER, ParameterLinear, stored_name

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
ORIGIN_FILE, SLOTS_FOLDER, GATE_FILE = "fedmosaic.json", "slots", "gate.safetensors"
KEY_PREFIX = "base_model.model."


def folded(adapter: Adapter) -> dict[str, Folded]:
    """Return the branches that the slots in use add to the linears.

    Args:
        adapter: attached or not.

    Returns:
        By the linear's path in the model.

    Raises:
        ModelError: no slot is in use, the gate weighs the slots by the input, or a projector that can hold none has an
            offset, which came from another architecture.
    """
    branches = {}
    for adapted in adapter.linears():
        branch = branches[adapted.path] = adapted.linear.folded()
        if isinstance(adapted.linear.base, ParameterLinear) and branch.offset is not None and branch.offset.any():
            raise ModelError(
                f"{stored_name(adapted.path)} is a parameter without a bias, and the tower adapter has an offset that "
                "came from another architecture; no LoRA or checkpoint holds it: train with adapter.align_towers=false"
            )
    return branches


def write_lora(adapter: Adapter, folder: Path, *, base_model: str, task_type: str | None = None) -> None:
    """Write the slots in use, mixed as they are now, as a PEFT LoRA.

    Args:
        adapter: attached or not.
        folder: gets ``adapter_config.json`` and ``adapter_model.safetensors`` (fp32).
        base_model: name or folder of the model that the LoRA goes on.
        task_type: PEFT's name for the kind of model, e.g. ``CAUSAL_LM``; None for any.

    Raises:
        ModelError: the slots in use cannot be folded, bases with and without transposed weights are mixed, or there is
            an offset at a projector that can hold none.
    """
    branches = folded(adapter)
    whole = _taken_whole(adapter, branches)
    config = {
        **lora_config(branches),
        "modules_to_save": [*whole] or None,
        "base_model_name_or_path": base_model,
        "task_type": task_type,
        "fan_in_fan_out": _transposed(adapter),
    }
    folder.mkdir(parents=True, exist_ok=True)
    tensors = lora_tensors(branches)
    for saved in whole.values():
        tensors |= saved
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _taken_whole(adapter: Adapter, branches: dict[str, Folded]) -> dict[str, dict[str, Tensor]]:
    """Take out the branches of bare parameters, for which PEFT has no LoRA beside ``lora_bias``.

    Returns:
        By path of a projector: all its tensors under PEFT's names, the branch added, in float32.
    """
    found = {}
    for adapted in adapter.linears():
        base = adapted.linear.base
        if isinstance(base, ParameterLinear):
            change = branches.pop(adapted.path).change.cpu().t()
            tensors = {**base.stored(), PARAMETER: base.weight.cpu().double() + change}
            path = adapted.path.rpartition(".")[0]
            found[path] = {
                f"{KEY_PREFIX}{path}.{name}": each.detach().to("cpu", torch.float32).contiguous()
                for name, each in tensors.items()
            }
    return found


def write_origin(adapter: Adapter, folder: Path, *, base_model: str) -> None:
    """Write beside a LoRA what it was folded from, so that a client can start from it as if it had never been folded.

    ``fedmosaic.json`` says the adapter's shape and how its slots are mixed. Where several are, each is also written as
    a LoRA of its own below ``slots``, with the gates: together their ranks are more than one slot can hold.

    Args:
        adapter: the slots in use, mixed as they are now.
        folder: of the LoRA; :func:`write_lora` has written it.
        base_model: name or folder of the model that the LoRA goes on.
    """
    mixture, shape = adapter.linears()[0].linear.context.chosen, adapter.shape  # all linears share one
    names = shape.gated if isinstance(mixture, str) else tuple(mixture)
    origin = {
        "lora": digest_of(folder / WEIGHTS_FILE),  # the parts are worth nothing once it has been trained further
        "mix": mixture,
        "gate": shape.gate,
        "rank": shape.rank,
        "blocks": shape.blocks,
    }
    (folder / ORIGIN_FILE).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    if names is None or len(names) < 2:
        return
    for name in names:
        with adapter.mixed({name: 1.0}):
            write_lora(adapter, folder / SLOTS_FOLDER / name, base_model=base_model)
    gates = {name: tensor.cpu().contiguous() for name, tensor in adapter.gate_tensors().items()}
    save_file(gates, folder / SLOTS_FOLDER / GATE_FILE, metadata={"format": "pt"})


def digest_of(path: Path) -> str:
    """Return 32 hexadecimal digits that name a file's content.

    Args:
        path: the file.
    """
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def lora_tensors(branches: Mapping[str, Folded]) -> dict[str, Tensor]:
    """Return branches under PEFT's names, in float32; every linear has a bias as soon as one has an offset.

    Args:
        branches: by the linear's path.

    Returns:
        As :func:`write_lora` saves them.
    """
    biased = _biased(branches)
    tensors = {}
    for path, branch in branches.items():
        tensors[f"{KEY_PREFIX}{path}.lora_A.weight"] = branch.down
        tensors[f"{KEY_PREFIX}{path}.lora_B.weight"] = branch.up
        if biased:
            none = branch.up.new_zeros(branch.up.shape[0])
            tensors[f"{KEY_PREFIX}{path}.lora_B.bias"] = none if branch.offset is None else branch.offset
    return {name: tensor.to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}


def lora_config(branches: Mapping[str, Folded]) -> dict[str, Any]:
    """Return PEFT's settings that make of :func:`lora_tensors` what the branches compute.

    The commonest rank stands as ``r``; linears of another one are listed, by their whole path, in the patterns.

    Args:
        branches: by the linear's path.

    Returns:
        The content of ``adapter_config.json`` but for the base model's name.
    """
    ranks = {path: branch.down.shape[0] for path, branch in branches.items()}
    alphas = {path: _number(branch.scale * ranks[path]) for path, branch in branches.items()}
    (rank, alpha), _ = Counter((ranks[path], alphas[path]) for path in branches).most_common(1)[0]
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {re.escape(path): found for path, found in ranks.items() if found != rank},
        "alpha_pattern": {re.escape(path): found for path, found in alphas.items() if found != alpha},
        "target_modules": sorted(branches),
        "lora_bias": _biased(branches),
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _biased(branches: Mapping[str, Folded]) -> bool:
    return any(branch.offset is not None and bool(branch.offset.any()) for branch in branches.values())


def _number(value: float) -> float | int:
    """Return a whole number as such: some readers of PEFT's format want lora_alpha to be one."""
    near = round(value, 9)
    return int(near) if near.is_integer() else near


def _transposed(adapter: Adapter) -> bool:
    kinds = {isinstance(adapted.linear.base, Conv1D) for adapted in adapter.linears()}
    if len(kinds) > 1:
        raise ModelError(
            "the adapted linears are partly Conv1D (transposed weights) and partly not; PEFT's format knows one "
            "setting (fan_in_fan_out) for all, so adapt only one kind with `modules`"
        )
    return kinds.pop()
