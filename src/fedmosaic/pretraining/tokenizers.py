"""Fitting the three kinds of tokenizers of the embedded models; in each, every answer word is a single token."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fedmosaic.errors import ModelError
from fedmosaic.models.special_tokens import BOS, EOS, IMAGE, PAD, SPECIAL, UNKNOWN, TokenizerKind


def fit_tokenizer(
    kind: TokenizerKind, corpus: Sequence[str], *, vocabulary: int, whole_words: Iterable[str]
) -> PreTrainedTokenizerFast:
    """Fit a lower-casing tokenizer that splits at spaces and punctuation, and return it.

    Args:
        kind: ``word`` (one token per word), ``bpe`` (byte level) or ``unigram``.
        corpus: the texts.
        vocabulary: tokens to aim at; whole words come on top of it for ``bpe`` and ``unigram``.
        whole_words: words that must be one token each.

    Raises:
        ModelError: a whole word still takes several tokens, e.g. because it contains a space or punctuation.
    """
    words = sorted(set(whole_words))
    backend = {"word": _fit_words, "bpe": _fit_bpe, "unigram": _fit_unigram}[kind](corpus, vocabulary, words)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[IMAGE],
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
    broken = [word for word in words if not is_one_token(tokenizer, word)]
    if broken:
        raise ModelError(
            f"not single tokens of the {kind} tokenizer: {broken}; an answer word has no space or punctuation"
        )
    return tokenizer


def is_one_token(tokenizer: PreTrainedTokenizerFast, word: str) -> bool:
    """Return whether a word is one known token.

    Args:
        tokenizer: a fitted tokenizer.
        word: any text.
    """
    tokens = tokenizer.encode(word, add_special_tokens=False)
    return len(tokens) == 1 and tokens[0] != tokenizer.unk_token_id


def _fit_words(corpus: Sequence[str], vocabulary: int, words: list[str]) -> Tokenizer:
    tokenizer = _empty(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator([*words, *corpus], trainer)
    return tokenizer


def _fit_bpe(corpus: Sequence[str], vocabulary: int, words: list[str]) -> Tokenizer:
    tokenizer = _empty(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    for word in words:
        tokenizer = _merge_whole(tokenizer, word)
    return tokenizer


def _merge_whole(tokenizer: Tokenizer, word: str) -> Tokenizer:
    """Append the merges that join the pieces of a word; being last, they change no word that is whole already."""
    pieces = tokenizer.encode(word).tokens
    if len(pieces) == 1:
        return tokenizer
    state = json.loads(tokenizer.to_str())
    joined = pieces[0]
    for piece in pieces[1:]:
        state["model"]["merges"].append([joined, piece])
        joined += piece
        state["model"]["vocab"].setdefault(joined, len(state["model"]["vocab"]))
    return Tokenizer.from_str(json.dumps(state))


def _fit_unigram(corpus: Sequence[str], vocabulary: int, words: list[str]) -> Tokenizer:
    tokenizer = _empty(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        unk_token=UNKNOWN,
        initial_alphabet=list(string.ascii_lowercase + string.digits + string.punctuation),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    state = json.loads(tokenizer.to_str())
    pieces: dict[str, float] = dict(state["model"]["vocab"])
    # A score of 0 (probability 1) beats every split into several pieces, whose scores are all negative.
    pieces |= dict.fromkeys((f"▁{word}" for word in words), 0.0)
    state["model"]["vocab"] = [list(piece) for piece in pieces.items()]
    return Tokenizer.from_str(json.dumps(state))


def _empty(model: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer
