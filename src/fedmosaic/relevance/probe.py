"""The probe: a small frozen model whose gradient on a client's samples characterises the client's task.

The published probe: docs/method-facts.md#probe-gradient.

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

from fedmosaic.adapters.placement import Target, find_targets
from fedmosaic.data.sample import Sample
from fedmosaic.errors import DataError
from fedmosaic.models import BaseModel, Batch
from fedmosaic.models.base import IGNORED
from fedmosaic.models.cost import BatchShape, forward_flops
from fedmosaic.relevance.sketch import Sketch

CHUNK = 16  # samples of one pass; fixed, so that equal samples in equal order give bit-identical sketches


@dataclass(frozen=True)
class AnswerGradients:
    """Per-token factors of the per-sample gradients: G_b = sum over n with rows[n] = b of d[n] h[n]^T."""

    d: Tensor
    """(n, d_out) gradient of the sample's mean answer loss at the projection's outputs."""
    h: Tensor
    """(n, d_in) the projection's inputs."""
    rows: Tensor
    """(n,) sample of each token."""


def probe_target(decoder: nn.Module) -> Target:
    """Return the linear whose gradient is sketched: the output projection of the last layer's MLP.

    Args:
        decoder: the probe's decoder stack.
    """
    return find_targets(decoder, blocks=0).targets[-1]


def answer_gradients(model: BaseModel, batch: Batch) -> AnswerGradients:
    """Return the exact per-sample gradients of the last MLP's output projection, in factored form.

    Args:
        model: the probe; its adapters, if it has any, must be off.
        batch: samples with their answers.
    """
    projection = model.decoder.get_submodule(probe_target(model.decoder).path)
    captured: dict[str, Tensor] = {}

    def capture(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        captured["h"] = inputs[0].detach()
        captured["y"] = output.detach().requires_grad_(True)
        return captured["y"]

    handle = projection.register_forward_hook(capture)
    try:
        with torch.enable_grad():
            answers = model.answer_logits(batch)
            token_loss = F.cross_entropy(answers.logits.float(), answers.targets, reduction="none")
            tokens = torch.bincount(answers.rows, minlength=len(batch.input_ids))
            loss = (token_loss / tokens[answers.rows]).sum()
            (gradient,) = torch.autograd.grad(loss, captured["y"])
    finally:
        handle.remove()
    shape = batch.input_ids.shape  # some families flatten rows and positions before their MLP
    gradient, inputs = gradient.reshape(*shape, -1), captured["h"].reshape(*shape, -1)
    rows, positions = gradient.ne(0).any(-1).nonzero(as_tuple=True)
    return AnswerGradients(d=gradient[rows, positions], h=inputs[rows, positions], rows=rows)


class Probe:
    """A frozen model and the sketch of its gradient.

    Args:
        model: the frozen model; equal on all clients.
        sketch: equal on all clients.

    Attributes:
        flops: of all passes so far.
    """

    def __init__(self, model: BaseModel, sketch: Sketch) -> None:
        self.model = model
        self.sketch = sketch
        self.flops = 0

    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """Return the sketches of the samples' gradients.

        Args:
            samples: with their answers.

        Returns:
            (n, size) on the CPU.

        Raises:
            DataError: a sample has images and the probe reads text only.
        """
        parts = [self._pass(samples[start : start + CHUNK]) for start in range(0, len(samples), CHUNK)]
        return torch.cat([torch.zeros(0, self.sketch.size), *parts])

    def _pass(self, samples: Sequence[Sample]) -> Tensor:
        if not self.model.reads_images and (unreadable := [sample.id for sample in samples if sample.images]):
            raise DataError(
                f"the probe {self.model.name!r} is a text model, but sample {unreadable[0]!r} has images; "
                "name a vision-language model as the scenario's `probe`, the same for all clients"
            )
        batch = self.model.collate(samples)
        # The head is computed forwards and, for d, backwards; nothing else is computed backwards.
        head_tokens = 2 * int((batch.labels != IGNORED).sum())
        sequences, length = batch.input_ids.shape
        self.flops += forward_flops(self.model, BatchShape(sequences, length, head_tokens))
        gradients = answer_gradients(self.model, batch)
        return self.sketch(gradients.d.float(), gradients.h.float(), gradients.rows, len(samples)).cpu()
