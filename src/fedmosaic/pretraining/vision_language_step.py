"""A step of :mod:`fedmosaic.pretraining.vision_language`, and checkpoints from which a run goes on to the same bits."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.data.dialogue import Dialogue
from fedmosaic.errors import RunError
from fedmosaic.io import load_tensors, save_tensors
from fedmosaic.models.delta import Change, Delta
from fedmosaic.models.tiny import TinyModel
from fedmosaic.pretraining.train import dialogue_loss
from fedmosaic.seeding import generator

_SLOT = "delta"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of the training; all but ``steps`` are fixed once it has begun.

    Attributes:
        steps: in all; the last part of them anneals the learning rate, and the curriculum is stretched over them.
        batch: dialogues in a batch.
        rank: of the LoRA.
        lr: peak learning rate of the LoRA.
        projector_lr: peak learning rate of the projector.
        naming: steps in which the projector alone learns to name pictures, before.
        warm_up: steps of linear rise.
        decay: share of the steps, at the end, of linear decay to 2 %.
        clip: largest gradient norm.
        noise: standard deviation of the noise on the tower's features (whose own is 0.9), against memorised pictures.
        dtype: of the frozen weights and of products; adapter, projector and optimiser are float32 in any case.
        seed: of weights and data.
    """

    steps: int = 500
    batch: int = 128
    rank: int = 32
    lr: float = 8e-4
    projector_lr: float = 2e-3
    naming: int = 2000
    warm_up: int = 60
    decay: float = 0.5
    clip: float = 1.0
    noise: float = 0.5
    dtype: str = "bfloat16"
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the share of the peak learning rates at a step.

        Args:
            step: counts from 0.
        """
        rise, rest = (step + 1) / self.warm_up, (1 - step / self.steps) / self.decay
        return min(1.0, rise) * min(1.0, max(0.02, rest))


class Training:
    """A model in training: LoRA and projector, their optimiser, and the number of steps done.

    Args:
        model: with features; its decoder and its head get the recipe's dtype, its projector is drawn anew.
        recipe: the settings.

    Attributes:
        model: see above; carries the adapter.
        recipe: see above.
        step: how many have been done.
    """

    def __init__(self, model: TinyModel, recipe: Recipe) -> None:
        self.model, self.recipe, self.step = model, recipe, 0
        dtype = getattr(torch, recipe.dtype)
        model.decoder.to(dtype)
        model.module.lm_head.to(dtype)
        self.projector: Any = model.module.model.multi_modal_projector.float()
        _draw(self.projector, recipe.seed)
        self.adapter = model.adapter = Adapter.attach(
            model.module, model.decoder, slots=[Slot(_SLOT, communicated=False)], rank=recipe.rank,
            alpha=2 * recipe.rank, seed=recipe.seed, architecture=model.architecture,
        )  # fmt: skip
        model.autocast = dtype != torch.float32
        lora = [parameter for group in self.adapter.train_only(_SLOT).values() for parameter in group]
        self.projector.requires_grad_(True)
        rates = {"lr": recipe.lr, "peak": recipe.lr}, {"lr": recipe.projector_lr, "peak": recipe.projector_lr}
        self._optimiser = torch.optim.AdamW(
            [{"params": lora, **rates[0]}, {"params": list(self.projector.parameters()), **rates[1]}],
            betas=(0.9, 0.98), weight_decay=0.0,
        )  # fmt: skip

    def trained(self) -> dict[str, nn.Parameter]:
        """Return all that is trained, by name."""
        return {
            **self.adapter.parameters(_SLOT),
            **{f"projector.{name}": parameter for name, parameter in self.projector.named_parameters()},
        }

    def learn(self, dialogues: list[Dialogue]) -> float:
        """Take one step and return its loss (nats).

        Args:
            dialogues: the batch.
        """
        batch = self.model.collate_dialogues(dialogues)
        features = batch.vision["features"]
        draws = generator(self.recipe.seed, "vision-language-noise", self.step)
        batch.vision["features"] = features + self.recipe.noise * torch.randn(features.shape, generator=draws).to(
            features.device
        )
        with _attention(features):
            loss = dialogue_loss(self.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.trained().values(), self.recipe.clip)
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * self.recipe.rate(self.step)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return float(loss.detach())

    def delta(self, package: str) -> Delta:
        """Return what has been learned, rounded to what is shipped.

        Args:
            package: sha256 of the package's weights.
        """
        slot = self.adapter.slot_tensors(_SLOT)
        changes = {
            adapted.target.path: Change.rounded(
                slot[f"{adapted.target.prefix}.B"] * adapted.linear.scale, slot[f"{adapted.target.prefix}.A"]
            )
            for adapted in self.adapter.linears()
        }
        return Delta(changes, {name: tensor.detach() for name, tensor in self.projector.state_dict().items()}, package)

    def save(self, path: Path) -> None:
        """Write a checkpoint, atomically.

        Args:
            path: the file.
        """
        tensors: dict[str, Tensor] = dict(self.trained())
        for name, parameter in self.trained().items():
            state = self._optimiser.state[parameter]
            tensors |= {f"{moment}/{name}": state[moment] for moment in _MOMENTS if state}
        save_tensors(path, tensors, {"step": str(self.step), "recipe": json.dumps(asdict(self.recipe))})

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Args:
            path: the file.

        Raises:
            RunError: it is missing or damaged, or of another recipe; ``steps`` may differ.
        """
        tensors = load_tensors(path, advice="begin again in another folder")
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
        before = json.loads(facts["recipe"])
        now = asdict(self.recipe)
        changed = [key for key in now if key != "steps" and now[key] != before.get(key)]
        if changed:
            raise RunError(
                f"{path} was begun with {', '.join(f'{key}={before.get(key)}' for key in changed)}; go on so, or "
                "begin in another folder"
            )
        for name, parameter in self.trained().items():
            parameter.copy_(tensors[name])
            if f"step/{name}" in tensors:
                state = {moment: tensors[f"{moment}/{name}"].to(parameter.device, copy=True) for moment in _MOMENTS}
                self._optimiser.state[parameter] = {**state, "step": state["step"].cpu()}
        self.step = int(facts["step"])


def _attention(features: Tensor) -> AbstractContextManager[None]:
    """Return the context of the forward pass: on a CPU, flash attention is slow at gradients in bfloat16 (4 times)."""
    return sdpa_kernel(SDPBackend.MATH) if features.device.type == "cpu" else nullcontext()


@torch.no_grad()
def _draw(projector: Any, seed: int) -> None:
    """Draw a projector's weights: random features of unit size, biases zero."""
    draws = generator(seed, "projector")
    for name in ("linear_1", "linear_2"):
        linear = projector.get_submodule(name)
        linear.weight.copy_(torch.randn(linear.weight.shape, generator=draws) / linear.in_features**0.5)
        linear.bias.zero_()
