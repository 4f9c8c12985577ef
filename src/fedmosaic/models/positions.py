"""The longest sequence that a model can read, and the check that samples fit.

Learned positions beyond the last raise an index error; rotary ones do not, but the model was never trained on them.
Nothing is cut off or ignored: a sample that does not fit is refused by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from transformers import PreTrainedConfig

from fedmosaic.errors import ModelError

_NAMES = ("max_position_embeddings", "max_seq_len")  # transformers gives GPT-2's n_positions the first name; MPT's


def position_limit(config: PreTrainedConfig) -> int | None:
    """Return the largest number of tokens that a model's decoder reads, or None where nothing bounds it (e.g. ALiBi).

    Rotary positions that the configuration stretches (YaRN) reach as far as it says.

    Args:
        config: the model's configuration.
    """
    text = config.get_text_config()
    limits = [limit for name in _NAMES if isinstance(limit := getattr(text, name, None), int) and limit > 0]
    if not limits:
        return None
    rope: Any = getattr(text, "rope_parameters", None) or {}
    kinds = [rope, *(each for each in rope.values() if isinstance(each, dict))]  # Gemma 3: one table per kind of layer
    for kind in kinds:
        original, factor = kind.get("original_max_position_embeddings"), kind.get("factor")
        if original and factor:
            limits.append(int(original * factor))
    return max(limits)


def check_lengths(model: str, limit: int | None, ids: Sequence[str], lengths: Collection[int]) -> None:
    """Make sure that sequences fit into a model.

    Args:
        model: how the user calls it.
        limit: from :func:`position_limit`.
        ids: the samples' ids.
        lengths: tokens of each, images, answer and special tokens included.

    Raises:
        ModelError: one is too long; names it.
    """
    if limit is None:
        return
    long = [(name, length) for name, length in zip(ids, lengths, strict=True) if length > limit]
    if long:
        others = f" ({len(long) - 1} more are too long)" if len(long) > 1 else ""
        raise ModelError(
            f"sample {long[0][0]!r} is {long[0][1]} tokens long for base model {model!r}, which reads at most {limit} "
            f"(prompt, images and answer together){others}; shorten or leave out such records, or use a model with "
            "more positions"
        )
