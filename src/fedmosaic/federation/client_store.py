"""A client's own disk: its state after each round, keyed by run and client. Nothing in it is ever uploaded."""

from __future__ import annotations

import secrets
from pathlib import Path

from fedmosaic.errors import RunError
from fedmosaic.io import load_tensors, save_tensors, write_atomically
from fedmosaic.training import ClientState

_KEY_BYTES = 32


class ClientStore:
    """Keeps the last states: two or more, so that a round that the server repeats starts from the same state.

    Args:
        folder: the folder of this run and client.
        keep: how many states, at least 2.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder
        self._keep = keep
        self._latest: tuple[int, ClientState] | None = None

    def save(self, round_: int, state: ClientState) -> None:
        """Store a state and drop those too old to be asked for.

        Args:
            round_: after which the client is in this state.
            state: as :meth:`ClientState.tensors` writes it.
        """
        save_tensors(self._path(round_), state.tensors(), {"round": str(round_)})
        self._latest = (round_, state)
        old = sorted(self.folder.glob("round-*.safetensors"))[: -self._keep]
        for path in [*old, *self.folder.glob("exchanged-*.safetensors")]:  # the run goes on: it will exchange again
            path.unlink()

    def save_exchanged(self, round_: int, state: ClientState) -> None:
        """Store the state after the last exchange, beside the one after training.

        Args:
            round_: the last one.
            state: without moments; nothing trains on from it.
        """
        save_tensors(self._exchanged(round_), state.tensors(), {"round": str(round_)})

    def load_exchanged(self, round_: int) -> ClientState:
        """Return the state after the last exchange.

        Args:
            round_: the last one.

        Raises:
            RunError: there is none, or it is damaged.
        """
        return ClientState.from_tensors(load_tensors(self._exchanged(round_)))

    def load(self, round_: int) -> ClientState:
        """Return the state after a round.

        Args:
            round_: in which the client trained.

        Raises:
            RunError: there is none, or it is damaged.
        """
        if self._latest is not None and self._latest[0] == round_:
            return self._latest[1]
        return ClientState.from_tensors(load_tensors(self._path(round_)))

    @property
    def rounds(self) -> list[int]:
        """The rounds whose states are kept, ascending."""
        return sorted(int(path.stem.removeprefix("round-")) for path in self.folder.glob("round-*.safetensors"))

    def secret(self) -> bytes:
        """Return this client's key for this run: 32 random bytes that are drawn once and kept here.

        Raises:
            RunError: the file that holds them is damaged; another key would give another answer to a repeated message.
        """
        path = self.folder / "secret"
        if not path.exists():
            write_atomically(path, secrets.token_bytes(_KEY_BYTES))
            path.chmod(0o600)
        key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            raise RunError(f"{path} has {len(key)} bytes instead of {_KEY_BYTES}; the run in this folder must end here")
        return key

    def _exchanged(self, round_: int) -> Path:
        return self.folder / f"exchanged-{round_:04d}.safetensors"

    def _path(self, round_: int) -> Path:
        return self.folder / f"round-{round_:04d}.safetensors"
