"""Answers in OpenAI's form: whole, and as the chunks of a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator
from contextlib import closing
from typing import Any

from fedmosaic.errors import ModelError
from fedmosaic.models.generation import Said
from fedmosaic.serving.request import ChatRequest

_HALF = "\N{REPLACEMENT CHARACTER}"
"""Stands for half a character, until the token with its other bytes is there."""


def completion(request: ChatRequest, said: Said) -> dict[str, Any]:
    """Return a whole answer.

    Args:
        request: what was asked for.
        said: the complete answer.
    """
    message = {"role": "assistant", "content": said.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish}
    return {**_head(request, "chat.completion"), "choices": [choice], "usage": _usage(said)}


def chunks(request: ChatRequest, growing: Generator[Said]) -> Generator[dict[str, Any]]:
    """Yield an answer in pieces, which together are its text.

    Args:
        request: what was asked for.
        growing: the answer as it grows.

    Raises:
        ModelError: the tokenizer rewrites what it has said, so that pieces would not be the text.
    """
    head = _head(request, "chat.completion.chunk") | ({"usage": None} if request.usage else {})

    def chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    told = ""
    with closing(growing):
        for number, said in enumerate(growing):
            if number == 0:
                yield chunk({"role": "assistant", "content": ""})
            settled = said.text if said.finish else said.text.rstrip(_HALF)
            if settled.startswith(told) and len(settled) > len(told):
                yield chunk({"content": settled[len(told) :]})
                told = settled
    if said.text != told:
        raise ModelError("the model's tokenizer rewrites what it has said before; ask without stream")
    yield chunk({}, said.finish)
    if request.usage:
        yield {**head, "choices": [], "usage": _usage(said)}


def _head(request: ChatRequest, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": request.model,
        "system_fingerprint": None,
    }


def _usage(said: Said) -> dict[str, int]:
    return {
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.tokens,
        "total_tokens": said.prompt_tokens + said.tokens,
    }
