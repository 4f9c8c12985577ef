"""Turning dialogues into the text that a pretrained model expects: chat template, image marks, end of turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from fedmosaic.data.sample import IMAGE_MARK
from fedmosaic.errors import ModelError
from fedmosaic.models.base import IGNORED

Turns = Sequence[tuple[str, str]]

_CONTEXT = 16  # characters of the prompt that an answer is tokenised with


class Wording:
    """The words around user texts and answers of one model.

    Attributes:
        adds_special_tokens: whether the tokenizer must add its own start mark, as no chat template has written it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, processor: Any | None) -> None:
        self._tokenizer = tokenizer
        self._processor = processor
        self._template_owner: Any = next((x for x in (processor, tokenizer) if getattr(x, "chat_template", None)), None)
        self.adds_special_tokens = self._template_owner is None

    def pieces(self, turns: Turns) -> list[str]:
        """Return the text before each answer; the first is the prompt (its image marks in the model's own form).

        Raises:
            ModelError: the chat template rewrites earlier turns, so there is no text between answers.
        """
        if self._template_owner is None:
            first, *later = (self._plain(text) for text, _ in turns)
            return [first, *(f"\n{text}" for text in later)]
        messages: list[dict[str, Any]] = []
        pieces: list[str] = []
        before = ""
        for text, answer in turns:
            messages.append({"role": "user", "content": self._content(text)})
            full = self._template_owner.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            pieces.append(self._rest(full, before, turns[len(pieces) - 1][1]) if pieces else full)
            messages.append({"role": "assistant", "content": self._content(answer)})
            before = full
        return pieces

    def continuation(self, pieces: Sequence[str], answers: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the tokens after the prompt, and their labels.

        Args:
            pieces: the text before each answer.
            answers: as many.
        """
        tokens: list[int] = []
        labels: list[int] = []
        for index, (piece, answer) in enumerate(zip(pieces, answers, strict=True)):
            if index:
                between = self._tokenizer.encode(piece, add_special_tokens=False)
                tokens += between
                labels += [IGNORED] * len(between)
            ids = self._answer(piece, answer)
            tokens += ids
            labels += ids
        end = int(self._tokenizer.eos_token_id)
        return [*tokens, end], [*labels, end]

    def _answer(self, prompt: str, answer: str) -> list[int]:
        """Return an answer's tokens as they come after the prompt, spaced off if the prompt ends in a word."""
        context = prompt[-_CONTEXT:]
        answer = answer if prompt[-1:].isspace() else f" {answer}"
        alone: list[int] = self._tokenizer.encode(context, add_special_tokens=False)
        joined: list[int] = self._tokenizer.encode(context + answer, add_special_tokens=False)
        if joined[: len(alone)] == alone:
            return joined[len(alone) :]
        return list(self._tokenizer.encode(answer, add_special_tokens=False))

    def _plain(self, text: str) -> str:
        mark = getattr(self._processor, "image_token", None) or getattr(self._tokenizer, "image_token", None)
        return text.replace(IMAGE_MARK, str(mark)) if mark else text

    def _content(self, text: str) -> str | list[dict[str, str]]:
        """Return a message's content: plain text for text models, else text and images in order."""
        if self._processor is None:
            return text
        content = []
        for index, part in enumerate(text.split(IMAGE_MARK)):
            if index:
                content.append({"type": "image"})
            if part.strip():
                content.append({"type": "text", "text": part.strip()})
        return content

    def _rest(self, full: str, before: str, answer: str) -> str:
        """Return what the template writes after an answer."""
        tail = full.removeprefix(before).lstrip()
        if not full.startswith(before) or not tail.startswith(answer):
            raise ModelError(
                "the chat template rewrites earlier turns of a dialogue, so their answers cannot be labelled; "
                "use samples with one question each"
            )
        return tail.removeprefix(answer)
