"""A frozen linear with adapter slots: conventional LoRA or Co-LoRA.

    LoRA      h = W x + (alpha / r) * sum_s g_s B_s A_s x              A_s, B_s trainable; B_s = 0 at the start
    Co-LoRA   h = W x + (alpha / r) * B ((sum_s g_s P_s) A x + sum_s g_s Q_s)
                                                                       P_s, Q_s trainable and 0 at the start;
                                                                       A (r, in), B (out, r) frozen, shared by all slots

with g_s the weight of slot s. P (r, r) and Q (r,) have the same shape in every architecture, so they can be averaged
between models of any size; that means something once A and B are aligned (FedMosaic, Co-LoRA).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from fedmosaic.adapters.dropout import dropout
from fedmosaic.adapters.forward_context import ForwardContext
from fedmosaic.adapters.functional import Call, colora, lora, slot_weights
from fedmosaic.adapters.gate import Gate
from fedmosaic.errors import ModelError

Module = TypeVar("Module", bound=nn.Module)


class Folded(NamedTuple):
    """The slots in use as one branch: ``base(x) + scale * (up @ (down @ x) + offset)``, in float64.

    Attributes:
        down: (R, in).
        up: (out, R).
        offset: (out,), or None where there is none.
        scale: alpha / r.
    """

    down: Tensor
    up: Tensor
    offset: Tensor | None
    scale: float

    @property
    def change(self) -> Tensor:
        """What it adds to the weight, (out, in)."""
        return self.scale * (self.up @ self.down)


class InPlaceOfLinear(nn.Module):
    """Stands where a model has a linear, and shows what models read of it.

    Args:
        base: the linear; anything that maps (..., in) to (..., out), so also a quantised one.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    @property
    def weight(self) -> Any:
        """The base linear's weight: some models read its dtype."""
        return self.base.weight

    @property
    def bias(self) -> Any:
        """The base linear's bias."""
        return self.base.bias


