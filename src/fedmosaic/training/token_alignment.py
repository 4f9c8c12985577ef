"""Translation of one model's predictions into another model's tokens, for distillation between tokenizers.

- **Tokens**: a token is matched to the token of the other vocabulary with the same text, the leading-space marks of
  both (``Ġ``, ``▁``) read as one: with the same mark if there is such a token, else with any. End tokens are matched
  to the end token. The probability of tokens that have no counterpart is dropped.
- **Positions**: both models predict the same thing where they have read the same characters of the answer (spaces
  aside); where several tokens have none of their own, the last of them counts. Positions without a counterpart get
  nothing. This is exact for causal models, unlike pairing tokens by the likeness of their spelling (FedMKT's MinED).

Models with equal vocabularies and equal answer tokens translate into themselves, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fedmosaic.alignment.positions import ends_by_spelling
from fedmosaic.models import BaseModel
from fedmosaic.models.base import IGNORED, output_matrix

if TYPE_CHECKING:
    from fedmosaic.training.client import LocalBatch

_MARKS = ("Ġ", "▁")
_NOT_TEXT = "\ufffd"  # what part of a character decodes to


class TokenText(NamedTuple):
    """The text of a token.

    Attributes:
        text: without a leading space.
        begins: whether the token begins a word.
    """

    text: str
    begins: bool


class TokenAligner:
    """Translates the predictions of one base model into the tokens and positions of another.

    Args:
        source: the model that predicts.
        target: the model into whose tokens they are translated.
    """

    def __init__(self, source: BaseModel, target: BaseModel) -> None:
        self._source, self._target = source.tokenizer, target.tokenizer
        self._same = self._source.get_vocab() == self._target.get_vocab()
        self._width = vocabulary_size(target)
        index = torch.full((vocabulary_size(source),), self._width)
        for here, there in self._counterparts(source).items():
            if here < len(index) and there < self._width:
                index[here] = there
        self._index = index.to(target.device)

    def __call__(self, probabilities: Tensor, source: LocalBatch, target: LocalBatch) -> Tensor:
        """Translate the predictions of one batch.

        Args:
            probabilities: (n, V) at the source model's answer tokens.
            source: the batch as the source model reads it.
            target: the same samples as the target model reads them.

        Returns:
            (m, V') at the target model's answer tokens. A row sums to the probability that has a counterpart: 1 if all
            has, 0 where the source model predicts nothing.
        """
        here, there = self._pairs(source, target)
        matched = probabilities.new_zeros(len(here), self._width + 1)
        matched.index_add_(1, self._index, probabilities[here])
        translated = probabilities.new_zeros(int((target.inputs.labels != IGNORED).sum()), self._width)
        translated[there] = matched[:, :-1]
        return translated

    def _counterparts(self, source: BaseModel) -> dict[int, int]:
        if self._same:
            return {token: token for token in range(max(self._width, vocabulary_size(source)))}
        ends: list[int] = source.end_tokens.tolist()
        return matching_tokens(self._source, self._target) | dict.fromkeys(ends, int(self._target.eos_token_id))

    def _pairs(self, source: LocalBatch, target: LocalBatch) -> tuple[list[int], list[int]]:
        """Return the answer tokens, counted through the batch, that mean the same in both."""
        here, there = [], []
        passed_here = passed_there = 0
        tokens = zip(answer_tokens(source), answer_tokens(target), source.samples, strict=True)
        for own, others, sample in tokens:
            for one, other in self._aligned(sample.answer, own, others):
                here.append(passed_here + one)
                there.append(passed_there + other)
            passed_here += len(own)
            passed_there += len(others)
        return here, there

    def _aligned(self, answer: str, own: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
        if self._same and own == others:
            return [(index, index) for index in range(len(own))]
        before = characters_before(self._source, answer, own)
        before_others = characters_before(self._target, answer, others)
        return [(index, before_others[read]) for read, index in before.items() if read in before_others]


def vocabulary_size(model: BaseModel) -> int:
    """Return the width of a model's logits, which can exceed its tokenizer's vocabulary.

    Args:
        model: the base model.
    """
    return output_matrix(model.module).out_features


def answer_tokens(batch: LocalBatch) -> list[list[int]]:
    """Return the answer tokens of each sample, end token included.

    Args:
        batch: the samples as one model reads them.
    """
    return [row[row != IGNORED].tolist() for row in batch.inputs.labels]


@lru_cache(maxsize=64)
def matching_tokens(source: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase) -> dict[int, int]:
    """Return the token of ``target`` for each token of ``source`` that has one; special tokens have none.

    Args:
        source: the tokenizer whose tokens are matched.
        target: the tokenizer in which a token of equal text is searched.
    """
    exact: dict[TokenText, int] = {}
    loose: dict[str, int] = {}
    for token, spelling in token_texts(target):
        exact.setdefault(spelling, token)
        loose.setdefault(spelling.text, token)
    found = ((token, exact.get(spelling, loose.get(spelling.text))) for token, spelling in token_texts(source))
    return {token: match for token, match in found if match is not None}


def token_texts(tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[int, TokenText]]:
    """Yield all tokens but special ones in ascending order; in a vocabulary without space marks all begin words.

    Args:
        tokenizer: whose vocabulary is listed.

    Yields:
        The token's id and text.
    """
    special = set(tokenizer.all_special_ids)
    by_token = sorted((token, spelling) for spelling, token in tokenizer.get_vocab().items() if token not in special)
    marked = any(spelling.startswith(_MARKS) for _, spelling in by_token)
    for token, spelling in by_token:
        text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
        text = spelling if _NOT_TEXT in text else text.removeprefix(" ")
        yield token, TokenText(text, not marked or spelling.startswith((*_MARKS, " ")))


def characters_before(tokenizer: PreTrainedTokenizerBase, answer: str, tokens: Sequence[int]) -> dict[int, int]:
    """Map the number of the answer's characters (spaces aside) that are read before a token to the token's position.

    Args:
        tokenizer: of the tokens.
        answer: the text.
        tokens: the answer's, the last being the end token. What follows a token whose text is not in the answer (an
            unknown word) is left out, but for the end token.

    Returns:
        Number of characters -> index of the token.
    """
    spelled = "".join(answer.split())
    pieces = ["".join(str(tokenizer.decode([token])).split()) for token in tokens[:-1]]
    before = {0: 0}
    read: int | None = 0
    for index, (piece, end) in enumerate(zip(pieces, ends_by_spelling(spelled, pieces), strict=True), start=1):
        read = (end or None) if piece else read
        if read is not None:
            before[read] = index
    return before | {len(spelled): len(tokens) - 1}
