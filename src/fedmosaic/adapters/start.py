"""An existing PEFT LoRA as the start of a client.

Conventional layers take it up exactly. A Co-LoRA layer can only hold ``B (P A x + Q)`` with its own frozen A and B, so
there the LoRA is projected on them: with bases that were not chosen for it, most of it is lost.
:attr:`StartingSlot.retained` is the share that is left; with ``adapter.blocks=0`` there are no Co-LoRA layers and
nothing is lost. With the bases that a LoRA was made with, P and Q (its bias) are recovered exactly.

A LoRA that was exported from a mixture of slots has the ranks of all of them. Where one slot cannot hold that, the
export's own parts (:func:`~fedmosaic.adapters.export.write_origin`) go into the slots that they came from.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fedmosaic.adapters.adapter import Adapter
from fedmosaic.adapters.export import (
    CONFIG_FILE,
    GATE_FILE,
    KEY_PREFIX,
    ORIGIN_FILE,
    SLOTS_FOLDER,
    WEIGHTS_FILE,
    digest_of,
)
from fedmosaic.adapters.forward_context import SlotWeights, fixed_weights
from fedmosaic.adapters.layer import CoLoraLinear, Folded
from fedmosaic.errors import ModelError
from fedmosaic.models.parameter_linear import PARAMETER, ParameterLinear

# What makes PEFT compute something else than base(x) + alpha / r * B A x.
_OTHER_FORMULAS = (
    "use_dora", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config", "use_bdlora",
    "use_qalora", "layer_replication", "target_parameters", "trainable_token_indices", "modules_to_save",
)  # fmt: skip
_PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal")  # the others change the base weights, too


@dataclass(frozen=True)
class StartingSlot:
    """A slot's tensors made of a PEFT LoRA.

    Attributes:
        tensors: as :meth:`Adapter.load_slot` takes them.
        linears: number of linears that the LoRA adapts.
        retained: share of its squared norm in the Co-LoRA layers, bias included, that their bases can hold; 1 if it
            adapts none of them.
    """

    tensors: dict[str, Tensor]
    linears: int
    retained: float


@dataclass(frozen=True)
class Start:
    """The adapter's slots and gates that a client starts with.

    Attributes:
        slots: by name; those left out, and gates that are, start as those of all clients.
        gates: as :meth:`Adapter.load_gate` takes them.
        apart: whether the slots differ, each being a part of the LoRA.
    """

    slots: dict[str, StartingSlot]
    gates: dict[str, Tensor]
    apart: bool

    @property
    def retained(self) -> float:
        """The smallest :attr:`StartingSlot.retained` of the slots."""
        return min(slot.retained for slot in self.slots.values())

    @property
    def summary(self) -> str:
        """One line for the user."""
        linears = max(slot.linears for slot in self.slots.values())
        parts = f" (slot by slot: {', '.join(self.slots)})" if self.apart else ""
        if self.retained > 1 - 1e-6:
            return f"{linears} linears, taken up exactly{parts}"
        return (
            f"{linears} linears{parts}; Co-LoRA layers hold {self.retained:.1%} of their part (all with "
            "adapter.blocks=0, or with the bases that it was made with)"
        )


def client_start(
    adapter: Adapter, initial: Mapping[str, Tensor], folder: Path, *, answers_with: SlotWeights | None = None
) -> Start:
    """Make a client's start from a PEFT LoRA folder: a copy in every slot, or slot by slot if only that can hold it.

    Args:
        adapter: the client's.
        initial: a slot's tensors before any training.
        folder: ``adapter_config.json``, ``adapter_model.safetensors``, and what an export of ours has beside them.
        answers_with: how the client's slots will be mixed.

    Returns:
        What the client starts with.

    Raises:
        ModelError: as :func:`starting_slot`; for an export of ours it says what it was made with.
    """
    origin = _origin(folder)
    try:
        whole = starting_slot(adapter, initial, folder)
    except ModelError as error:
        if origin is None:
            raise
        parts = _parts(adapter, initial, folder, origin, answers_with)
        if parts is None:
            raise ModelError(f"{error}. {_advice(origin)}") from None
        return parts
    return Start({slot.name: whole for slot in adapter.slots}, {}, apart=False)


def _parts(
    adapter: Adapter,
    initial: Mapping[str, Tensor],
    folder: Path,
    origin: Mapping[str, Any],
    answers_with: SlotWeights | None,
) -> Start | None:
    """Return the slots of an export in the slots that they came from; None if they do not fit there."""
    names = sorted(path.name for path in (folder / SLOTS_FOLDER).glob("*") if path.is_dir())
    mix = None if answers_with is None else fixed_weights(answers_with)
    alike = origin.get("mix") == mix and origin.get("gate") == adapter.shape.gate
    if not names or not alike or not set(names) <= set(adapter.shape.slots):
        return None
    try:
        slots = {name: starting_slot(adapter, initial, folder / SLOTS_FOLDER / name) for name in names}
    except ModelError:
        return None
    gates = _tensors(folder / SLOTS_FOLDER / GATE_FILE)
    return Start(slots, gates, apart=True) if gates.keys() == adapter.gate_tensors().keys() else None


def _origin(folder: Path) -> dict[str, Any] | None:
    """Return the origin record of an export of ours; None for other LoRAs, and for those trained since."""
    try:
        origin = json.loads((folder / ORIGIN_FILE).read_text(encoding="utf-8"))
        own = isinstance(origin, dict) and origin.get("lora") == digest_of(folder / WEIGHTS_FILE)
    except (OSError, ValueError, RecursionError):
        return None
    return origin if own else None


def _advice(origin: Mapping[str, Any]) -> str:
    made = ", ".join(f"adapter.{name}={origin.get(name)}" for name in ("rank", "blocks"))
    return (
        f"It was exported from an adapter with {made} and slots mixed by {origin.get('mix')!r}: start it with these "
        "settings, the same method, seed and alignment; or take the client's `export --as merged` as the client's "
        "`model` instead of a start"
    )


def starting_slot(adapter: Adapter, initial: Mapping[str, Tensor], folder: Path) -> StartingSlot:
    """Make a slot from a PEFT LoRA folder; linears that it does not adapt keep their initial tensors.

    Args:
        adapter: the client's, of whose slots one is made.
        initial: a slot's tensors before any training.
        folder: ``adapter_config.json`` and ``adapter_model.safetensors``.

    Returns:
        The slot.

    Raises:
        ModelError: the folder cannot be read, computes another formula than LoRA's, or a linear, width or rank does not
            fit.
    """
    linears = {adapted.path: adapted for adapted in adapter.linears()}
    branches = read_lora(folder, {path: adapted.linear.base for path, adapted in linears.items()})
    if unknown := sorted(branches.keys() - linears.keys()):
        near = get_close_matches(unknown[0], linears, n=1)
        hint = f" (nearest: {near[0]})" if near else ""
        raise ModelError(
            f"{folder} adapts {unknown[0]}, which has no adapter in this model{hint}; {len(unknown)} of its "
            f"{len(branches)} linears do not fit. It must be a LoRA of the same base model, on the decoder's linears"
        )
    tensors = {name: tensor.clone() for name, tensor in initial.items()}
    total = retained = 0.0
    for path, branch in branches.items():
        adapted = linears[path]
        target, linear = adapted.target, adapted.linear
        found, wanted = (branch.down.shape[1], branch.up.shape[0]), (target.in_features, target.out_features)
        if found != wanted:
            raise ModelError(
                f"{folder}: {path} is {found[0]} -> {found[1]} there, but {wanted[0]} -> {wanted[1]} in this model"
            )
        own = {letter: initial[f"{target.prefix}.{letter}"] for letter in linear.letters}
        try:
            slot = linear.unfolded(branch, own)
        except ModelError as error:
            raise ModelError(f"{folder}: {path}: {error}") from None
        tensors |= {f"{target.prefix}.{letter}": tensor for letter, tensor in slot.items()}
        if isinstance(linear, CoLoraLinear):
            total += branch.scale**2 * _squared_norm(branch.up, branch.down, branch.offset)
            basis = linear.B.double().cpu()
            up, offset = basis @ slot["P"].cpu().double(), basis @ slot["Q"].cpu().double()
            retained += linear.scale**2 * _squared_norm(up, linear.A.double().cpu(), offset)
    return StartingSlot(tensors, len(branches), retained / total if total else 1.0)


def read_lora(folder: Path, linears: Mapping[str, nn.Module]) -> dict[str, Folded]:
    """Return the branches of a PEFT LoRA folder.

    A projector that is saved whole, as its weight is a bare parameter, is a branch, too: what was added to it.

    Args:
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors``.
        linears: of the model, by path; other modules may be among them.

    Returns:
        By the linear's path in the model.

    Raises:
        ModelError: files are missing or damaged, or it is something else than plain LoRA.
    """
    bare = {path: linear for path, linear in linears.items() if isinstance(linear, ParameterLinear)}
    config = _config(folder, whole=[path.rpartition(".")[0] for path in bare])
    tensors = _tensors(folder / WEIGHTS_FILE)
    if not tensors:
        raise ModelError(f"{folder / WEIGHTS_FILE} holds no tensors")
    added = {path: branch for path, linear in bare.items() if (branch := _taken(folder, tensors, path, linear))}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(rf"{re.escape(KEY_PREFIX)}(.+)\.(lora_A\.weight|lora_B\.weight|lora_B\.bias)", key)
        if match is None or not bool(tensor.isfinite().all()):
            what = "holds numbers that are not finite" if match else "is not part of a LoRA of linears"
            raise ModelError(f"{folder / WEIGHTS_FILE}: {key!r} {what}; expected {KEY_PREFIX}PATH.lora_A.weight etc.")
        parts.setdefault(match[1], {})[match[2]] = tensor.double()
    return added | {path: _branch(folder, path, part, config) for path, part in parts.items()}


def _taken(folder: Path, tensors: dict[str, Tensor], path: str, linear: ParameterLinear) -> Folded | None:
    """Take a projector's tensors out of a LoRA's; return what was added to its weight, None if it is not there."""
    saved = f"{KEY_PREFIX}{path.rpartition('.')[0]}."
    found = {name.removeprefix(saved): tensors.pop(name) for name in list(tensors) if name.startswith(saved)}
    if not found:
        return None
    own = linear.stored()
    alike = own.keys() == found.keys() and all(found[name].shape == own[name].shape for name in own)
    others = own.keys() - {PARAMETER}
    if not alike or not all(torch.equal(found[name].to(own[name]), own[name]) for name in others):
        raise ModelError(f"{folder}: {saved.removeprefix(KEY_PREFIX)}* are not those of this model but for {PARAMETER}")
    change = (found[PARAMETER].double() - linear.weight.cpu().double()).t()
    if not bool(change.isfinite().all()):
        raise ModelError(f"{folder / WEIGHTS_FILE}: {saved}{PARAMETER} holds numbers that are not finite")
    return Folded(torch.eye(change.shape[1], dtype=torch.float64), change, None, 1.0)


def _branch(folder: Path, path: str, part: Mapping[str, Tensor], config: Mapping[str, Any]) -> Folded:
    down, up = part.get("lora_A.weight"), part.get("lora_B.weight")
    if down is None or up is None or down.dim() != 2 or up.dim() != 2 or down.shape[0] != up.shape[1]:
        shapes = {name: tuple(tensor.shape) for name, tensor in part.items()}
        raise ModelError(f"{folder / WEIGHTS_FILE}: {path} has {shapes}; expected lora_A (r, in) and lora_B (out, r)")
    rank = down.shape[0]
    patterns = (config.get("alpha_pattern") or {}).items()
    alpha = next((a for key, a in patterns if re.match(rf"(.*\.)?({key})$", path)), config.get("lora_alpha", 8))
    return Folded(down, up, part.get("lora_B.bias"), alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _config(folder: Path, *, whole: Collection[str]) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"start = {str(folder)!r} is no PEFT LoRA folder: {path} cannot be read ({error})") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ModelError(f"{path}: peft_type is {kind!r}; expected 'LORA'")
    saved = config.get("modules_to_save")
    known = isinstance(saved, list) and whole and all(each in whole for each in saved)
    if others := [name for name in _OTHER_FORMULAS if config.get(name) and not (known and name == "modules_to_save")]:
        name = others[0]
        raise ModelError(f"{path}: {name} = {config[name]!r} is more than plain LoRA, and only that can be a start")
    if (init := config.get("init_lora_weights")) not in _PLAIN_INITS:
        raise ModelError(
            f"{path}: init_lora_weights = {init!r} has changed the base model's weights, too; save it again with "
            "PEFT's path_initial_model_for_weight_conversion"
        )
    return dict(config)


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        other = " (adapter_model.bin is not safe to load and never is: save it again with PEFT)"
        raise ModelError(f"{path} is missing{other if path.with_name('adapter_model.bin').exists() else ''}")
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({error}); copy it again") from None


def _squared_norm(up: Tensor, down: Tensor, offset: Tensor | None) -> float:
    """Squared Frobenius norm of ``up @ down`` beside its offset, from the small Gram matrices."""
    alone = torch.sum((up.t() @ up) * (down @ down.t()))
    return float(alone if offset is None else alone + offset.square().sum())
