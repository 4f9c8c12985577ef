"""The part of a base model that reading on and generating need; :class:`fedmosaic.models.base.BaseModel` has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fedmosaic.data.sample import Sample
from fedmosaic.models.batch import Batch


class Answering(Protocol):
    """Prompts, and what was said after each of them."""

    @property
    def lengths(self) -> Tensor:
        """(B,) tokens of prompts and answers so far."""
        ...

    def scores(self) -> Tensor:
        """Return the logits (B, V) of each row's next token."""
        ...

    def say(self, tokens: Tensor, rows: Tensor) -> None:
        """Go on with one more token in some rows; the others' answers are complete.

        Args:
            tokens: (B,) long.
            rows: (B,) bool, true where the token counts.
        """
        ...


class Reader(Protocol):
    """See :class:`fedmosaic.models.base.BaseModel` for what all this is."""

    name: str
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    limit: int | None
    keeps_past: bool | None

    @property
    def end_tokens(self) -> Tensor:
        """The token ids that end an answer."""
        ...

    def answering(self, samples: Sequence[Sample], /) -> Answering:
        """Return what gives the scores of answers' next tokens.

        Args:
            samples: their answers are not used.
        """
        ...

    def hidden_states(self, batch: Batch, /) -> Tensor:
        """Return (B, T, d).

        Args:
            batch: token sequences.
        """
        ...

    def head(self, hidden: Tensor, /) -> Tensor:
        """Return logits (..., V).

        Args:
            hidden: (..., d).
        """
        ...
