"""What every tracker logs: losses, scores, traffic, epsilon, relevance, settings. A tracker says only where it goes."""

from __future__ import annotations

import importlib
import json
import secrets
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedmosaic.config import RunSettings, dotted
from fedmosaic.errors import SettingsError
from fedmosaic.events import Step
from fedmosaic.federation import participation
from fedmosaic.federation.callbacks import Callback, Measured, RoundEnd, RunEnd, RunStart
from fedmosaic.io import load_json, write_atomically
from fedmosaic.training import steps_of

Pixels = NDArray[np.uint8]
Parameter = str | int | float | bool

ROUND = "round"
"""The axis of everything but the losses, which are over each client's own steps."""

_IDS = "tracking.json"
_SIDE = 256  # pixels of an image, about
_WHITE, _BLUE, _GREY = (np.array(colour) for colour in ((255.0, 255, 255), (31, 78, 156), (200, 200, 200)))


class Tracker(Callback):
    """Turns what a run tells into numbers and images with names; a subclass hands them to a library.

    ``loss/client-3`` is over the client's own steps of all rounds; the rest is over rounds: ``scores/self``,
    ``scores/others``, ``self/client-3``, ``others/client-3``, ``cost/bytes-up``, ``privacy/epsilon``, ... and the image
    ``relevance``. A run goes on if a tracker fails.

    Attributes:
        name: on the command line.
    """

    optional = True
    name: ClassVar[str]

    # ---- what a tracker implements -------------------------------------------------------------------------------

    @abstractmethod
    def open(self, run: RunStart, parameters: Mapping[str, Parameter]) -> None:
        """Begin, or go on with what was begun for this run folder.

        Args:
            run: settings, folder, and from which round it goes on.
            parameters: the settings by dotted name, without the list of clients.
        """

    @abstractmethod
    def scalars(self, values: Mapping[str, float], *, axis: str, at: int) -> None:
        """Log numbers.

        Args:
            values: by name.
            axis: what they are over: ``round``, or ``step/client-3``.
            at: the place on the axis.
        """

    @abstractmethod
    def image(self, name: str, pixels: Pixels, *, at: int) -> None:
        """Log an image.

        Args:
            name: of the image.
            pixels: (height, width, 3).
            at: the round.
        """

    @abstractmethod
    def close(self, *, done: bool) -> None:
        """Finish.

        Args:
            done: False if the run had to stop; it may go on later.
        """

    @property
    def view(self) -> str:
        """How to look at what was logged, e.g. a command; empty if there is nothing to say."""
        return ""

    # ---- what a run tells ----------------------------------------------------------------------------------------

    def on_run_start(self, record: RunStart) -> None:
        """Begin with the settings. See :meth:`Callback.on_run_start`."""
        self._settings = record.settings
        self._schedule = participation.schedule(record.settings)
        self._before: dict[tuple[int, int], int] = {}
        self.open(record, parameters(record.settings))

    def on_step(self, record: Step) -> None:
        """Log the loss of the client's own model, if there is one. See :meth:`Callback.on_step`."""
        if record.loss is None or record.proxy:
            return
        at = self._steps_before(record.client, record.round) + record.step
        self.scalars({f"loss/client-{record.client}": record.loss}, axis=f"step/client-{record.client}", at=at)

    def on_round_end(self, record: RoundEnd) -> None:
        """Log costs, what uploads tell, and who learns from whom. See :meth:`Callback.on_round_end`."""
        costs = record.costs
        values: dict[str, float] = {"cost/flops": costs.flops, "cost/seconds": costs.seconds}
        counted = {"cost/bytes-up": costs.total_bytes_up, "cost/bytes-down": costs.total_bytes_down}
        values |= {name: count for name, count in counted.items() if count is not None}
        if record.privacy is not None and record.privacy.epsilon is not None:
            values["privacy/epsilon"] = record.privacy.epsilon
            values |= {f"epsilon/client-{client}": told.epsilon for client, told in record.privacy.per_client.items()}
        self.scalars(values, axis=ROUND, at=record.round)
        if record.relevance is not None:
            self.image("relevance", heat_image(record.relevance.weights), at=record.relevance.round)

    def on_measure(self, record: Measured) -> None:
        """Log Self, Others, and each client's. See :meth:`Callback.on_measure`."""
        means = {"scores/self": record.self_mean, "scores/others": record.others_mean}
        values = {name: mean for name, mean in means.items() if mean is not None}
        values |= {f"self/client-{client}": score for client, score in record.own.items()}
        values |= {f"others/client-{client}": score for client, score in record.others.items()}
        self.scalars(values, axis=ROUND, at=record.round)

    def on_run_end(self, record: RunEnd) -> None:
        """Finish. See :meth:`Callback.on_run_end`."""
        self.close(done=record.results is not None)

    def _steps_before(self, client: int, round_: int) -> int:
        """How many steps a client has taken before a round, also where the run went on in between."""
        if (client, round_) not in self._before:
            trained = (earlier for earlier in range(1, round_) if client in self._schedule[earlier])
            self._before[client, round_] = sum(steps_of(self._settings, client, earlier) for earlier in trained)
        return self._before[client, round_]


