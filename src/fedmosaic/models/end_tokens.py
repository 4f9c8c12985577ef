"""Special tokens that every tokenizer needs here: one that ends an answer, and one that pads shorter rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fedmosaic.errors import ModelError


def complete_end_tokens(tokenizer: PreTrainedTokenizerBase, module: PreTrainedModel) -> None:
    """Give a tokenizer the end token and the padding that it lacks.

    A missing end token is taken from the model's generation settings or configuration where they name one of the
    tokenizer's special tokens; elsewhere the tokenizer is refused, as answers would have no end. Padding is never read
    (masks and labels are made from the rows' lengths), so the end token serves as padding without loss.

    Args:
        tokenizer: is completed in place.
        module: its model.

    Raises:
        ModelError: there is no end token, or the model has no embedding for it.
    """
    rows = known_tokens(module)
    if not _known(tokenizer, tokenizer.eos_token):
        found = next((mark for mark in _stated(module) if _special(tokenizer, mark)), None)
        if found is None:
            raise ModelError(
                "the tokenizer has no end token (eos_token), and neither generation_config.json nor config.json names "
                "a special token of it, so its answers would have no end; set eos_token in tokenizer_config.json"
            )
        tokenizer.eos_token = str(tokenizer.convert_ids_to_tokens(found))
    if int(tokenizer.eos_token_id) >= rows:
        raise ModelError(
            f"the tokenizer's end token {tokenizer.eos_token!r} is token {tokenizer.eos_token_id}, but the model has "
            f"only {rows} embeddings; tokenizer and weights must be those of one checkpoint"
        )
    if not _known(tokenizer, tokenizer.pad_token) or int(tokenizer.pad_token_id) >= rows:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"


def known_tokens(module: PreTrainedModel) -> int:
    """Return the number of tokens that a model has an embedding for.

    Args:
        module: the model.
    """
    embeddings: Any = module.get_input_embeddings()
    return int(embeddings.weight.shape[0])


def _known(tokenizer: PreTrainedTokenizerBase, token: Any) -> bool:
    """Return whether a token is set and in the vocabulary: one that is not may have the unknown token's id."""
    return token is not None and tokenizer.convert_ids_to_tokens(tokenizer.convert_tokens_to_ids(token)) == token


def _stated(module: PreTrainedModel) -> Iterator[int]:
    """Yield the end-of-sequence tokens in the model's own settings."""
    for settings in (module.generation_config, module.config, module.config.get_text_config()):
        found = getattr(settings, "eos_token_id", None)
        yield from found if isinstance(found, list) else [] if found is None else [found]


def _special(tokenizer: PreTrainedTokenizerBase, mark: int) -> bool:
    added = tokenizer.added_tokens_decoder.get(mark)
    return added is not None and bool(added.special)
