"""The roster: which node is which client, by the key that it proves to have."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, field_validator

from fedmosaic.config.validation import validate
from fedmosaic.deployment.keys import parse_public_key
from fedmosaic.errors import SettingsError

_HEAD = """\
# The clients that this server expects, each with the public key of its node, in the order of the scenario's clients.
# A node that says it is another client than its key belongs to is refused, whatever the scenario says.

"""


class Entry(BaseModel):
    """One expected client.

    Attributes:
        name: of its node.
        position: in the scenario, from 0.
        public_key: its node's, in OpenSSH's format.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    position: Annotated[int, Field(ge=0)]
    public_key: str

    @field_validator("public_key")
    @classmethod
    def _is_a_key(cls, public_key: str) -> str:
        parse_public_key(public_key)
        return public_key


class Roster(BaseModel):
    """All expected clients.

    Attributes:
        clients: each with a name, a position and a key of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clients: Annotated[tuple[Entry, ...], Field(min_length=1)]

    @field_validator("clients")
    @classmethod
    def _are_distinct(cls, clients: tuple[Entry, ...]) -> tuple[Entry, ...]:
        for one in clients:
            for other in clients:
                if one is not other and (
                    one.name == other.name
                    or one.position == other.position
                    or parse_public_key(one.public_key) == parse_public_key(other.public_key)
                ):
                    raise ValueError(f"{one.name} and {other.name} share a name, a position or a key")
        return clients

    @classmethod
    def load(cls, path: Path) -> Roster:
        """Return the roster in a file.

        Args:
            path: the file.

        Raises:
            SettingsError: it cannot be read, or is no roster.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"roster {path}: cannot be read ({error.strerror})") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"roster {path} is not valid: {error}") from None
        return validate(cls, table, source=f"roster {path}")

    def to_toml(self) -> str:
        """Return the file's text."""
        return _HEAD + tomli_w.dumps(self.model_dump(mode="json"))

    def entry_of(self, public_key: bytes) -> Entry | None:
        """Return the client whose node has a key; None if there is none.

        Args:
            public_key: in PEM, as Flower describes a connected node.
        """
        return next((entry for entry in self.clients if parse_public_key(entry.public_key) == public_key), None)
