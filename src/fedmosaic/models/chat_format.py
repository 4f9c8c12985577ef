"""Rendering dialogues as text for a pretrained model: chat template, image marks, end of turn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from fedmosaic.data.sample import IMAGE_MARK
from fedmosaic.errors import ModelError
from fedmosaic.models.base import IGNORED
from fedmosaic.models.library_errors import model_errors
from fedmosaic.models.wording import with_system

Turns = Sequence[tuple[str, str]]

_CONTEXT = 16  # characters of the prompt that an answer is tokenised with
_TEST_TEXT = "probing"
_TEST_SYSTEM = "sounding"


class ChatFormat:
    """The text around user texts and answers of one model.

    Args:
        tokenizer: the model's tokenizer.
        processor: the model's processor; None for text models.

    Attributes:
        adds_special_tokens: whether the tokenizer must add its own start token, as no chat template has written it.

    Raises:
        ModelError: the chat template raises, or leaves out the user's text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, processor: Any | None) -> None:
        self._tokenizer = tokenizer
        self._processor = processor
        self._template_owner: Any = next((x for x in (processor, tokenizer) if getattr(x, "chat_template", None)), None)
        self.adds_special_tokens = self._template_owner is None
        self._in_parts = processor is not None  # how a message is handed to the template: parts, or one text
        if self._template_owner is not None:
            self._check_template()

    def pieces(self, turns: Turns, *, system: str = "") -> list[str]:
        """Return the text before each answer; the first is the prompt (its image marks in the model's own form).

        Args:
            turns: (user text, answer) pairs of one dialogue.
            system: the system message before it; it begins the first user text where no template writes it elsewhere.

        Raises:
            ModelError: the chat template rewrites earlier turns, so there is no text between answers.
        """
        messages: list[dict[str, Any]] = []
        if system and self._has_system_role:
            messages.append({"role": "system", "content": self._content(system)})
        elif system:
            (text, answer), *others = turns
            turns = [(with_system(system, text), answer), *others]
        if self._template_owner is None:
            first, *later = (self._plain(text) for text, _ in turns)
            return [first, *(f"\n{text}" for text in later)]
        pieces: list[str] = []
        before = ""
        for text, answer in turns:
            messages.append({"role": "user", "content": self._content(text)})
            full = self._rendered(messages)
            pieces.append(self._text_after(full, before, turns[len(pieces) - 1][1]) if pieces else full)
            messages.append({"role": "assistant", "content": self._content(answer)})
            before = full
        return pieces

    def continuation(self, pieces: Sequence[str], answers: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the tokens after the prompt, and their labels.

        Args:
            pieces: the text before each answer, from :meth:`pieces`.
            answers: as many.

        Returns:
            Token ids, end-of-sequence token included, and labels: the ids of the answers, -100 elsewhere.
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
        """Return an answer's tokens as the continuation of the prompt, after a space if the prompt ends in a word."""
        context = prompt[-_CONTEXT:]
        answer = answer if prompt[-1:].isspace() else f" {answer}"
        alone: list[int] = self._tokenizer.encode(context, add_special_tokens=False)
        joined: list[int] = self._tokenizer.encode(context + answer, add_special_tokens=False)
        if joined[: len(alone)] == alone:
            return joined[len(alone) :]
        return list(self._tokenizer.encode(answer, add_special_tokens=False))

    def _rendered(self, messages: list[dict[str, Any]]) -> str:
        """Return the chat template's text for a conversation that ends with a question.

        Raises:
            ModelError: the template raises, e.g. because it needs a system message; with the template's message.
        """
        with model_errors(
            "the chat template cannot render a question", advice="mend it, or remove it for plain prompts"
        ):
            text = self._template_owner.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return str(text)

    def _check_template(self) -> None:
        """Render a question of one turn, so that an unusable template is found when the model is loaded.

        A vision-language model's tokenizer may have a text model's template, which prints a message's parts as Python
        does; such a template gets one text with the image marks in it.

        Raises:
            ModelError: the template raises, or leaves out the user's text.
        """
        problems: list[ModelError] = []
        for in_parts in (True, False) if self._in_parts else (False,):
            self._in_parts = in_parts
            texts = (_TEST_TEXT,) if self._processor is None else (_TEST_TEXT, f"{IMAGE_MARK}{_TEST_TEXT}")
            try:
                if all(self._renders_user_text(text) for text in texts):
                    return
                problems.append(ModelError("the chat template leaves out the user's text; mend or remove it"))
            except ModelError as error:
                problems.append(error)
        raise problems[0]

    def _renders_user_text(self, text: str) -> bool:
        """Return whether the template writes the user's text, and not a message's parts as Python prints them."""
        rendered = self._rendered([{"role": "user", "content": self._content(text)}])
        return _TEST_TEXT in rendered and "'type'" not in rendered

    @cached_property
    def _has_system_role(self) -> bool:
        """Whether the template writes a system message once, and the question after it: some raise or leave it out."""
        if self._template_owner is None:
            return False
        system, question = {"role": "system"}, {"role": "user", "content": self._content(_TEST_TEXT)}
        try:
            text = self._rendered([system | {"content": self._content(_TEST_SYSTEM)}, question])
        except ModelError:
            return False
        return text.count(_TEST_SYSTEM) == 1 and _TEST_TEXT in text.partition(_TEST_SYSTEM)[2] and "'type'" not in text

    def _plain(self, text: str) -> str:
        mark = getattr(self._processor, "image_token", None) or getattr(self._tokenizer, "image_token", None)
        return text.replace(IMAGE_MARK, str(mark)) if mark else text

    def _content(self, text: str) -> str | list[dict[str, str]]:
        """Return a message's content: text and images in order where the template takes parts, else one text."""
        if not self._in_parts:
            return self._plain(text)
        content = []
        for index, part in enumerate(text.split(IMAGE_MARK)):
            if index:
                content.append({"type": "image"})
            if part.strip():
                content.append({"type": "text", "text": part.strip()})
        return content

    def _text_after(self, full: str, before: str, answer: str) -> str:
        """Return what the template writes after an answer."""
        tail = full.removeprefix(before).lstrip()
        if not full.startswith(before) or not tail.startswith(answer):
            raise ModelError(
                "the chat template rewrites earlier turns of a dialogue, so their answers cannot be labelled; "
                "use samples with one question each"
            )
        return tail.removeprefix(answer)
