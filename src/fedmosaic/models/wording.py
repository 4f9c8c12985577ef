"""What a scenario puts around every question: a system message, and a template of instructions."""

from __future__ import annotations

from dataclasses import dataclass

QUESTION = "{question}"
"""Stands for the sample's prompt in a template."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How samples' prompts are put to a model; nothing is added by default.

    Attributes:
        system: the system message before a conversation; a model whose chat template knows none reads it at the start
            of the first question.
        template: the user's text, in which ``{question}`` stands for the sample's prompt; empty: the prompt alone.
    """

    system: str = ""
    template: str = ""

    def question(self, prompt: str) -> str:
        """Return the user's text.

        Args:
            prompt: the sample's.
        """
        return self.template.replace(QUESTION, prompt) if self.template else prompt

    def whole(self, prompt: str) -> str:
        """Return system message and user's text as one, for models that know no roles.

        Args:
            prompt: the sample's.
        """
        return with_system(self.system, self.question(prompt))


PLAIN = Wording()
"""Prompts as they are."""


def with_system(system: str, text: str) -> str:
    """Return a text with the system message before it.

    Args:
        system: may be empty.
        text: the user's.
    """
    return f"{system}\n\n{text}" if system else text
