"""Clients that work side by side: whenever all wait for a step or a reading, those of one kind are done in one pass.

Each client's work is ordinary code that knows nothing of the others. It runs in a thread of its own, but only one
thread runs at a time, and which one depends on the clients' order alone: a thread runs until its client wants a step,
or a batch read while it is scored, or has ended; then the next one runs. Weights, moments and random draws are each
client's own throughout.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fedmosaic import events
from fedmosaic.adapters import Adapter
from fedmosaic.adapters.cohort import CohortAdapter, NotTogetherError
from fedmosaic.adapters.dropout import Draws
from fedmosaic.models import BaseModel, Batch
from fedmosaic.training.lane import Lane, Wanted, current_lane
from fedmosaic.training.read_together import read_together
from fedmosaic.training.step_together import Trainee, WantedStep, step_together


class Cohort:
    """Trains clients side by side, and scores them so.

    Args:
        most: clients at once.
        device: where models compute.
        padding: how many more positions a pass may have than the batches in it, as a share of theirs: clients whose
            sequences are much shorter than the longest are taken in a pass of their own.
        reads: whether clients are scored side by side, too.

    Attributes:
        most: see above.
        reads: see above.
    """

    def __init__(self, most: int, device: str = "cpu", *, padding: float = math.inf, reads: bool = True) -> None:
        self.most = most
        self.reads = reads
        self._device = device
        self._padding = padding
        self._width = most
        self._copies: dict[Adapter, list[Adapter]] = {}
        self._lent: dict[Adapter, int] = {}
        self._homes: dict[BaseModel, Adapter] = {}
        self._carriers: dict[BaseModel, CohortAdapter] = {}
        self._told: set[Hashable] = set()

    def run(self, works: Sequence[Callable[[], Any]], *, raises: bool) -> list[Any]:
        """Do what each of some clients has to do.

        Args:
            works: of each client.
            raises: whether the first error of a client ends all; else it ends this client's work only.

        Returns:
            The result or the error of each.
        """
        lanes = [Lane(self, work, self._device) for work in works]
        self._lent.clear()

        def go(lane: Lane) -> None:
            lane.go()
            if lane.error is not None and (raises or not isinstance(lane.error, Exception)):
                raise lane.error

        try:
            for lane in lanes:
                go(lane)
            while waiting := [lane for lane in lanes if not lane.ended]:
                self._serve(waiting)
                for lane in waiting:
                    go(lane)
        finally:
            for lane in lanes:
                lane.stop()
            self._go_home()
        return [lane.error or lane.result for lane in lanes]

    def copy_of(self, adapter: Adapter) -> Adapter:
        """Return modules like an adapter's that nobody in this cohort has yet.

        Args:
            adapter: the common one.
        """
        copies, taken = self._copies.setdefault(adapter, []), self._lent.get(adapter, 0)
        if taken == len(copies):
            copies.append(adapter.beside())
            copies[-1].folds = not self.reads  # weights that are folded in are one client's
        self._lent[adapter] = taken + 1
        return copies[taken]

    def seat(self, client: Trainee) -> None:
        """Put a client's adapter into its base model.

        Args:
            client: with a copy.
        """
        former = client.base.adapter
        assert isinstance(former, Adapter)
        self._homes.setdefault(client.base, former)
        client.adapter.take_place_of(former)
        client.base.adapter = client.adapter
        client.base.together = self._read if self.reads else None

    def _go_home(self) -> None:
        """Leave the common adapters in the base models."""
        for base, adapter in self._homes.items():
            assert isinstance(base.adapter, Adapter)
            adapter.take_place_of(base.adapter)
            base.adapter, base.together = adapter, None
        self._homes.clear()

    def _read(self, model: BaseModel, batch: Batch) -> Tensor | None:
        lane = current_lane()
        return None if lane is None else lane.read(model, batch)

    def _serve(self, waiting: Sequence[Lane]) -> None:
        """Do what can be done together; what is left is done by its clients."""
        kinds: dict[Hashable, list[Lane]] = {}
        for lane in waiting:
            assert lane.wanted is not None
            kinds.setdefault(lane.wanted.kind, []).append(lane)
        for lanes in kinds.values():
            lengths = [0 if lane.wanted is None else lane.wanted.length for lane in lanes]
            for part in alike(lengths, self._padding):
                self._take([lanes[place] for place in part])

    def _take(self, lanes: Sequence[Lane]) -> None:
        for start in range(0, len(lanes), self._width):
            part = lanes[start : start + self._width]
            if len(part) > 1 and not self._taken(part):
                self._take(lanes[start:])  # in smaller parts from now on
                return

    def _taken(self, lanes: Sequence[Lane]) -> bool:
        """Try a step or a reading of some clients; False if that took more memory than there is."""
        start, states = time.perf_counter(), [lane.draws.states() for lane in lanes]
        wanted = [lane.wanted for lane in lanes if lane.wanted is not None]
        failed: str | None = None
        fits = True
        try:
            outcomes = self._done(wanted, [lane.draws for lane in lanes])
        except torch.OutOfMemoryError:
            fits = False
        except Exception as error:  # of one client's batch, maybe: alone, it fails alone
            failed = str(error) if isinstance(error, NotTogetherError) else f"{type(error).__name__}: {error}"
        else:
            for lane, outcome, state in zip(lanes, outcomes, states, strict=True):
                lane.outcome, lane.share = outcome, (time.perf_counter() - start) / len(lanes)
                if outcome is None:  # the client takes the step itself
                    lane.draws.load(state)
            return True
        for lane, state in zip(lanes, states, strict=True):
            lane.draws.load(state)
        if fits:
            self._tell(wanted, failed or "")
        else:
            self._halve(len(lanes))
        return fits

    def _done(self, wanted: Sequence[Wanted], draws: Sequence[Draws]) -> Sequence[float | Tensor | None]:
        """Take steps, which are all of one kind, or read."""
        carrier, steps = self._carrier(wanted[0].client), [each for each in wanted if isinstance(each, WantedStep)]
        if steps:
            return step_together(steps, carrier, draws)
        return read_together([each for each in wanted if not isinstance(each, WantedStep)], carrier)

    def _halve(self, clients: int) -> None:
        self._width = (clients + 1) // 2
        if not self._device.startswith("cpu"):
            torch.accelerator.empty_cache()
        how = f"{self._width} at once" if self._width > 1 else "one by one"
        text = f"the memory of {self._device} does not suffice for {clients} clients in one pass; they go on {how}"
        events.emit("note", text=text)

    def _tell(self, wanted: Sequence[Wanted], why: str) -> None:
        """Say once that clients of a base model work one by one."""
        base = wanted[0].client.base
        if (base, why) not in self._told:
            self._told.add((base, why))
            names = ", ".join(str(each.client.id) for each in wanted)
            what = "take steps of" if isinstance(wanted[0], WantedStep) else "are scored with"
            text = f"clients {names} {what} {base.name} one by one: {' '.join(why.split())[:300]}"
            events.emit("note", text=text)

    def _carrier(self, client: Trainee) -> CohortAdapter:
        if client.base not in self._carriers:
            self._carriers[client.base] = CohortAdapter(client.adapter)
        return self._carriers[client.base]


def alike(lengths: Sequence[int], padding: float) -> Iterator[list[int]]:
    """Yield the places, in their order, of lengths that can be padded to one; the longest ones first.

    Args:
        lengths: of sequences.
        padding: at most so much is added to a group, as a share of the sum of its lengths.

    Yields:
        Places, each once.
    """
    rest = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while rest:
        sums = itertools.accumulate(lengths[place] for place in rest)
        fit = [n for n, total in enumerate(sums, start=1) if lengths[rest[0]] * n <= (1 + padding) * total]
        yield sorted(rest[: fit[-1]])
        rest = rest[fit[-1] :]
