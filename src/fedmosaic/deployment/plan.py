"""What the operator decides: who takes part, under which address the server is reached, and which ports are used."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fedmosaic.config.validation import validate
from fedmosaic.errors import SettingsError

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class Plan(BaseModel):
    """A federation of one server and some clients, each on a node of its own.

    Attributes:
        clients: names of the nodes, in the order of the scenario's clients.
        address: HOST:PORT under which the nodes reach the server's proxy.
        superlink_port: of the SuperLink, on the server's loopback interface.
        node_port: of a SuperNode, on its machine's loopback interface; the k-th node has the k-th after it, so that
            several can share a machine.
        days: how long the server's certificate is valid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clients: Annotated[tuple[str, ...], Field(min_length=1)]
    address: str = "localhost:9443"
    superlink_port: Annotated[int, Field(ge=1, le=65535)] = 8000
    node_port: Annotated[int, Field(ge=1, le=65535)] = 9094
    days: Annotated[int, Field(ge=1, le=3650)] = 397

    @classmethod
    def of(cls, **given: object) -> Plan:
        """Return a plan.

        Args:
            given: its attributes; what is not given is as by default.

        Raises:
            SettingsError: names what cannot be used.
        """
        return validate(cls, given, source="the deployment")

    @field_validator("clients")
    @classmethod
    def _names_are_plain(cls, clients: tuple[str, ...]) -> tuple[str, ...]:
        for name in clients:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"client {name!r} is no plain name; write small letters, digits and hyphens, at most 32: hospital-2"
                )
            if clients.count(name) > 1:
                raise ValueError(f"client {name!r} is named twice; each node has a name of its own")
        return clients

    @field_validator("address")
    @classmethod
    def _address_has_host_and_port(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port) > 65535:
            raise ValueError(f"address {address!r} is not HOST:PORT; write, for example, fed.example.org:443")
        return address

    @model_validator(mode="after")
    def _ports_differ(self) -> Plan:
        if max(self.node_ports) > 65535:
            raise ValueError(f"node_port {self.node_port} leaves no room for {len(self.clients)} nodes below 65536")
        if self.superlink_port == self.port:
            raise ValueError(f"superlink_port {self.port} is the port of the address: the proxy listens there")
        if taken := {self.port, self.superlink_port} & set(self.node_ports):
            raise ValueError(f"port {min(taken)} of the server is one of the nodes' ports; choose another node_port")
        return self

    @property
    def node_ports(self) -> range:
        """The nodes' ports, in the clients' order."""
        return range(self.node_port, self.node_port + len(self.clients))

    @property
    def host(self) -> str:
        """Where the nodes reach the server: a name or an IPv4 address."""
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        """Where the proxy listens, on all interfaces."""
        return int(self.address.rpartition(":")[2])

    def position(self, client: str) -> int:
        """Return a client's position in the scenario, from 0.

        Args:
            client: its node's name.

        Raises:
            SettingsError: there is none of this name.
        """
        if client not in self.clients:
            raise SettingsError(f"there is no client {client!r}; there are {', '.join(self.clients)}")
        return self.clients.index(client)
