"""Several adapters of one base model in one pass: each client's branches on the rows of its own sequences."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.adapters.adapter import Adapter
from fedmosaic.adapters.batched import BatchedCall, Rows, batched_colora, batched_lora
from fedmosaic.adapters.dropout import Draws
from fedmosaic.adapters.forward_context import SlotWeights, fixed_weights
from fedmosaic.adapters.functional import slot_weights
from fedmosaic.adapters.layer import AdaptedLinear, CoLoraLinear, InPlaceOfLinear, plain_weights
from fedmosaic.adapters.tower import TowerLinear
from fedmosaic.errors import RunError
from fedmosaic.models.base import Batch
from fedmosaic.models.interface import Interface


class NotTogetherError(RunError):
    """Clients cannot be computed in one pass here; one by one they can."""


@dataclass(slots=True)
class _Pass:
    """What the linears of one pass share.

    Attributes:
        active: the slots in use.
        weights: their fixed weights; empty when ``gated``.
        gated: whether each linear's gate weighs them.
        draws: of each client, for dropout; empty: none.
        lengths: positions of each client's sequences without the padding that the others need.
        shape: (rows, T) of the batch.
        sequences: the rows of the decoder's linears.
        images: the rows that the projector reads.
    """

    active: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    gated: bool = False
    draws: Sequence[Draws] = ()
    lengths: Sequence[int] = ()
    shape: tuple[int, int] = (0, 0)
    sequences: Rows = field(default_factory=lambda: Rows((), None))
    images: Rows = field(default_factory=lambda: Rows((), None))


class CohortAdapter:
    """What a base model carries while the clients of a cohort are computed in it at once.

    Args:
        adapter: one of the model's; those of the clients were made :meth:`beside <Adapter.beside>` it.

    Attributes:
        shape: that of each client's adapter.
        attached: whether the decoder computes with it.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.shape = adapter.shape
        self.attached = False
        self._interface = adapter.interface
        self._pass = _Pass()
        self._places = [(adapted, _linear(adapted.linear, self._pass)) for adapted in adapter.linears()]
        self._clients = 0

    @contextmanager
    def holding(
        self,
        members: Sequence[Adapter],
        *,
        instead: Adapter,
        mix: SlotWeights,
        draws: Sequence[Draws],
        lengths: Sequence[int],
    ) -> Iterator[None]:
        """Be in the model inside the block, with the weights of some clients' adapters.

        What trains is what requires gradients in the first of them.

        Args:
            members: of C clients.
            instead: the adapter that is attached.
            mix: how the slots enter the output, of all.
            draws: of each client.
            lengths: positions of each client's sequences, at most those of the batch.

        Raises:
            NotTogetherError: the gate weighs slots by the input.
        """
        state, weights = self._pass, fixed_weights(mix)
        state.gated = weights == "gate"
        if isinstance(weights, str):
            state.active, state.weights = self.shape.gated or (), ()
        else:
            state.active = tuple(name for name in self.shape.slots if name in weights)
            state.weights = tuple(weights[name] for name in state.active)
        state.draws, state.lengths = draws if self.shape.dropout and members[0].training else (), lengths
        self._clients = len(members)
        linears = [[adapted.linear for adapted in member.linears()] for member in members]
        try:
            for (_, linear), *of_members in zip(self._places, *linears, strict=True):
                linear.gather(of_members)
            self.reattach()
            yield
        finally:
            self.attached = False
            for _, linear in self._places:
                linear.drop()
            for adapted in instead.linears():
                adapted.put(adapted.linear)

    @contextmanager
    def reading(self, batch: Batch) -> Iterator[None]:
        """Take from a batch which rows are whose. See :meth:`Adapter.reading`.

        Args:
            batch: as many sequences of each client, one client after the other.
        """
        state, clients = self._pass, self._clients
        rows, length = batch.input_ids.shape
        state.shape = rows, length
        state.sequences = Rows.of([rows // clients * length] * clients, batch.input_ids.device)
        if self.interface is not None:
            owners = self.interface.sequences(batch.input_ids) // (rows // clients)
            counts = torch.bincount(owners, minlength=clients).tolist()
            state.images = Rows.of(counts, batch.input_ids.device)
        yield

    def hand_out(self) -> None:
        """Give every client's parameters their gradients, after the backward pass; those that it missed get none."""
        for _, linear in self._places:
            linear.hand_out()

    @property
    def interface(self) -> Interface | None:
        """The vision-language interface that carries a tower adapter, if one does."""
        return self._interface

    def reattach(self) -> None:
        """Put the linears of all clients (back) into the model."""
        if not self.attached:
            for adapted, linear in self._places:
                adapted.put(linear)
            self.attached = True

    def detach(self) -> None:
        """Put the model's own linears in their places."""
        if self.attached:
            for adapted, linear in self._places:
                adapted.put(linear.base)
            self.attached = False


class _CohortLinear(InPlaceOfLinear):
    """One adapted linear of all clients.

    Args:
        origin: of one of the adapters.
        state: of the pass.
    """

    def __init__(self, origin: AdaptedLinear, state: _Pass) -> None:
        super().__init__(origin.base)
        self.origin = [origin]  # in a list, so that it is no submodule
        self.state = state
        self._stacked: dict[str, Tensor] = {}
        self._owners: dict[str, list[nn.Parameter]] = {}

    def gather(self, linears: Sequence[AdaptedLinear]) -> None:
        """Stack the clients' weights of the slots in use, and gates."""
        names = [f"{letter}_{slot}" for letter in linears[0].letters for slot in self.state.active]
        owners = {name: [_parameter(linear, name) for linear in linears] for name in names}
        if self.state.gated:
            gates = [linear.gate for linear in linears if linear.gate is not None]
            if gates and gates[0].by_input:
                raise NotTogetherError(f"a {gates[0].name} gate weighs the slots by the input of each linear")
            if gates:
                owners["gate"] = [_parameter(gate, gate.letter) for gate in gates]
        self._owners = owners
        for name, parameters in owners.items():
            stacked = torch.stack([each.detach() for each in parameters])
            self._stacked[name] = stacked.requires_grad_(parameters[0].requires_grad)

    def drop(self) -> None:
        """Forget the clients."""
        self._stacked, self._owners = {}, {}

    def hand_out(self) -> None:
        """Set the gradients of the clients' parameters."""
        counts = self._rows().counts
        for name, stacked in self._stacked.items():
            if stacked.grad is None:
                continue
            for parameter, gradient, count in zip(self._owners[name], stacked.grad.unbind(), counts, strict=True):
                parameter.grad = gradient if count else None
            stacked.grad = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the output, (..., out), of the inputs (..., in) of all clients."""
        state, origin = self.state, self.origin[0]
        if not state.active:
            return self.base(x, *args, **kwargs)  # type: ignore[no-any-return]
        layout = self._checked(x)
        rows = x.reshape(-1, x.shape[-1])
        weight, bias = plain_weights(self.base)
        out = None
        if weight is None:
            out = self.base(x, *args, **kwargs)
            out = out.reshape(-1, out.shape[-1])
        weights, factor = self._weights(rows)
        device = x.device.type
        call = BatchedCall(
            rows=rows,
            inputs=self._dropped(x).view_as(rows) if state.draws else None,
            out=out,
            weights=weights,
            weight=weight,
            bias=bias,
            scale=origin.scale * factor,
            dtype=torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else origin.dtype,
            layout=layout,
        )
        first, second = (
            [self._stacked[f"{letter}_{slot}"] for slot in state.active] for letter in self.origin[0].letters
        )
        result = self._compute(call, first, second)
        return result.view(*x.shape[:-1], result.shape[-1])

    def _weights(self, rows: Tensor) -> tuple[Tensor | None, float]:
        """Return the slots' weights, (C, S) or (1, S), and a factor on the whole sum."""
        state = self.state
        if state.gated and "gate" in self._stacked:
            return slot_weights(self._stacked["gate"], len(state.active)), 1.0
        if len(set(state.weights)) == 1:
            return None, state.weights[0]
        if not state.weights:
            return None, 1.0
        return torch.tensor([state.weights], dtype=self.origin[0].dtype, device=rows.device), 1.0

    @abstractmethod
    def _rows(self) -> Rows:
        """Whose rows this linear reads."""

    @abstractmethod
    def _checked(self, x: Tensor) -> Rows:
        """The same, once it is known that the input has these rows."""

    @abstractmethod
    def _dropped(self, x: Tensor) -> Tensor:
        """The input after each client's dropout."""

    @abstractmethod
    def _compute(self, call: BatchedCall, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Base plus branches, given each slot's tensors of the origin's two letters."""


class _OfSequences(_CohortLinear):
    """A linear of the decoder, which reads all positions of all sequences."""

    def _rows(self) -> Rows:
        return self.state.sequences

    def _checked(self, x: Tensor) -> Rows:
        if x.dim() != 3 or tuple(x.shape[:2]) != self.state.shape:
            raise NotTogetherError(
                f"a linear of the decoder reads {tuple(x.shape)}, not the {self.state.shape} positions of the batch"
            )
        return self.state.sequences

    def _dropped(self, x: Tensor) -> Tensor:
        state = self.state
        clients = len(state.draws)
        by_client = x.new_zeros(clients, x.shape[0] // clients, *x.shape[1:])
        for own, draws, length in zip(by_client, state.draws, state.lengths, strict=True):
            part = own[:, :length]
            part.copy_(draws.factors(part.shape, self.origin[0].dropout, x))
        return x * by_client.view_as(x)

    def _compute(self, call: BatchedCall, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        return batched_lora(call, first, second)


class _CoLoraOfSequences(_OfSequences):
    def _compute(self, call: BatchedCall, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        return _colora(self.origin[0], call, first, second)


class _OfImages(_CohortLinear):
    """The projector's first linear, which reads each image's rows."""

    def _rows(self) -> Rows:
        return self.state.images

    def _checked(self, x: Tensor) -> Rows:
        rows, known = x.numel() // x.shape[-1], sum(self.state.images.counts)
        if rows != known:
            raise NotTogetherError(f"the projector reads {rows} rows, but the batch has {known} image tokens")
        return self.state.images

    def _dropped(self, x: Tensor) -> Tensor:
        state, probability = self.state, self.origin[0].dropout
        parts = [
            draws.factors((count, x.shape[-1]), probability, x)
            for draws, count in zip(state.draws, state.images.counts, strict=True)
            if count
        ]
        return x * torch.cat(parts).view_as(x)

    def _compute(self, call: BatchedCall, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        return _colora(self.origin[0], call, first, second)


def _colora(origin: AdaptedLinear, call: BatchedCall, ps: Sequence[Tensor], qs: Sequence[Tensor]) -> Tensor:
    assert isinstance(origin, CoLoraLinear)
    return batched_colora(call, origin.A, origin.B, ps, qs)


_KINDS: Mapping[type[AdaptedLinear], type[_CohortLinear]] = {
    TowerLinear: _OfImages,
    CoLoraLinear: _CoLoraOfSequences,
}


def _linear(origin: AdaptedLinear, state: _Pass) -> _CohortLinear:
    return _KINDS.get(type(origin), _OfSequences)(origin, state)


def _parameter(module: nn.Module, name: str) -> nn.Parameter:
    parameter = module._parameters[name]
    assert parameter is not None
    return parameter
