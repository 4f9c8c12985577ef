"""What several clients of one base model read while they are scored, in one forward pass, each with its own adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedmosaic.adapters import Adapter
from fedmosaic.adapters.cohort import CohortAdapter, NotTogetherError
from fedmosaic.models import Batch
from fedmosaic.models.past import Past
from fedmosaic.training.step_together import Trainee, carried, joined


@dataclass(frozen=True, eq=False)
class WantedReading:
    """A batch that a client's base model is about to read, without gradients and without dropout.

    Attributes:
        client: whose adapter it is read with.
        inputs: the batch, with a past or without.
    """

    client: Trainee
    inputs: Batch

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for batches that can be read together."""
        inputs, mix = self.inputs, self.client.adapter.chosen
        if inputs.slot_weights is not None or mix is None or self.client.adapter.training:
            return (self,)  # like no other
        known = mix if isinstance(mix, str) else tuple(sorted(mix.items()))
        past = None if inputs.past is None else inputs.past.empty
        vision = sorted((name, tensor.dtype, tensor.numel() > 0) for name, tensor in inputs.vision.items())
        return (self.client.base, known, len(inputs.input_ids), past, str(vision))

    @property
    def length(self) -> int:
        """Positions of its sequences."""
        return self.inputs.input_ids.shape[1]


def read_together(wanted: Sequence[WantedReading], carrier: CohortAdapter) -> list[Tensor]:
    """Return the hidden states (B, T, d) of each of C clients' batches, and let their pasts take them up.

    If it raises, no past has changed.

    Args:
        wanted: of one kind.
        carrier: made for their base model.

    Raises:
        NotTogetherError: they must be read one by one.
    """
    client, batches = wanted[0].client, [each.inputs for each in wanted]
    base, instead = client.base, client.base.adapter
    assert isinstance(instead, Adapter)
    mix = client.adapter.chosen
    assert mix is not None
    pasts = [batch.past for batch in batches if batch.past is not None]
    past = Past.of_all(pasts) if pasts else None
    if pasts and past is None:
        raise NotTogetherError("what their models keep of prompts cannot be put together")
    prompts = any(each.empty for each in pasts)  # a past begins with prompts, which are padded on the left
    fill = getattr(base.tokenizer, "pad_token_id", None) or 0
    batch = replace(joined(batches, fill=fill, left=prompts), past=past)
    lengths = [each.length for each in wanted]
    members = [each.client.adapter for each in wanted]
    holding = carrier.holding(members, instead=instead, mix=mix, draws=(), lengths=lengths)
    with torch.inference_mode(), holding, carried(base, carrier):
        hidden = base.hidden_states(batch)
    counts = [len(each.input_ids) for each in batches]
    if past is not None:
        try:
            shares = past.shares(counts)
        except ValueError as error:
            raise NotTogetherError(str(error)) from None
        for own, share in zip(pasts, shares, strict=True):
            own.take(share)
    return [
        part[:, part.shape[1] - length :] if prompts else part[:, :length]
        for part, length in zip(torch.split(hidden, counts), lengths, strict=True)
    ]
