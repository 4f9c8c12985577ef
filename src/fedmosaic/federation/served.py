"""What a ServerApp tells whoever started the run, in the run's log: what happens, and the files at the end.

Flower's log of a run is the one way from a ServerApp to the machine that submitted it. Other lines of the log are no
concern of ours; ours begin with a mark and hold one JSON object each.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedmosaic.config import RunSettings
from fedmosaic.errors import RunError
from fedmosaic.events import Trained
from fedmosaic.federation.callbacks import (
    Callback,
    Callbacks,
    Checkpoint,
    Measured,
    Relevance,
    RoundEnd,
    RoundStart,
    RunEnd,
    RunStart,
    Warned,
)
from fedmosaic.federation.results import Costs, Missing, PrivacyAccount, parsed
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.io import write_atomically

MARK = "@fedmosaic "

_PART = 48_000
_LARGEST = 2**30
_STAY = {"checkpoints", "uploads", "scratch", "clients", "reference"}
_NAME = re.compile(r"(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_LAST = "results.json"  # its existence means that the run is done

Say = Callable[[str], object]


def to_log(line: str) -> None:
    """Write one line where Flower takes the run's log from; in one piece, as other threads write, too.

    Args:
        line: without its end.
    """
    sys.stdout.write(line + "\n")


class Teller(Callback):
    """Tells what happens, on the server.

    Args:
        say: takes one line.
    """

    def __init__(self, say: Say = to_log) -> None:
        self._say = say

    def on_run_start(self, record: RunStart) -> None:
        """Tell from where the run goes on. See :meth:`Callback.on_run_start`."""
        self._tell("on_run_start", {"round": record.round})

    def on_round_start(self, record: RoundStart) -> None:
        """Tell which round begins. See :meth:`Callback.on_round_start`."""
        self._tell("on_round_start", dataclasses.asdict(record))

    def on_trained(self, record: Trained) -> None:
        """Tell who has trained. See :meth:`Callback.on_trained`."""
        self._tell("on_trained", dataclasses.asdict(record))

    def on_missing(self, record: Missing) -> None:
        """Tell who is missing. See :meth:`Callback.on_missing`."""
        self._tell("on_missing", dataclasses.asdict(record))

    def on_round_end(self, record: RoundEnd) -> None:
        """Tell costs, privacy and relevance. See :meth:`Callback.on_round_end`."""
        self._tell("on_round_end", dataclasses.asdict(record))

    def on_measure(self, record: Measured) -> None:
        """Tell Self and Others. See :meth:`Callback.on_measure`."""
        self._tell("on_measure", dataclasses.asdict(record))

    def on_checkpoint(self, record: Checkpoint) -> None:
        """Tell from where the run can go on. See :meth:`Callback.on_checkpoint`."""
        self._tell("on_checkpoint", dataclasses.asdict(record))

    def on_warning(self, record: Warned) -> None:
        """Pass the warning on. See :meth:`Callback.on_warning`."""
        self._tell("on_warning", dataclasses.asdict(record))

    def _tell(self, moment: str, record: Mapping[str, Any]) -> None:
        self._say(MARK + json.dumps({"moment": moment, "record": record}, default=_plain))


def tell_files(folder: RunFolder, say: Say = to_log) -> None:
    """Tell all that whoever started the run is to have of its folder; what the run goes on from stays.

    Args:
        folder: of the finished run.
        say: takes one line.
    """
    paths = [path for path in sorted(folder.path.rglob("*")) if path.is_file()]
    names = [path.relative_to(folder.path).as_posix() for path in paths]
    wanted = [name for name in names if _NAME.fullmatch(name) and name.split("/", maxsplit=1)[0] not in _STAY]
    for name in sorted(wanted, key=lambda name: name == _LAST):
        content = (folder.path / name).read_bytes()
        text = base64.b64encode(zlib.compress(content, 6)).decode()
        parts = [text[start : start + _PART] for start in range(0, len(text), _PART)]
        about = {"file": name, "digest": hashlib.sha256(content).hexdigest(), "parts": len(parts)}
        for number, part in enumerate(parts):
            say(MARK + json.dumps({**about, "part": number, "data": part}))


class Listener:
    """Hears it, on the machine that started the run.

    Args:
        settings: of the run.
        folder: where the files are to be.
        callbacks: hear what happens.
        other: takes the lines that are not ours.
    """

    def __init__(
        self,
        settings: RunSettings,
        folder: RunFolder,
        callbacks: Sequence[Callback],
        other: Callable[[str], object] = lambda line: None,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._callbacks = Callbacks(callbacks)
        self._other = other
        self._parts: dict[str, list[str]] = {}
        self._measured: Measured | None = None
        self._record: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "on_run_start": lambda table: RunStart(settings, folder.path, table.get("round")),
            "on_round_end": self._round_end,
            "on_measure": self._measure,
            "on_round_start": partial(self._parsed, RoundStart),
            "on_trained": partial(self._parsed, Trained),
            "on_missing": partial(self._parsed, Missing),
            "on_checkpoint": partial(self._parsed, Checkpoint),
            "on_warning": partial(self._parsed, Warned),
        }

    def hear(self, pieces: Iterable[str]) -> None:
        """Hear all of a run's log.

        Args:
            pieces: of text, cut anywhere.

        Raises:
            RunError: a line is not what the server says, or a file has not arrived whole.
        """
        try:
            for line in _lines(pieces):
                if line.startswith(MARK):
                    self._heard(line.removeprefix(MARK))
                elif line.strip():
                    self._other(line)
        finally:
            self._callbacks.on_run_end(RunEnd(self._folder.results(), self._measured))

    def _heard(self, text: str) -> None:
        try:
            table = json.loads(text)
            if "file" in table:
                self._part(table)
            elif (moment := table.get("moment")) in self._record:
                getattr(self._callbacks, moment)(self._record[moment](table["record"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error) as error:
            raise RunError(f"the run's log has a line that cannot be read ({type(error).__name__}: {error})") from None

    def _part(self, table: Mapping[str, Any]) -> None:
        name, parts = str(table["file"]), self._parts.setdefault(str(table["file"]), [])
        if not _NAME.fullmatch(name) or name.split("/", maxsplit=1)[0] in _STAY or table["part"] != len(parts):
            raise RunError(f"the run's log has part {table['part']} of a file {name!r}, which is not expected there")
        parts.append(str(table["data"]))
        if len(parts) < int(table["parts"]):
            return
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(base64.b64decode("".join(self._parts.pop(name)), validate=True), _LARGEST)
        if hashlib.sha256(content).hexdigest() != table["digest"]:
            raise RunError(f"{name} has not arrived as it was sent; fedmosaic run --resume brings it again")
        if name != "settings.toml":  # those are ours
            write_atomically(self._folder.path / name, content)

    def _measure(self, table: dict[str, Any]) -> Measured:
        self._measured = self._parsed(Measured, table)
        return self._measured

    def _round_end(self, table: dict[str, Any]) -> RoundEnd:
        told, related = table["privacy"], table["relevance"]
        privacy = None if told is None else self._parsed(PrivacyAccount, told)
        relevance = None
        if related is not None:
            similarity = None if related["similarity"] is None else torch.tensor(related["similarity"])
            relevance = Relevance(int(related["round"]), torch.tensor(related["weights"]), similarity)
        return RoundEnd(int(table["round"]), self._parsed(Costs, table["costs"]), privacy, relevance)

    def _parsed(self, kind: type[Any], table: Mapping[str, Any]) -> Any:
        return parsed(kind, table, path=Path("the run's log"), advice="install the same fedmosaic on both machines")


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from whole
    if rest:
        yield rest


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be told")
