"""Gates: how much of each of two slots enters the output of one linear (FedMosaic, dual adapter).

All give ``1 - g`` to the first slot and ``g`` to the second, and start at ``g = 0.5``:

- ``scalar``: ``g = sigmoid(beta)``, one learnable number per linear (the paper's description; the default).
- ``token``: ``g_t = sigmoid(w . x_t)``, from each token's own input.
- ``sample``: ``g = sigmoid(mean of w . x_t)`` over the prompt of each sample. The authors' release takes the mean over
  answers and padding too, adds noise, and in decoding gates each new token by itself; here training, scoring and
  decoding see the same value.

A ``step`` weighs a single slot by one learnable number per linear, which starts at 1 (NeFL's step sizes).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedmosaic.adapters.forward_context import ForwardContext, Prompt
from fedmosaic.errors import ModelError, SettingsError
from fedmosaic.registry import GATES


class Gate(nn.Module, ABC):
    """Base of the gates: they give ``log(g / (1 - g))``, and the hot path makes the two weights of it.

    Attributes:
        name: as in ``adapter.gate``.
        letter: of the learnable part, in the names of tensors.
        by_input: whether the weights differ between inputs.
        weighs: the number of slots: a pair, or one.

    Args:
        shape: of the learnable part.
        context: the adapter's, which knows the prompt.
        device: of the learnable part.
        dtype: of the learnable part.
    """

    name: ClassVar[str]
    letter: str
    by_input: ClassVar[bool] = True
    weighs: ClassVar[int] = 2

    def __init__(
        self, shape: tuple[int, ...], context: ForwardContext, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.context = context
        self.register_parameter(self.letter, nn.Parameter(torch.zeros(shape, device=device, dtype=dtype)))

    @classmethod
    def shape(cls, in_features: int) -> tuple[int, ...]:
        """Return the shape of the learnable part of a linear's gate: a direction in input space, or one number.

        Args:
            in_features: of the linear.
        """
        return (in_features,) if cls.by_input else ()

    @abstractmethod
    def forward(self, rows: Tensor) -> Tensor:
        """Return the logit of g.

        Args:
            rows: (N, in_features), the linear's inputs.

        Returns:
            () or (N,).
        """

    def constant(self) -> Tensor:
        """Return the logit of g that all inputs share, ().

        Raises:
            ModelError: it depends on the input.
        """
        raise ModelError(
            f"a {self.name} gate weighs the slots anew for every input, so they cannot be folded into one update; "
            "only fixed weights and gate='scalar' can (run with --set adapter.gate=scalar)"
        )


class ScalarGate(Gate):
    """One learnable number ``beta`` for all inputs of a linear."""

    name = "scalar"
    letter = "beta"
    by_input = False
    beta: nn.Parameter

    def forward(self, rows: Tensor) -> Tensor:
        """Return beta, (). See :meth:`Gate.forward`."""
        return self.beta

    def constant(self) -> Tensor:
        """Return beta, ()."""
        return self.beta


class StepSize(Gate):
    """One learnable number ``s``, the weight of the only slot.

    See :class:`Gate` for the arguments.
    """

    name = "step"
    letter = "s"
    by_input = False
    weighs = 1
    s: nn.Parameter

    def __init__(
        self, shape: tuple[int, ...], context: ForwardContext, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(shape, context, device, dtype)
        nn.init.ones_(self.s)

    def forward(self, rows: Tensor) -> Tensor:
        """Return s, (). See :meth:`Gate.forward`."""
        return self.s

    def constant(self) -> Tensor:
        """Return s, ()."""
        return self.s


class TokenGate(Gate):
    """A direction ``w`` in input space; each token is gated by its own input."""

    name = "token"
    letter = "w"
    w: nn.Parameter

    def forward(self, rows: Tensor) -> Tensor:
        """Return ``x_t . w``, (N,). See :meth:`Gate.forward`."""
        return rows.to(self.w.dtype) @ self.w


class SampleGate(TokenGate):
    """As :class:`TokenGate`, averaged over the prompt of each sample."""

    name = "sample"

    def forward(self, rows: Tensor) -> Tensor:
        """Return one value per sample, repeated over its tokens.

        Args:
            rows: (N, in_features), the linear's inputs; N is a multiple of the number of samples.

        Returns:
            (N,).

        Raises:
            SettingsError: no prompt is set, or the rows fit neither the prompt's mask nor a later decoding step.
        """
        prompt = self.context.prompt
        if prompt is None:
            raise SettingsError("gate='sample' needs to know the prompt: compute inside `with adapter.prompt(mask):`")
        known = prompt.values.get(id(self))
        if known is not None and not torch.is_grad_enabled() and rows.shape[0] % known.shape[0] == 0:
            value = known
        elif rows.shape[0] == prompt.mask.numel():
            value = self._mean(super().forward(rows), prompt)
            prompt.values[id(self)] = value.detach()
        else:
            raise SettingsError(
                f"gate='sample': {rows.shape[0]} input rows do not fit the prompt's mask {tuple(prompt.mask.shape)}; "
                "the first computation inside `with adapter.prompt(mask):` must cover all its positions"
            )
        return value.repeat_interleave(rows.shape[0] // value.shape[0])

    @staticmethod
    def _mean(tokens: Tensor, prompt: Prompt) -> Tensor:
        mask = prompt.mask.to(tokens)
        return (tokens.view_as(mask) * mask).sum(1) / mask.sum(1).clamp(min=1)


def make_gate(
    kind: str, in_features: int, context: ForwardContext, device: torch.device, dtype: torch.dtype
) -> Gate | None:
    """Return the gate of one linear, or None for ``kind="none"``.

    Args:
        kind: ``none`` or a registered gate.
        in_features: of the linear.
        context: the adapter's.
        device: of the learnable part.
        dtype: of the learnable part.
    """
    if kind == "none":
        return None
    gate: type[Gate] = GATES.load(kind)
    return gate(gate.shape(in_features), context, device, dtype)


def gated_pair(kind: str, gated: tuple[str, str] | None, slots: Sequence[str]) -> tuple[str, ...] | None:
    """Return the slots that a gate weighs.

    Args:
        kind: ``none`` or a registered gate.
        gated: the two slots that get 1 - g and g; None: the only two.
        slots: names of all slots.

    Returns:
        Two names, one for ``step``, or None without a gate.

    Raises:
        SettingsError: the kind is unknown, there are not as many slots as it weighs and no pair is named, or the pair
            is wrong.
    """
    if kind == "none":
        return None
    if GATES.load(kind).weighs == 1:
        if len(slots) != 1:
            raise SettingsError(f"gate={kind!r} weighs a single slot but the adapter has {', '.join(slots)}")
        return tuple(slots)
    if gated is None and len(slots) != 2:
        raise SettingsError(
            f"gate={kind!r} mixes two slots but the adapter has {', '.join(slots)}; name the pair with `gated`, "
            "or choose gate='none'"
        )
    first, second = gated or slots
    if first == second or not {first, second} <= set(slots):
        raise SettingsError(f"gated={gated}: expected two different slots of {', '.join(slots)}")
    return first, second
