"""LLaMA-Factory's ``dataset_info.json``: which files there are, and what their keys are called."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedmosaic.data.texts import quoted
from fedmosaic.errors import DataError

Adapted = Callable[[dict[str, Any]], dict[str, Any]]

_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
_SHARED = {"system": "system", "images": "images", "image": "images"}
_TAGS = {"user_tag": "human", "assistant_tag": "gpt", "system_tag": "system"}
_DEFAULTS = {"role_tag": "from", "content_tag": "value", **_TAGS}
_ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


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
        if not isinstance(told, dict) or not isinstance(told.get("file_name"), str):
            continue
        file = folder / told["file_name"]
        if not file.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{path}: {name!r} names {quoted(told['file_name'])}, which is outside {folder}")
        found[name] = (file, _adapted(told))
    return found


def _adapted(told: Mapping[str, Any]) -> Adapted:
    """Return what gives the records of a dataset the usual keys."""
    columns, tags = told.get("columns") or {}, {**_DEFAULTS, **(told.get("tags") or {})}
    if told.get("formatting", "alpaca") == "sharegpt":
        return partial(_conversation, columns=columns, tags=tags)
    return partial(_renamed, names={columns.get(key, usual): usual for key, usual in _ALPACA.items()}, columns=columns)


def _renamed(record: dict[str, Any], *, names: Mapping[str, str], columns: Mapping[str, str]) -> dict[str, Any]:
    every = {**names, **{columns[key]: usual for key, usual in _SHARED.items() if key in columns}}
    return {every.get(key, key): value for key, value in record.items()}


def _conversation(record: dict[str, Any], *, columns: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, Any]:
    said = columns.get("messages", "conversations")
    record = _renamed(record, names={said: "conversations"}, columns=columns)
    roles = {tags[tag]: role for tag, role in _TAGS.items()}
    usual = {tags["role_tag"]: "from", tags["content_tag"]: "value"}
    turns = record.get("conversations")
    if isinstance(turns, list):
        record["conversations"] = [_turn(turn, usual, roles) if isinstance(turn, dict) else turn for turn in turns]
    return record


def _turn(turn: Mapping[str, Any], usual: Mapping[str, str], roles: Mapping[str, str]) -> dict[str, Any]:
    named = {usual.get(key, key): value for key, value in turn.items()}
    if isinstance(named.get("from"), str):
        named["from"] = roles.get(named["from"], named["from"])
    return named
