"""What a client's own machine decides, and no server: who the client is, and where its data, model and files are.

A SuperNode is started with these as its ``--node-config``, for instance

    partition-id=0 data="/srv/clinic-a/data" model="/srv/models/own" state="/srv/clinic-a/state" resident=true

The run's settings come from the server. On a node they are read with this node's own paths in the place of theirs, and
every other path in them is refused: a server names no folder on a client's machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from fedmosaic.config import ClientSpec, RunSettings, home, validate
from fedmosaic.errors import SettingsError

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


def _dashed(name: str) -> str:
    return name.replace("_", "-")


class NodeSettings(BaseModel):
    """The configuration of one node; in ``--node-config`` the names are written with dashes."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_dashed)

    partition_id: Annotated[int, Field(ge=0)]
    """Position of the client in the scenario, from 0; Flower's simulation gives it."""
    num_partitions: Annotated[int, Field(ge=0)] = 0
    """How many nodes there are; Flower's simulation gives it, nothing uses it."""
    data: str = ""
    """Folder of this client's data; instead of ``scenario.data``."""
    model: str = ""
    """Base model of this client, a name or a folder; instead of the one that the scenario names for it."""
    start: str = ""
    """Folder of a PEFT LoRA that this client starts from; instead of the one that the scenario names for it."""
    probe: str = ""
    """Base model of the relevance probe and of proxy models, a name or a folder; instead of ``scenario.probe``."""
    alignment: str = ""
    """Folder of the alignment that all sites were given; instead of ``adapter.alignment``."""
    device: str = ""
    """Where this client's models compute, e.g. ``cuda``; instead of the run's ``device``."""
    state: str = ""
    """Folder of this client's private state, a folder in it for each run; default: ``nodes`` in the cache folder."""
    own_tasks_only: bool = False
    """This node has no other client's test samples: it is scored on its own tasks only."""
    resident: bool = False
    """Messages are answered by one process that stays for the whole run and keeps the base model loaded."""
    idle: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    """Seconds without a message after which that process ends."""
    trust_paths: bool = False
    """The run was started on this machine, so that paths in its settings may be used here."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> NodeSettings:
        """Return the settings in a node's configuration.

        Args:
            config: the ``node_config`` of Flower's context.

        Raises:
            SettingsError: an unknown key, a key that is missing, or an unusable value.
        """
        return validate(cls, dict(config), source="this node's configuration (--node-config)")

    def config(self) -> dict[str, bool | float | int | str]:
        """Return what differs from the defaults, as Flower's ``node_config``."""
        table: dict[str, bool | float | int | str] = self.model_dump(by_alias=True, exclude_defaults=True)
        return table

    def state_folder(self, run: str) -> Path:
        """Return the folder of this node's private state of one run.

        Args:
            run: the run's key, which the server gives.

        Raises:
            SettingsError: the key is none; it could name a folder elsewhere.
        """
        if not _RUN.fullmatch(run):
            raise SettingsError(f"the run's key {run!r} is not 1 to 64 letters, digits and dashes; it is not used")
        return (Path(self.state).expanduser() if self.state else home() / "nodes") / run

    def client(self, settings: RunSettings) -> ClientSpec:
        """Return the client that this node is.

        Args:
            settings: of the run.

        Raises:
            SettingsError: the scenario has fewer clients.
        """
        clients = settings.scenario.clients
        if self.partition_id >= len(clients):
            raise SettingsError(
                f"this node has partition-id={self.partition_id}, but the scenario has {len(clients)} clients, "
                f"0 to {len(clients) - 1}; correct its --node-config"
            )
        return clients[self.partition_id]

    def applied_to(self, settings: RunSettings) -> RunSettings:
        """Return the run's settings as they hold on this node.

        Args:
            settings: as the server gives them.

        Raises:
            SettingsError: they name a folder that this node's configuration does not give.
        """
        me = self.client(settings)
        own = {"model": self.model or me.model, "start": self.start or me.start}
        clients = tuple(
            each.model_copy(update=own) if each is me else self._elsewhere(each) for each in settings.scenario.clients
        )
        shared = {"data": self.data or settings.scenario.data, "probe": self.probe or settings.scenario.probe}
        scenario = settings.scenario.model_copy(update={**shared, "clients": clients})
        alignment = self.alignment or settings.adapter.alignment
        applied = settings.model_copy(
            update={
                "scenario": scenario,
                "adapter": settings.adapter.model_copy(update={"alignment": alignment}),
                "device": self.device or settings.device,
            }
        )
        if not self.trust_paths:
            self._refuse_paths({**shared, **own, "alignment": alignment})
            self._refuse_models_elsewhere(settings, shared["probe"])
            self._refuse_paths_of_method(settings)
        return applied

    def _refuse_paths(self, used: Mapping[str, str]) -> None:
        """Refuse what is a path, but not this node's own."""
        for key, value in used.items():
            if is_path(value) and value != getattr(self, key):
                raise SettingsError(
                    f"the run's settings give {value!r} as {key}, but a node takes folders from its own configuration "
                    f"only; add {key}=... to its --node-config"
                )

    def _elsewhere(self, client: ClientSpec) -> ClientSpec:
        """Return what this node knows of another client: of its folders nothing, lest one is opened here."""
        if self.trust_paths:
            return client
        model = f"the model of client {client.id}" if is_path(client.model) else client.model
        return client.model_copy(update={"model": model, "start": ""})

    def _refuse_models_elsewhere(self, settings: RunSettings, probe: str) -> None:
        """Refuse to look for the smallest model, the probe of a run that names none, among other clients' folders."""
        me = self.client(settings)
        paths = [each for each in settings.scenario.clients if each is not me and is_path(each.model)]
        if paths and not probe:
            raise SettingsError(
                f"the run's settings give {paths[0].model!r} as the model of client {paths[0].id} and name no probe, "
                "for which all models would be looked at; name one, or add probe=... to this --node-config"
            )

    @staticmethod
    def _refuse_paths_of_method(settings: RunSettings) -> None:
        for key, value in settings.method_settings.items():
            if isinstance(value, str) and is_path(value):
                raise SettingsError(
                    f"the run's settings give {value!r} as method.{key}, but a node takes folders from its own "
                    "configuration only; name a built-in model, or leave it out and add probe=... to its --node-config"
                )


def is_path(text: str) -> bool:
    """Return whether a setting that may be a name or a path is a path.

    Args:
        text: the setting.
    """
    return text.startswith((".", "~")) or os.sep in text or "\\" in text
