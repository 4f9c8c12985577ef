"""Which positions of one sample, read by different models, mean the same.

- **Image tokens**: the j-th token of the i-th image; where models spend different numbers of tokens on an image, evenly
  spread ones of the longer lists stand for it.
- **Text**: tokens that end after the same characters. Their models are causal, so they have read the same, whatever
  their tokenizers; this is exact, unlike pairing tokens by the likeness of their spelling.
- **Answer**: the last position of the prompt, where the answer is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from fedmosaic.data.sample import IMAGE_MARK, Sample
from fedmosaic.models import BaseModel, Batch
from fedmosaic.models.base import IGNORED


@dataclass(slots=True)
class SamplePositions:
    """Where one model has the parts of one sample; all numbers are positions in its row of the batch.

    Attributes:
        images: the positions of each image's tokens.
        text: position of a token by the number of characters (without spaces and images) read up to and with it.
        answer: the position that predicts the answer.
    """

    images: list[list[int]] = field(default_factory=list)
    text: dict[int, int] = field(default_factory=dict)
    answer: int = 0


class MatchedPosition(NamedTuple):
    """Positions of the same meaning, one in each model.

    Attributes:
        kind: ``image``, ``text`` or ``answer``.
        columns: the position in each model, in the models' order.
    """

    kind: str
    columns: tuple[int, ...]


def find_positions(model: BaseModel, samples: Sequence[Sample], batch: Batch) -> list[SamplePositions]:
    """Find the image, text and answer positions of each sample in a batch.

    Args:
        model: gives the tokenizer and the image token.
        samples: the batch's samples.
        batch: made of them by ``model.collate``, with or without answers.

    Returns:
        One for each sample.
    """
    rows = batch.input_ids.tolist()
    ends = _prompt_ends(batch)
    image = _image_token(model)
    texts = _Texts(model.tokenizer)
    return [_of_row(row[:end], sample, image, texts) for row, sample, end in zip(rows, samples, ends, strict=True)]


def match_positions(views: Sequence[SamplePositions]) -> Iterator[MatchedPosition]:
    """Yield the positions at which all models have read the same part of a sample.

    Args:
        views: positions of the same sample in each model.

    Yields:
        Image positions first, then text, then the answer's.
    """
    for images in zip(*(view.images for view in views), strict=False):
        least = min(map(len, images))
        for columns in zip(*(_spread(tokens, least) for tokens in images), strict=True):
            yield MatchedPosition("image", columns)
    common = set.intersection(*(set(view.text) for view in views))
    for key in sorted(common):
        yield MatchedPosition("text", tuple(view.text[key] for view in views))
    yield MatchedPosition("answer", tuple(view.answer for view in views))


def _spread(tokens: Sequence[int], number: int) -> list[int]:
    """Return ``number`` evenly spread ones of the tokens; all of them if there are no more."""
    return [tokens[int((index + 0.5) * len(tokens) / number)] for index in range(number)]


def _prompt_ends(batch: Batch) -> list[int]:
    """Return the number of prompt tokens of each row."""
    inside = batch.labels != IGNORED
    first = inside.int().argmax(1)
    return [
        int(at) if bool(any_) else int(last) + 1
        for at, any_, last in zip(first, inside.any(1), batch.last, strict=True)
    ]


def _image_token(model: BaseModel) -> int | None:
    config = model.module.config
    for name in ("image_token_id", "image_token_index"):
        if isinstance(token := getattr(config, name, None), int):
            return token
    return None


def _of_row(row: list[int], sample: Sample, image: int | None, texts: _Texts) -> SamplePositions:
    at_image = [position for position, token in enumerate(row) if token == image]
    at_text = [position for position, token in enumerate(row[:-1]) if token != image]
    ids, characters = texts.tokens(sample.prompt)
    found = SequenceMatcher(None, [row[position] for position in at_text], ids, autojunk=False).get_matching_blocks()
    text = {}
    for here, there, length in found:  # what a chat template or an image's frame adds is passed over
        for step in range(length):
            if characters[there + step]:
                text[characters[there + step]] = at_text[here + step]
    return SamplePositions(_by_image(at_image, len(sample.images)), text, len(row) - 1)


def _by_image(positions: list[int], images: int) -> list[list[int]]:
    """Divide the image tokens of a row among its images: by runs, or evenly where images touch; else give up."""
    runs: list[list[int]] = []
    for position in positions:
        if runs and position == runs[-1][-1] + 1:
            runs[-1].append(position)
        else:
            runs.append([position])
    if len(runs) == images:
        return runs
    if images and len(positions) % images == 0:
        size = len(positions) // images
        return [positions[index * size : (index + 1) * size] for index in range(images)]
    return []


class _Texts:
    """Tokens of a prompt's text, each with the number of characters read up to and with it (0: has no own text)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def tokens(self, prompt: str) -> tuple[list[int], list[int]]:
        """Return token ids and characters read, of the text without its image marks."""
        ids: list[int] = []
        characters: list[int] = []
        before = 0
        for part in prompt.split(IMAGE_MARK):
            part_ids, ends = self._part(part)
            read = [len("".join(part[:end].split())) for end in ends]
            ids += part_ids
            characters += [before + count if count else 0 for count in read]
            before += len("".join(part.split()))
        return ids, characters

    def _part(self, text: str) -> tuple[list[int], list[int]]:
        """Return token ids of a text, and the offset at which each ends."""
        if not self._tokenizer.is_fast:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
            return ids, ends_by_spelling(text, [str(self._tokenizer.decode([token])) for token in ids])
        encoded: Mapping[str, list[int]] = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets: list[tuple[int, int]] = encoded["offset_mapping"]  # type: ignore[assignment]
        return list(encoded["input_ids"]), [end if text[start:end].strip() else 0 for start, end in offsets]


def ends_by_spelling(text: str, pieces: Sequence[str]) -> list[int]:
    """Return the offset in a text at which each decoded token ends, for tokenizers that do not tell.

    The joined pieces are aligned with the text by their longest common parts, case aside.

    Args:
        text: what was tokenised.
        pieces: the tokens, decoded one by one.

    Returns:
        An offset for each piece; 0 if its last letter is nowhere in the text (an unknown word).
    """
    joined = "".join(pieces).lower()
    offset_of = {}
    for here, there, length in SequenceMatcher(None, joined, text.lower(), autojunk=False).get_matching_blocks():
        offset_of.update({here + step: there + step + 1 for step in range(length)})
    ends, position = [], 0
    for piece in pieces:
        last = position + len(piece.rstrip()) - 1
        ends.append(offset_of.get(last, 0) if piece.strip() else 0)
        position += len(piece)
    return ends
