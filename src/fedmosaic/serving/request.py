"""A request for a chat completion, checked: what cannot be done is refused, never left out in silence."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn

from pydantic import BaseModel as Table
from pydantic import ConfigDict, Field, ValidationError

from fedmosaic.config.validation import explain
from fedmosaic.data.texts import quoted
from fedmosaic.nearest import suggestion
from fedmosaic.serving.refusals import Refusal

MOST_TOKENS = 4096
DEFAULT_TOKENS = 256

_GREEDY = "answers are greedy, the likeliest token each time"
_ONE = "there is one answer, and its likelihoods are not told"
_NO_TOOLS = "the models call no tools"
_NEUTRAL: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "temperature": ((0,), _GREEDY),
    "top_p": ((1,), _GREEDY),
    "frequency_penalty": ((0,), _GREEDY),
    "presence_penalty": ((0,), _GREEDY),
    "logit_bias": (({},), _GREEDY),
    "n": ((1,), _ONE),
    "logprobs": ((False,), _ONE),
    "top_logprobs": ((0,), _ONE),
    "stop": (([], ""), "an answer ends where its model ends it"),
    "response_format": (({"type": "text"},), "answers are texts; for a choice send options"),
    "tools": (([],), _NO_TOOLS),
    "tool_choice": (("none", "auto"), _NO_TOOLS),
    "modalities": ((["text"],), "answers are texts"),
}
"""What may be sent of settings that do nothing here, and why nothing else may."""
_WITHOUT_EFFECT = frozenset({
    "user", "seed", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
})  # fmt: skip


class _StreamOptions(Table):
    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class _Body(Table):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    options: list[str] | None = None


@dataclass(frozen=True)
class ChatRequest:
    """What is asked for.

    Attributes:
        model: name of the model that is to answer.
        messages: of the conversation; the last one is the question.
        max_tokens: longest generated answer.
        stream: whether the answer is sent as it grows.
        usage: whether a stream ends with its counts of tokens.
        options: the answers to choose from; None: one is generated.
    """

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int
    stream: bool
    usage: bool
    options: list[str] | None


def parse(body: bytes, models: Collection[str]) -> ChatRequest:
    """Return a request.

    Args:
        body: JSON.
        models: the names of those there are.

    Raises:
        Refusal: it is no JSON, lacks something, asks for what there is not, or for a model that is not there.
    """
    try:
        table = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        _refuse(f"the body is no JSON ({error}); expected an object with model and messages")
    if not isinstance(table, dict):
        _refuse(f"the body is {quoted(table)}; expected an object with model and messages")
    for name, (values, why) in _NEUTRAL.items():
        if (value := table.pop(name, None)) is not None and value not in values:
            refused = f"{name}={quoted(value)} is not supported: {why}; leave it out"
            _refuse(refused, param=name, code="unsupported_value")
    given = {name: value for name, value in table.items() if name not in _WITHOUT_EFFECT}
    try:
        found = _Body.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]["loc"]
        _refuse(explain(error, _Body), param=str(first[0]) if first else None)
    if found.model not in models:
        raise Refusal(
            HTTPStatus.NOT_FOUND,
            f"there is no model {quoted(found.model)}; {suggestion(found.model, models)}",
            param="model",
            code="model_not_found",
        )
    usage = found.stream_options is not None and found.stream_options.include_usage
    most = found.max_completion_tokens or found.max_tokens or DEFAULT_TOKENS
    return ChatRequest(found.model, found.messages, most, bool(found.stream), usage, found.options)


def _refuse(message: str, *, param: str | None = None, code: str | None = None) -> NoReturn:
    raise Refusal(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
