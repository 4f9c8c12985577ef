"""LLaMA-Factory's ``dataset_info.json``: which files there are, and what their keys are called."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedmosaic.data.formats.plain import listed
from fedmosaic.data.texts import check_text, quoted
from fedmosaic.errors import DataError

Adapted = Callable[[dict[str, Any]], dict[str, Any]]

_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
_SHARED = {"system": "system", "images": "images", "image": "images"}
_ONLY_NAMED = ("input", "history", "system")  # where columns are given, as in LLaMA-Factory
_TAGS = {"user_tag": "human", "assistant_tag": "gpt", "system_tag": "system"}
_USUAL: dict[str, dict[str, str]] = {  # formatting -> tags that are not given
    "sharegpt": {"role_tag": "from", "content_tag": "value", **_TAGS},
    "openai": {
        **{"role_tag": "role", "content_tag": "content"},
        **{"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"},
    },
}
_ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")  # win over a file's name


def read_dataset_info(folder: Path) -> dict[str, tuple[Path, Adapted]]:
    """Return the datasets that a folder's ``dataset_info.json`` names: file, and what gives records the usual keys.

    Datasets that are not in files of the folder are left out, and those of other kinds than questions with answers.

    Args:
        folder: may have such a file; else nothing is returned.

    Raises:
        DataError: the file is no valid JSON, or a dataset's file is outside the folder.
    """
    path = folder / "dataset_info.json"
    if not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}); mend or remove it") from error
    found: dict[str, tuple[Path, Adapted]] = {}
    for name, told in table.items() if isinstance(table, dict) else ():
        if not isinstance(told, dict) or not isinstance(told.get("file_name"), str) or any(map(told.get, _ELSEWHERE)):
            continue
        try:
            file = _file(folder, told["file_name"])
        except DataError as error:
            raise DataError(f"{path}: {name!r} {error}") from None
        try:
            found[name] = (file, _adapted(told))
        except DataError as error:  # concerns only those who use this one of many
            found[name] = (file, partial(_refused, reason=f"{path} says that {name!r} {error}"))
    return found


def _file(folder: Path, name: str) -> Path:
    check_text(name, "its file_name")
    file = folder / name
    if not Path(os.path.abspath(file)).is_relative_to(os.path.abspath(folder)):  # noqa: PTH100 - keeps links' names
        raise DataError(f"names {quoted(name)}, which is outside {folder}")
    return file


def _adapted(told: Mapping[str, Any]) -> Adapted:
    """Return what gives the records of a dataset the usual keys."""
    columns, formatting = _names(told, "columns"), told.get("formatting") or "alpaca"
    if told.get("ranking"):
        raise DataError("holds answers that are preferred to others (ranking), which cannot be used")
    if formatting == "alpaca":
        names = {columns[key]: usual for key, usual in _ALPACA.items() if key in columns}
        needed = ("prompt", "response") if columns else _ALPACA
        usual = {_ALPACA[key]: _ALPACA[key] for key in needed if key not in columns}
        return partial(_renamed, names=usual | names, extra=columns)
    if not isinstance(formatting, str) or formatting not in _USUAL:
        raise DataError(f"has the formatting {quoted(formatting)}; expected alpaca, {', '.join(_USUAL)}")
    return partial(_conversation, columns=columns, tags={**_USUAL[formatting], **_names(told, "tags")})


def _refused(_: dict[str, Any], *, reason: str) -> dict[str, Any]:
    raise DataError(reason)


def _names(told: Mapping[str, Any], key: str) -> dict[str, str]:
    names = told.get(key) or {}
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise DataError(f"has {key} {quoted(names)}; expected names")
    return names


def _renamed(record: dict[str, Any], *, names: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, Any]:
    """Return a record with the usual keys in place of its own; what has a usual key but another meaning is left out."""
    every = {**names, **{extra[key]: usual for key, usual in _SHARED.items() if key in extra}}
    unused = {*every, *every.values(), *(_ONLY_NAMED if extra else ())}
    found = {key: value for key, value in record.items() if key not in unused}
    return found | {usual: record[own] for own, usual in every.items() if own in record}


def _conversation(record: dict[str, Any], *, columns: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, Any]:
    said = columns.get("messages", "conversations")
    record = _renamed(record, names={said: "conversations"}, extra=columns)
    roles = {tags[tag]: role for tag, role in _TAGS.items()}
    usual = {tags["role_tag"]: "from", tags["content_tag"]: "value"}
    turns = listed(record.get("conversations"))
    if isinstance(turns, list):
        record["conversations"] = [_turn(turn, usual, roles) if isinstance(turn, dict) else turn for turn in turns]
    return record


def _turn(turn: Mapping[str, Any], usual: Mapping[str, str], roles: Mapping[str, str]) -> dict[str, Any]:
    named = {usual.get(key, key): value for key, value in turn.items()}
    if isinstance(named.get("from"), str):
        named["from"] = roles.get(named["from"], named["from"])
    return named
