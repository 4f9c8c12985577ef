"""A client's own disk: its state after each round, keyed by run and client. Nothing in it is ever uploaded."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from fedmosaic.errors import RunError
from fedmosaic.io import clear_temporaries, load_tensors, save_tensors, write_atomically
from fedmosaic.training import ClientState

_KEY_BYTES = 32
_REMAKE = "remove it and results.json, and fedmosaic run --resume makes it anew"


class ClientStore:
    """Keeps the last states: three or more, so that a round that the server repeats starts from the same state.

    The server's last checkpoint may be a round behind the client, and one round more if it was damaged.

    Args:
        folder: the folder of this run and client.
        keep: how many states, at least 3.
    """

    def __init__(self, folder: Path, *, keep: int = 3) -> None:
        self.folder = folder
        self._keep = keep
        self._latest: tuple[int, ClientState] | None = None

    def save(self, round_: int, state: ClientState) -> None:
        """Store a state and drop those too old to be asked for.

        Args:
            round_: after which the client is in this state.
            state: as :meth:`ClientState.tensors` writes it.
        """
        clear_temporaries(self.folder)
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
        clear_temporaries(self.folder)
        save_tensors(self._exchanged(round_), state.tensors(), {"round": str(round_)})

    def load_exchanged(self, round_: int) -> ClientState:
        """Return the state after the last exchange.

        Args:
            round_: the last one.

        Raises:
            RunError: there is none, or it is damaged.
        """
        return ClientState.from_tensors(load_tensors(self._exchanged(round_), advice=_REMAKE))

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
            drawn = secrets.token_bytes(_KEY_BYTES)
            write_atomically(path, drawn + _checksum(drawn), mode=0o600)
        found = path.read_bytes()
        key, check = found[:_KEY_BYTES], found[_KEY_BYTES:]
        if check != _checksum(key) and (check or len(key) != _KEY_BYTES):  # earlier versions wrote the key only
            raise RunError(f"{path} ({len(found)} bytes) is damaged; the run in this folder must end here")
        return key

    def _exchanged(self, round_: int) -> Path:
        return self.folder / f"exchanged-{round_:04d}.safetensors"

    def _path(self, round_: int) -> Path:
        return self.folder / f"round-{round_:04d}.safetensors"


def _checksum(key: bytes) -> bytes:
    """Return a key's checksum, which tells nothing that the key itself does not."""
    return hashlib.blake2b(key, digest_size=16).digest()
