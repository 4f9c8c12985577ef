"""The page on which a client's models are tried: a question, pictures, and their answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from fedmosaic.config import ClientSpec
from fedmosaic.federation.examples import Example
from fedmosaic.report.page import script_hash
from fedmosaic.report.rows import short_model
from fedmosaic.report.templates import templates

_TITLE = 90
"""Characters of a question on its button."""


@dataclass(frozen=True)
class Limits:
    """How long answers may be, in tokens.

    Attributes:
        usual: if nothing is chosen.
        most: that can be chosen.
    """

    usual: int
    most: int


def trying_page(
    spec: ClientSpec,
    models: Mapping[str, str],
    *,
    method: str,
    limits: Limits,
    examples: Sequence[Example] = (),
    token: bool = False,
) -> str:
    """Return the page's HTML; it loads nothing, and asks the server that it came from.

    Args:
        spec: the client.
        models: title of each model, by the name that it is asked by.
        method: of the run.
        limits: of answers.
        examples: questions that can be chosen, with their small images; those that were not kept whole cannot.
        token: whether requests must bring the token in the page's address.
    """
    script = (Path(__file__).parent / "trying.script.html").read_text(encoding="utf-8")
    asked = [
        {"title": f"{each.task}: {_short(each.question)}", "question": each.question, "answer": each.answer,
         "images": each.images}
        for each in examples
        if each.whole and all(uri.startswith("data:image/") for uri in each.images)
    ]  # fmt: skip
    return (
        templates()
        .get_template("trying.html")
        .render(
            client=spec.id,
            model=short_model(spec.model),
            method=method,
            tasks=spec.tasks,
            models=models,
            examples=asked,
            known={"models": models, "examples": asked},
            tokens=limits.usual,
            most_tokens=limits.most,
            token=token,
            script=Markup(script),
            policy=Markup(
                f"img-src data:; script-src '{script_hash(script)}'; connect-src 'self'; base-uri 'none'; "
                "form-action 'none'"
            ),
        )
    )


def _short(text: str) -> str:
    line = " ".join(text.replace("<image>", " ").split())
    return line if len(line) <= _TITLE else f"{line[:_TITLE]} …"
