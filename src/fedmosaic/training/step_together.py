"""One optimiser step of several clients in one forward and backward pass, each on its own batch and its own loss."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fedmosaic.adapters import Adapter, SlotWeights
from fedmosaic.adapters.cohort import CohortAdapter, NotTogetherError
from fedmosaic.adapters.dropout import Draws
from fedmosaic.adapters.forward_context import fixed_weights
from fedmosaic.models import AnswerLogits, BaseModel, Batch
from fedmosaic.models.base import IGNORED
from fedmosaic.training.losses import Penalty
from fedmosaic.training.optimiser import SlotOptimiser


class Trainee(Protocol):
    """What a step takes of a client; :class:`fedmosaic.training.Client` has it.

    Attributes:
        adapter: its own modules.
        base: its base model.
        optimiser: of its slots and gates.
    """

    adapter: Adapter
    base: BaseModel
    optimiser: SlotOptimiser

    @property
    def id(self) -> int:
        """The client's id in the scenario."""
        ...


@dataclass(frozen=True, eq=False)
class WantedStep:
    """A step that a client is about to take; see :meth:`Client.step <fedmosaic.training.Client.step>`.

    Attributes:
        client: whose.
        inputs: what it learns from, as its base model reads it.
        slots: that train.
        mix: how the slots enter the output.
        gate: whether the gate trains too.
        frozen: letters of tensors that stay as they are.
        penalty: added to the loss.
    """

    client: Trainee
    inputs: Batch
    slots: Sequence[str]
    mix: SlotWeights
    gate: bool
    frozen: Collection[str]
    penalty: Penalty | None

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for steps that can be taken together."""
        inputs, mix = self.inputs, fixed_weights(self.mix)
        if inputs.slot_weights is not None or self.client.adapter.recompute:
            return (self,)  # like no other
        vision = tuple(sorted((name, tensor.dtype) for name, tensor in inputs.vision.items()))
        known = mix if isinstance(mix, str) else tuple(sorted(mix.items()))
        return (
            self.client.base,
            tuple(self.slots),
            known,
            self.gate,
            frozenset(self.frozen),
            len(inputs.input_ids),
            str(vision),
        )

    @property
    def length(self) -> int:
        """Positions of its batch's sequences."""
        return self.inputs.input_ids.shape[1]

    def open(self) -> None:
        """Let what trains require gradients, and drop the gradients that there are."""
        self.client.adapter.train_only(*self.slots, gate=self.gate, frozen=self.frozen)
        self.client.optimiser.clear()


def step_together(wanted: Sequence[WantedStep], carrier: CohortAdapter, draws: Sequence[Draws]) -> list[float | None]:
    """Take the steps of C clients of one base model; return their losses, None for a step that is still to be taken.

    If it raises, no weight and no moment has changed, but what was drawn is drawn.

    Args:
        wanted: of one kind.
        carrier: made for their base model.
        draws: of each client.

    Raises:
        NotTogetherError: they must be taken one by one.
    """
    first = wanted[0]
    batches = [each.inputs for each in wanted]
    lengths = [each.input_ids.shape[1] for each in batches]
    members = [each.client.adapter for each in wanted]
    for each in wanted:
        each.open()
    batch = joined(batches, fill=getattr(first.client.base.tokenizer, "pad_token_id", None) or 0)
    base, instead = first.client.base, first.client.base.adapter
    assert isinstance(instead, Adapter)
    holding = carrier.holding(members, instead=instead, mix=first.mix, draws=draws, lengths=lengths)
    with holding, carried(base, carrier):
        losses = _mean_losses(base.answer_logits(batch), len(wanted), len(batches[0].input_ids))
        losses.sum().backward()  # type: ignore[no-untyped-call]
        carrier.hand_out()
    for each in wanted:
        if each.penalty is not None:
            each.penalty(each.client.adapter).backward()  # type: ignore[no-untyped-call]
    return _stepped(wanted, losses.tolist())


def _stepped(wanted: Sequence[WantedStep], losses: Sequence[float]) -> list[float | None]:
    """Let optimisers step one after the other; where one fails after others have stepped, it and the rest have not."""
    done: list[float | None] = []
    for each, loss in zip(wanted, losses, strict=True):
        try:
            each.client.optimiser.step_on_gradients()
        except Exception:  # its first step allocates the moments, say; alone, the client sees what it is
            if not done:
                raise
            break
        done.append(loss)
    return [*done, *[None] * (len(wanted) - len(done))]


@contextmanager
def carried(base: BaseModel, carrier: CohortAdapter) -> Iterator[None]:
    """Let a base model tell the carrier of its batches inside the block.

    Args:
        base: of the clients.
        carrier: of them all.
    """
    former, base.adapter = base.adapter, carrier
    try:
        yield
    finally:
        base.adapter = former


def _mean_losses(answers: AnswerLogits, clients: int, sequences: int) -> Tensor:
    """Return each client's mean cross-entropy over its answer tokens (C,); nats."""
    owners = answers.rows // sequences
    losses = F.cross_entropy(answers.logits.float(), answers.targets, reduction="none")
    sums = losses.new_zeros(clients).index_add(0, owners, losses)
    return sums / torch.bincount(owners, minlength=clients)


def joined(batches: Sequence[Batch], *, fill: int, left: bool = False) -> Batch:
    """Return batches of one model as one, padded to the longest.

    Args:
        batches: at least one.
        fill: the token at padding.
        left: whether padding goes before the sequences, not after them.

    Raises:
        NotTogetherError: what they hold beside tokens cannot be put together.
    """
    width = max(each.input_ids.shape[1] for each in batches)

    def wide(tensors: Sequence[Tensor], value: int) -> Tensor:
        gaps = [width - each.shape[1] for each in tensors]
        sides = [(gap, 0) if left else (0, gap) for gap in gaps]
        return torch.cat([F.pad(each, side, value=value) for each, side in zip(tensors, sides, strict=True)])

    vision = {}
    for name in batches[0].vision:
        parts = [each.vision[name] for each in batches]
        by_token = [part.shape == each.input_ids.shape for part, each in zip(parts, batches, strict=True)]
        if all(by_token) and not parts[0].is_floating_point():  # e.g. token types
            vision[name] = wide(parts, 0)
        elif len({part.shape[1:] for part in parts}) == 1 and not any(by_token):
            vision[name] = torch.cat(parts)
        else:
            raise NotTogetherError(
                f"the {name} of their batches have the shapes {[tuple(each.shape) for each in parts]}"
            )
    return Batch(
        wide([each.input_ids for each in batches], fill),
        wide([each.attention_mask for each in batches], 0),
        wide([each.labels for each in batches], IGNORED),
        vision,
    )
