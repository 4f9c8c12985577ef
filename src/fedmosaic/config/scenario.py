"""Scenarios: the clients, their base models and their tasks."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedmosaic.config.paths import OF_SCENARIO, rooted
from fedmosaic.config.validation import registered, validate
from fedmosaic.errors import SettingsError
from fedmosaic.registry import DATASETS

_BUILT_IN = ("mosaic40", "words")  # benchmarks that bring their own data


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
    def _tasks_are_unique(self) -> ClientSpec:
        if twice := [task for position, task in enumerate(self.tasks) if task in self.tasks[:position]]:
            raise ValueError(f"client {self.id} has the task {twice[0]!r} twice; name it once")
        return self

    @model_validator(mode="after")
    def _shares_are_intervals_of_own_tasks(self) -> ClientSpec:
        for task, (low, high) in self.shares.items():
            if task not in self.tasks:
                raise ValueError(f"client {self.id} has a share of {task!r}, which is not among its tasks")
            if not 0 <= low < high <= 1:
                raise ValueError(f"client {self.id}: the share {low} to {high} of {task!r} is not within 0 to 1")
        return self

    @model_validator(mode="after")
    def _joins_before_it_leaves(self) -> ClientSpec:
        if self.leaves and self.leaves < self.joins:
            raise ValueError(f"client {self.id} joins in round {self.joins} but leaves after round {self.leaves}")
        return self

    def rounds(self, last: int) -> range:
        """Return the rounds in which the client takes part.

        Args:
            last: number of rounds of the run.
        """
        return range(self.joins, min(self.leaves or last, last) + 1)


class Division(BaseModel):
    """A division of all tasks' train samples that is still to be drawn, when their numbers are known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clients: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    seed: Annotated[int, Field(ge=0)] = 0


class Scenario(BaseModel):
    """Clients, their tasks and models, and the protocol (docs/scenarios.md).

    Attributes:
        benchmark: a dataset, e.g. ``mosaic40`` (offline), ``published`` (a data folder in the published layout) or
            ``in-memory`` (tasks that Python code gives as objects), ``files`` (files and folders in the usual formats).
        data: that folder, for ``published`` and ``files`` (which may be a file).
        skip_bad: leave out records of it that cannot be used, instead of refusing them.
        open_tasks: tasks of it whose answers are open even where the question lists options.
        columns: what ``files`` call question, answer, image, options, metric, task, where not by a usual name.
        system: a system message before every question (docs/models.md).
        template: what every question is put as, with ``{question}`` where it stands; empty: as it is.
        public: a task of it whose train samples everybody may see, for methods that need such (distillation).
        probe: base model of the relevance probe; empty: the smallest of the clients' models.
        reference: a method that is run beside the asked one for comparison (e.g. ``sft``); empty: none.
        given_models: those of the clients' base models that Python code gives as objects, by name.
        division: the clients are yet to be made of these, by a Dirichlet draw (``fedmosaic.config.dirichlet``).
        settings: run settings that suit this scenario; the command line overrides them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "own"
    title: str = ""
    benchmark: Annotated[str, registered(DATASETS)] = "mosaic40"
    data: str = ""
    skip_bad: bool = False
    open_tasks: tuple[str, ...] = ()
    public: str = ""
    system: Annotated[str, Field(exclude_if=lambda value: not value)] = ""
    template: Annotated[str, Field(exclude_if=lambda value: not value)] = ""
    columns: Annotated[dict[str, str], Field(exclude_if=lambda value: not value)] = Field(default_factory=dict)
    protocol: Literal["static", "dynamic"] = "dynamic"
    probe: str = ""
    reference: str = ""
    clients: Annotated[tuple[ClientSpec, ...], Field(min_length=1)]
    division: Annotated[Division | None, Field(exclude_if=lambda value: value is None)] = None
    given_models: Annotated[tuple[str, ...], Field(exclude_if=lambda value: not value)] = ()
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Scenario:
        ids = [client.id for client in self.clients]
        if len(set(ids)) != len(ids):
            raise ValueError(f"client ids repeat: {ids}")
        return self

    @model_validator(mode="after")
    def _words_hold_no_marks(self) -> Scenario:
        if self.template and self.template.count("{question}") != 1:
            raise ValueError(f"template {self.template!r} must have {{question}} once, where the question stands")
        for name in ("system", "template"):
            if "<image>" in getattr(self, name):
                raise ValueError(f"{name} holds an <image> mark; pictures belong to questions")
        return self

    @model_validator(mode="after")
    def _built_in_data_need_no_description(self) -> Scenario:
        given = [key for key in ("data", "open_tasks", "public", "columns") if getattr(self, key)]
        if self.benchmark in _BUILT_IN and given:
            raise ValueError(
                f"{given[0]!r} is about data of your own, but benchmark is {self.benchmark!r}, which brings its own; "
                'write benchmark = "published"'
            )
        return self

    @classmethod
    def from_toml(cls, path: Path | str) -> Scenario:
        """Return the scenario in a file.

        Relative paths in it are relative to it, and its name is the file's if it gives none.

        Args:
            path: the file.

        Raises:
            SettingsError: the file cannot be read, or its content is no scenario.
        """
        path = Path(path).expanduser()
        source = f"scenario {path}"
        try:
            table = rooted(tomllib.loads(path.read_text(encoding="utf-8-sig")), path.resolve().parent, OF_SCENARIO)
        except OSError as error:
            raise SettingsError(f"cannot read {source}: {error.strerror}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{source} is not valid: {error}") from None
        return validate(cls, {"name": path.stem, **table}, source=source)

    def client(self, client_id: int) -> ClientSpec:
        """Return the client of an id.

        Args:
            client_id: the id.

        Raises:
            SettingsError: there is none.
        """
        for client in self.clients:
            if client.id == client_id:
                return client
        raise SettingsError(
            f"scenario {self.name!r} has no client {client_id}; it has {[client.id for client in self.clients]}"
        )

    @property
    def tasks_by_client(self) -> dict[int, tuple[str, ...]]:
        """The tasks that each client trains on, by its id."""
        return {client.id: client.tasks for client in self.clients}

    @property
    def task_names(self) -> list[str]:
        """All tasks of all clients, each once, in client order."""
        return list(dict.fromkeys(task for client in self.clients for task in client.tasks))

    @property
    def models(self) -> list[str]:
        """The distinct base models, in client order."""
        return list(dict.fromkeys(client.model for client in self.clients))