class AdaptedLinear(InPlaceOfLinear, ABC):
    """What both kinds share: the base linear, the mix of slots, dropout, dtypes.

    Args:
        base: the frozen linear; anything that maps (..., in) to (..., out), so also a quantised one.
        down: initial A, (r, in).
        up: initial B, (out, r).
        slots: names of the slots.
        scale: alpha / r.
        dropout: probability on the adapter's input, while ``training``.
        context: which slots enter; shared by all linears of an adapter.
        gate: weighs the two slots in use while ``context.gated``.
    """

    kind: str
    letters: tuple[str, str]

    def __init__(
        self,
        base: nn.Module,
        down: Tensor,
        up: Tensor,
        *,
        slots: Sequence[str],
        scale: float,
        dropout: float,
        context: ForwardContext,
        gate: Gate | None,
    ) -> None:
        super().__init__(base)
        self.scale = scale
        self.dropout = dropout
        self.context = context
        self.gate = gate
        self._sizes = (down.shape[1], up.shape[0], down.shape[0])  # in, out, r
        self._make(down, up, slots)

    def multiply_adds(self) -> tuple[int, int]:
        """Return the multiply-adds per token of the forward pass, and of the gradients of trained weights."""
        rank, wide = self._sizes[2], self._sizes[0] + self._sizes[1]
        base = self._sizes[0] * self._sizes[1]
        return base + self._branch_cost(rank, wide), self._trained_cost(rank, wide)

    def slot(self, name: str) -> dict[str, nn.Parameter]:
        """Return a slot's parameters.

        Args:
            name: of the slot.

        Returns:
            By letter: A (r, in) and B (out, r), or P (r, r) and Q (r,).
        """
        return {letter: getattr(self, f"{letter}_{name}") for letter in self.letters}

    def trainable(self, name: str) -> dict[str, nn.Parameter]:
        """Return those of a slot's parameters that can be trained, by letter.

        Args:
            name: of the slot.
        """
        return self.slot(name)

    def beside(self, context: ForwardContext) -> Self:
        """Return a linear with slots and gate of its own, equal to these, on the same base and bases.

        Args:
            context: of the adapter that it is part of.
        """
        other = with_own_parameters(self)
        other.context = context
        if self.gate is not None:
            other.gate = with_own_parameters(self.gate)
            other.gate.context = context
        return other

    @torch.no_grad()
    def folded(self) -> Folded:
        """Return what the slots in use add, as one branch.

        Raises:
            ModelError: no slot is in use, or the gate in use weighs the slots by the input.
        """
        if not self.context.active:
            raise ModelError("no slot is in use, so there is nothing to fold; choose some with Adapter.mix first")
        if self.context.gated and self.gate is not None:
            weights = slot_weights(self.gate.constant().double(), len(self.context.active))
        else:
            weights = self.context.tensor(1, self._active(self.letters[0])[0].device, torch.float64)
        return self._fold(weights)

    @abstractmethod
    def _fold(self, weights: Tensor) -> Folded:
        """Return the slots in use, weighted by (slots,) float64, as one branch."""

    @abstractmethod
    def unfolded(self, branch: Folded, initial: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a slot that computes a branch, or the nearest to it that it can hold; the inverse of :meth:`folded`.

        Args:
            branch: of this linear's widths.
            initial: the slot's tensors by letter before any training.

        Returns:
            The slot's tensors by letter.

        Raises:
            ModelError: this kind of layer cannot hold the branch.
        """

    @abstractmethod
    def _make(self, down: Tensor, up: Tensor, slots: Sequence[str]) -> None:
        """Register each slot's parameters."""

    @abstractmethod
    def _compute(self, call: Call) -> Tensor:
        """Return base plus branches, (N, out)."""

    @abstractmethod
    def _branch_cost(self, rank: int, wide: int) -> int:
        """Return the multiply-adds per token of the branches in use; ``wide`` is in + out."""

    @abstractmethod
    def _trained_cost(self, rank: int, wide: int) -> int:
        """Return those of the gradients of their trained weights."""

    def _trained(self, letter: str) -> int:
        """Return how many slots in use have this weight trained."""
        return sum(tensor.requires_grad for tensor in self._active(letter))

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Dtype of the adapter's weights."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the output with the slots in use; without any it is exactly the base linear's.

        Args:
            x: (..., in).
            args: passed on to the base linear.
            kwargs: passed on to the base linear.

        Returns:
            (..., out).
        """
        context = self.context
        if not context.active:
            return self.base(x, *args, **kwargs)  # type: ignore[no-any-return]
        rows = x.reshape(-1, x.shape[-1])
        weight, bias = plain_weights(self.base)
        out = None
        if weight is None:
            out = self.base(x, *args, **kwargs)
            out = out.reshape(-1, out.shape[-1])
        device = x.device.type
        call = Call(
            rows=rows,
            inputs=dropout(rows, self.dropout) if self.training and self.dropout else None,
            out=out,
            logit=self.gate(rows) if context.gated and self.gate is not None else None,
            weight=weight,
            bias=bias,
            gates=None if context.uniform else self._weights(rows.shape[0], x.device),
            scale=self.scale * context.factor,
            dtype=torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.dtype,
        )
        result = self._compute(call)
        return result.view(*x.shape[:-1], result.shape[-1])

    def _weights(self, rows: int, device: torch.device) -> Tensor:
        """Return the fixed weights of the slots, (slots,) or (rows, slots)."""
        return self.context.tensor(rows, device, self.dtype)

    def _register(self, slot: str, **tensors: Tensor) -> None:
        for letter, tensor in tensors.items():
            self.register_parameter(f"{letter}_{slot}", nn.Parameter(tensor))

    def _active(self, letter: str) -> list[Tensor]:
        own = self._parameters  # not getattr: this is the hot path
        return [cast(Tensor, own[f"{letter}_{name}"]) for name in self.context.active]


class LoraLinear(AdaptedLinear):
    """Conventional LoRA: every slot has its own A and B, which start as the same ``down`` and ``up``."""

    kind = "lora"
    letters = ("A", "B")

    def _make(self, down: Tensor, up: Tensor, slots: Sequence[str]) -> None:
        for name in slots:
            self._register(name, A=down.clone(), B=up.clone())

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of A and B."""
        return self._active("A")[0].dtype

    def _compute(self, call: Call) -> Tensor:
        return lora(call, self._active("A"), self._active("B"))

    def _fold(self, weights: Tensor) -> Folded:
        """Exact by concatenation: the rank is the sum of the slots'."""
        ups = [up.double() * weight for up, weight in zip(self._active("B"), weights, strict=True)]
        return Folded(torch.cat(self._active("A")).double(), torch.cat(ups, 1), None, self.scale)

    def unfolded(self, branch: Folded, initial: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the slot exactly; ranks that the branch leaves free keep their initial A and have B = 0.

        See :meth:`AdaptedLinear.unfolded`.
        """
        rank, most = branch.down.shape[0], self._sizes[2]
        if rank > most:
            raise ModelError(f"its rank is {rank}, but adapter.rank is {most}; set adapter.rank={rank} or more")
        if branch.offset is not None and branch.offset.any():
            raise ModelError("it has a bias (lora_bias), which only a Co-LoRA layer can hold, and this is none")
        down, up = initial["A"].clone(), torch.zeros_like(initial["B"])
        down[:rank] = branch.down.to(down)
        up[:, :rank] = (branch.up * (branch.scale / self.scale)).to(up)
        return {"A": down, "B": up}

    def _branch_cost(self, rank: int, wide: int) -> int:
        return len(self.context.active) * rank * wide

    def _trained_cost(self, rank: int, wide: int) -> int:
        return rank * (self._trained("A") * self._sizes[0] + self._trained("B") * self._sizes[1])


class CoLoraLinear(AdaptedLinear):
    """Co-LoRA: all slots share the frozen A and B; P and Q are mixed before the multiplication."""

    kind = "colora"
    letters = ("P", "Q")
    A: Tensor
    B: Tensor

    def _make(self, down: Tensor, up: Tensor, slots: Sequence[str]) -> None:
        rank = down.shape[0]
        self.register_buffer("A", down.clone())
        self.register_buffer("B", up.clone())
        for name in slots:
            self._register(name, P=down.new_zeros(rank, rank), Q=down.new_zeros(rank))

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of A, B, P and Q."""
        return self.A.dtype

    def _compute(self, call: Call) -> Tensor:
        return colora(call, self.A, self.B, self._active("P"), self._active("Q"))

    def _fold(self, weights: Tensor) -> Folded:
        """The rank stays: P and Q are mixed, then multiplied into B."""
        ps, qs = (torch.stack(self._active(letter)).double() for letter in self.letters)
        up = self.B.double()
        return Folded(self.A.double(), up @ torch.tensordot(weights, ps, 1), up @ (weights @ qs), self.scale)

    def unfolded(self, branch: Folded, initial: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the least-squares projection on the frozen bases; ``B^T up down A^T`` where they are orthonormal.

        See :meth:`AdaptedLinear.unfolded`.
        """
        to_up, to_down = (torch.linalg.pinv(basis.double()).cpu() for basis in (self.B, self.A))
        to_up *= branch.scale / self.scale
        p = (to_up @ branch.up) @ (branch.down @ to_down)
        q = torch.zeros(p.shape[0]) if branch.offset is None else to_up @ branch.offset
        return {"P": p.to(initial["P"]), "Q": q.to(initial["Q"])}

    def _branch_cost(self, rank: int, wide: int) -> int:
        return (
            rank * wide + rank * rank if self.context.active else 0
        )  # P is mixed first, so the slots share one product

    def _trained_cost(self, rank: int, wide: int) -> int:
        return rank * rank if self._trained("P") else 0


def with_own_parameters(module: Module) -> Module:
    """Return a module with copies of its own parameters; buffers and submodules are shared.

    Args:
        module: any.
    """
    other = copy.copy(module)
    other._parameters = {
        name: None if each is None else nn.Parameter(each.detach().clone(), requires_grad=each.requires_grad)
        for name, each in module._parameters.items()
    }
    other._modules = dict(module._modules)
    return other


_PLAIN = (nn.Parameter, Tensor)  # subclasses (torchao's quantised weights) know F.linear, but not every product


def plain_weights(base: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Return weight and bias of a frozen ``nn.Linear`` without hooks, which can be computed together with the branches.

    Args:
        base: any module.

    Returns:
        Weight (out, in) and bias (out,) or None; None and None for any other module.
    """
    if type(base) is not nn.Linear or base._forward_hooks or base._forward_pre_hooks:
        return None, None
    weight, bias = base._parameters["weight"], base._parameters["bias"]
    if weight is None or type(weight) not in _PLAIN:
        return None, None
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        return None, None
    return weight, bias
