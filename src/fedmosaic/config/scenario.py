"""Scenarios: who the clients are. Built-in by name, a TOML file of ours, or the published JSON list."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedmosaic.errors import SettingsError


class ClientSpec(BaseModel):
    """One participant: its base model and its tasks in the order in which they come.

    ``shares`` says, for tasks whose train samples are divided among clients, from which to which fraction of them are
    this client's; test samples are never divided. ``start`` is the folder of a PEFT LoRA that the client starts from.

    ``joins`` and ``leaves`` are the first and the last round that the client takes part in; ``leaves = 0``: to the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[int, Field(ge=0)]
    model: Annotated[str, Field(min_length=1)]
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    shares: dict[str, tuple[float, float]] = Field(default_factory=dict)
    joins: Annotated[int, Field(ge=1)] = 1
    leaves: Annotated[int, Field(ge=0)] = 0
    start: str = ""

    @model_validator(mode="after")
    def _shares_are_intervals_of_own_tasks(self) -> ClientSpec:
        for task, (low, high) in self.shares.items():
            if task not in self.tasks:
                raise ValueError(f"client {self.id} has a share of {task!r}, which is not among its tasks")
            if not 0 <= low < high <= 1 + 1e-6:
                raise ValueError(f"client {self.id}: the share {low} to {high} of {task!r} is not within 0 to 1")
        return self

    @model_validator(mode="after")
    def _joins_before_it_leaves(self) -> ClientSpec:
        if self.leaves and self.leaves < self.joins:
            raise ValueError(f"client {self.id} joins in round {self.joins} but leaves after round {self.leaves}")
        return self

    def rounds(self, last: int) -> range:
        """The rounds in which the client takes part, in a run of ``last`` rounds."""
        return range(self.joins, min(self.leaves or last, last) + 1)


class Scenario(BaseModel):
    """Clients, their tasks and models, and the protocol (DESIGN, section 2).

    Attributes:
        benchmark: ``mosaic40`` (offline) or ``published`` (a data folder in the published layout).
        data: that folder, for ``published``.
        skip_bad: leave out records of it that cannot be used, instead of refusing them.
        open_tasks: tasks of it whose answers are open even where the question lists options.
        public: a task of it whose train samples everybody may see, for methods that need such (distillation).
        probe: base model of the relevance probe; empty: the smallest of the clients' models.
        reference: a method that is run beside the asked one for comparison (e.g. ``sft``); empty: none.
        settings: run settings that suit this scenario; the command line overrides them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str = ""
    benchmark: Literal["mosaic40", "published"] = "mosaic40"
    data: str = ""
    skip_bad: bool = False
    open_tasks: tuple[str, ...] = ()
    public: str = ""
    protocol: Literal["static", "dynamic"] = "dynamic"
    probe: str = ""
    reference: str = ""
    clients: Annotated[tuple[ClientSpec, ...], Field(min_length=1)]
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Scenario:
        ids = [client.id for client in self.clients]
        if len(set(ids)) != len(ids):
            raise ValueError(f"client ids repeat: {ids}")
        return self

    def client(self, client_id: int) -> ClientSpec:
        """Return the client of this id."""
        for client in self.clients:
            if client.id == client_id:
                return client
        raise SettingsError(
            f"scenario {self.name!r} has no client {client_id}; it has {[client.id for client in self.clients]}"
        )

    @property
    def task_names(self) -> list[str]:
        """All tasks of all clients, each once, in client order."""
        return list(dict.fromkeys(task for client in self.clients for task in client.tasks))

    @property
    def models(self) -> list[str]:
        """The distinct base models, in client order."""
        return list(dict.fromkeys(client.model for client in self.clients))


def builtin_names() -> list[str]:
    """Names of the built-in scenarios."""
    folder = resources.files("fedmosaic.config") / "scenarios"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_scenario(name: str) -> Scenario:
    """Load a scenario by built-in name or from a ``.toml`` or published ``.json`` file.

    Raises:
        SettingsError: unknown name (with the nearest one), unreadable file, or invalid content.
    """
    path = Path(name)
    if path.suffix == ".json" or (path.suffix == ".toml" and not name.startswith("builtin:")):
        return _parse(path.name, _read(path), path)
    if match := re.fullmatch(r"(.+)-dirichlet-([1-9]\d*)(?:-([\d.]+))?", name):
        from fedmosaic.config.dirichlet import divide  # noqa: PLC0415 - it builds on this module

        return divide(load_scenario(match[1]), clients=int(match[2]), alpha=float(match[3] or 0.5))
    from fedmosaic.config.published import published_scenarios  # noqa: PLC0415 - it builds on this module

    published = published_scenarios()
    if name in published:
        return published[name]
    if name not in builtin_names():
        near = difflib.get_close_matches(name, [*builtin_names(), *published], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SettingsError(
            f"unknown scenario {name!r}; {hint}built-in: {', '.join(builtin_names())}, NAME-dirichlet-CLIENTS; "
            f"published, given their data: {', '.join(published)}; "
            "or give a .toml or .json file"
        )
    text = (resources.files("fedmosaic.config") / "scenarios" / f"{name}.toml").read_text(encoding="utf-8")
    return _parse(f"{name}.toml", text, None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot read scenario {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"scenario {path} is not UTF-8 text") from None


def _parse(file_name: str, text: str, path: Path | None) -> Scenario:
    try:
        table = _from_published(json.loads(text), Path(file_name).stem) if file_name.endswith(".json") else None
        table = tomllib.loads(text) if table is None else table
        table.setdefault("name", Path(file_name).stem)
        return Scenario.model_validate(table)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"scenario {path or file_name} is not valid: {error}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise SettingsError(f"scenario {path or file_name}: {problems}") from None


def _from_published(entries: Any, name: str) -> dict[str, Any]:
    """Turn the published list (METHODS D.3) into our table."""
    expected = "expected a list of {client_id, model_id, datasets: [{dataset, subset_id, type, metric?}]}"
    if not isinstance(entries, list):
        raise SettingsError(f"scenario {name}: {expected}, got {type(entries).__name__}")
    clients, open_tasks, metrics = [], [], set()
    for position, entry in enumerate(entries):
        try:
            tasks = {f"{dataset['dataset']}-{dataset['subset_id']}": dataset for dataset in entry["datasets"]}
            clients.append({"id": entry["client_id"], "model": entry["model_id"], "tasks": list(tasks)})
        except (KeyError, TypeError) as error:
            raise SettingsError(f"scenario {name}, entry {position}: {error} is missing; {expected}") from None
        open_tasks += [task for task, dataset in tasks.items() if dataset.get("type") == "open-ended"]
        metrics |= {dataset.get("metric") for dataset in tasks.values()}
    rouge = {"evaluation": {"open_metric": "rouge-l", "answer_tokens": 128}} if "RougeL" in metrics else {}
    return {
        "name": name,
        "benchmark": "published",
        "data": os.environ.get("FEDMOSAIC_DATA", ""),
        "open_tasks": open_tasks,
        "clients": clients,
        "settings": rouge,
    }