def library(module: str, *, extra: str) -> Any:
    """Return a tracker's library, imported.

    Args:
        module: its name.
        extra: of the pip extra that brings it; also the tracker's name.

    Raises:
        SettingsError: it cannot be imported; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SettingsError(
            f"--track {extra} needs a library that cannot be imported ({error}); "
            f"install it: pip install 'fedmosaic[{extra}]'"
        ) from None


def title(settings: RunSettings) -> str:
    """Return a short name of a run: scenario, method, seed.

    Args:
        settings: of the run.
    """
    return f"{settings.scenario.name}-{settings.method}-seed{settings.seed}"


def kept_id(folder: Path, tracker: str, make: Callable[[], str] = secrets.token_hex) -> str:
    """Return the id under which a tracker knows the run of a folder; the same when the run goes on.

    Args:
        folder: of the run.
        tracker: its name.
        make: gives a new run its id.

    Raises:
        RunError: the file with the ids is damaged.
    """
    path = folder / _IDS
    kept = load_json(path, advice="remove it") if path.exists() else {}
    if tracker not in kept:
        kept[tracker] = make()
        write_atomically(path, json.dumps(kept) + "\n")
    return str(kept[tracker])


def parameters(settings: RunSettings) -> dict[str, Parameter]:
    """Return the settings by dotted name, e.g. ``training.steps``; of the clients only how many they are.

    Args:
        settings: of the run.
    """
    table = settings.model_dump(mode="json")
    table["scenario"]["clients"] = len(settings.scenario.clients)
    plain = {
        key: value if isinstance(value, Parameter) else json.dumps(value)
        for key, value in dotted(table)
        if not isinstance(value, Mapping)  # an empty table
    }
    return dict(sorted(plain.items()))


def heat_image(matrix: Tensor) -> Pixels:
    """A matrix as an image: white is 0, blue the largest entry, grey where there is none (NaN).

    Args:
        matrix: (N, N), not negative.

    Returns:
        (N c, N c, 3): c pixels a side for each entry.
    """
    values = matrix.detach().cpu().double().numpy()
    known = np.isfinite(values)
    top = max(float(values[known].max(initial=0.0)), 1e-12)
    share = np.clip(np.where(known, values, 0.0) / top, 0.0, 1.0)[..., None]
    cells = np.where(known[..., None], _WHITE + share * (_BLUE - _WHITE), _GREY)
    side = max(1, _SIDE // len(values))
    pixels: Pixels = np.rint(cells).astype(np.uint8).repeat(side, axis=0).repeat(side, axis=1)
    return pixels
