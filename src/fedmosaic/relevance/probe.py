"""The probe: what a client's task is, seen through the gradient of a small frozen model (METHODS A.3).

The gradient is that of the answer loss with respect to the last block's MLP down-projection W. Every client's probe is
the same model with no adapters, so two clients' gradients can be compared. Only what lies above W is differentiated:
one forward pass gives W's inputs h, and the chain rule through the final norm and the language head gives the gradient
d at W's outputs, exactly; dL/dW of one sample is the sum of d_t h_t^T over its tokens. In the last block nothing mixes
positions after the MLP, so d_t is zero but at the positions that predict answer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedmosaic.adapters.placement import place
from fedmosaic.data.sample import Sample
from fedmosaic.models import BaseModel, Batch
from fedmosaic.models.cost import Shape, forward_flops
from fedmosaic.relevance.sketch import TensorSketch


@dataclass(frozen=True)
class AnswerGradients:
    """Per-token factors of the per-sample gradients: G_b = sum over n with rows[n] = b of d[n] h[n]^T."""

    d: Tensor
    """(n, d_out) gradient of the sample's mean answer loss at the projection's outputs."""
    h: Tensor
    """(n, d_in) the projection's inputs."""
    rows: Tensor
    """(n,) sample of each token."""


def output_projection(decoder: nn.Module) -> nn.Module:
    """Return the last MLP's output projection: the last linear of a decoder's last layer."""
    return decoder.get_submodule(place(decoder, blocks=0).targets[-1].path)


def answer_gradients(model: BaseModel, batch: Batch) -> AnswerGradients:
    """Return the exact per-sample gradients of the last MLP's output projection, in factored form.

    Args:
        model: the probe; its adapters, if it has any, must be off.
        batch: samples with their answers.
    """
    projection = output_projection(model.decoder)
    seen: dict[str, Tensor] = {}

    def remember(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        seen["h"] = inputs[0].detach()
        seen["y"] = output.detach().requires_grad_(True)
        return seen["y"]

    handle = projection.register_forward_hook(remember)
    try:
        with torch.enable_grad():
            answers = model.answer_logits(batch)
            token_loss = F.cross_entropy(answers.logits.float(), answers.targets, reduction="none")
            tokens = torch.bincount(answers.rows, minlength=len(batch.input_ids))
            loss = (token_loss / tokens[answers.rows]).sum()
            (gradient,) = torch.autograd.grad(loss, seen["y"])
    finally:
        handle.remove()
    rows, positions = gradient.ne(0).any(-1).nonzero(as_tuple=True)
    return AnswerGradients(d=gradient[rows, positions], h=seen["h"][rows, positions], rows=rows)


class Probe:
    """Collects the sanitised sketch of one client's task over one round.

    Args:
        model: the frozen probe model.
        size: sketch length.
        clip: largest norm of one sample's sketch; larger ones are scaled down to it.
        noise_multiplier: sigma; the *sum* over samples gets Gaussian noise of standard deviation sigma * clip.
        seed: seed of the projection, equal on all clients.
        noise_seed: seed of this client's noise in this round, private to it.
    """

    def __init__(
        self, model: BaseModel, *, size: int, clip: float, noise_multiplier: float, seed: int, noise_seed: int
    ) -> None:
        self.model = model
        self.clip = clip
        self.noise_multiplier = noise_multiplier
        shape = place(model.decoder, blocks=0).targets[-1]
        self._sketch = TensorSketch(d_out=shape.out_features, d_in=shape.in_features, size=size, seed=seed)
        self._noise = torch.Generator().manual_seed(noise_seed)
        self._sum = torch.zeros(size)
        self.samples = 0
        self.flops = 0

    def observe(self, samples: Sequence[Sample]) -> None:
        """Add the clipped sketch of each sample's gradient."""
        batch = self.model.collate(samples)
        sequences, length = batch.input_ids.shape
        self.flops += forward_flops(self.model, Shape(sequences, length, head_tokens=len(samples)))
        gradients = answer_gradients(self.model, batch)
        sketches = self._sketch(gradients.d.float(), gradients.h.float(), gradients.rows, len(samples)).cpu()
        norms = sketches.norm(dim=1, keepdim=True)
        self._sum += (sketches * (self.clip / norms.clamp(min=self.clip))).sum(0)
        self.samples += len(samples)

    def release(self) -> Tensor:
        """Return the (size,) noisy mean of the observed samples; this is all that may leave the client.

        Raises:
            ValueError: nothing was observed.
        """
        if self.samples == 0:
            raise ValueError("the probe observed no sample in this round; observe at least one before release()")
        noise = torch.randn(self._sum.shape, generator=self._noise) * (self.noise_multiplier * self.clip)
        return (self._sum + noise) / self.samples
