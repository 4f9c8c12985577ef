"""Clients that train side by side: whenever all wait for a step, steps of one kind are taken in one pass.

Each client's work is ordinary code that knows nothing of the others. It runs in a thread of its own, but only one
thread runs at a time, and which one depends on the clients' order alone: a thread runs until its client wants a step or
has ended, then the next one runs. Weights, moments and random draws are each client's own throughout.
"""

from __future__ import annotations

import contextvars
import itertools
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch

from fedmosaic import events
from fedmosaic.adapters import Adapter
from fedmosaic.adapters.cohort import CohortAdapter, NotTogetherError
from fedmosaic.adapters.dropout import Draws
from fedmosaic.models import BaseModel
from fedmosaic.training.step_together import Trainee, WantedStep, step_together

_LANE: contextvars.ContextVar[Lane | None] = contextvars.ContextVar("lane", default=None)


def current_lane() -> Lane | None:
    """Return the lane that this code runs in, if it is a client's among others."""
    return _LANE.get()


def own_adapter(adapter: Adapter) -> Adapter:
    """Return the adapter modules that a client is to train in: among others it has some of its own.

    Args:
        adapter: the modules that clients of one base model take turns in, otherwise.
    """
    lane = current_lane()
    return adapter if lane is None else lane.own(adapter)


class _StoppedError(BaseException):
    """Ends a client's work that nobody waits for any more."""


class Lane:
    """One client's work.

    Args:
        cohort: that it is part of.
        work: what is done.
        device: where models compute.

    Attributes:
        wanted: the step that it waits for.
        loss: of that step, if it was taken together with others'.
        share: seconds of the pass that are this client's.
        idle: seconds in which others have worked.
        ended: whether the work has.
        result: of the work.
        error: that it has ended with.
        draws: the client's random draws.
    """

    def __init__(self, cohort: Cohort, work: Callable[[], Any], device: str) -> None:
        self.wanted: WantedStep | None = None
        self.loss: float | None = None
        self.share = self.idle = 0.0
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.draws = Draws([] if device == "cpu" else [device])
        self._cohort = cohort
        self._work = work
        self._clients: list[Trainee] = []
        self._stopped = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self.draws.keep()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)
        self._thread.start()

    # ---- in the client's thread

    def enter(self, client: Trainee) -> None:
        """Take a client in, which from now on is in its base model whenever this lane runs.

        Args:
            client: with modules of its own.
        """
        self._clients.append(client)
        self._cohort.seat(client)

    def own(self, adapter: Adapter) -> Adapter:
        """Return modules of this lane's own.

        Args:
            adapter: the common ones.
        """
        copy = self._cohort.copy_of(adapter)
        copy.proxy = None if adapter.proxy is None else self._cohort.copy_of(adapter.proxy)
        return copy

    def step(self, wanted: WantedStep) -> float | None:
        """Let the others come to their steps, and return the loss of this one; None if it is still to be taken.

        Args:
            wanted: the step.
        """
        start = time.perf_counter()
        self.wanted, self.loss, self.share = wanted, None, 0.0
        self._back.release()
        self._go.acquire()
        if self._stopped:
            raise _StoppedError
        self.idle += time.perf_counter() - start - self.share
        return self.loss

    def _run(self) -> None:
        self._go.acquire()
        _LANE.set(self)
        try:
            if not self._stopped:
                self.result = self._work()
        except _StoppedError:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self._back.release()

    # ---- in the thread that drives them

    def go(self) -> None:
        """Run until the next step, or to the end."""
        self.wanted = None
        for client in self._clients:
            self._cohort.seat(client)
        self.draws.give()
        self._go.release()
        self._back.acquire()
        self.draws.keep()

    def stop(self) -> None:
        """End the work, whatever it is at."""
        self._stopped = True
        self._go.release()  # it may be running now, after an interruption of who waits for it: then at its next step
        self._thread.join()


class Cohort:
    """Trains clients side by side.

    Args:
        most: clients at once.
        device: where models compute.
        padding: how many more positions a pass may have than the batches in it, as a share of theirs: clients whose
            sequences are much shorter than the longest are taken in a pass of their own.

    Attributes:
        most: see above.
    """

    def __init__(self, most: int, device: str = "cpu", *, padding: float = math.inf) -> None:
        self.most = most
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

    def _go_home(self) -> None:
        """Leave the common adapters in the base models."""
        for base, adapter in self._homes.items():
            assert isinstance(base.adapter, Adapter)
            adapter.take_place_of(base.adapter)
            base.adapter = adapter
        self._homes.clear()

    def _serve(self, waiting: Sequence[Lane]) -> None:
        """Take the steps that can be taken together; those that are left are taken by their clients."""
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
        """Try a step of some clients; False if that took more memory than there is."""
        start, states = time.perf_counter(), [lane.draws.states() for lane in lanes]
        wanted = [lane.wanted for lane in lanes if lane.wanted is not None]
        failed: str | None = None
        fits = True
        try:
            losses = step_together(wanted, self._carrier(wanted[0].client), [lane.draws for lane in lanes])
        except torch.OutOfMemoryError:
            fits = False
        except Exception as error:  # of one client's batch, maybe: alone, it fails alone
            failed = str(error) if isinstance(error, NotTogetherError) else f"{type(error).__name__}: {error}"
        else:
            for lane, loss in zip(lanes, losses, strict=True):
                lane.loss, lane.share = loss, (time.perf_counter() - start) / len(lanes)
            return True
        for lane, state in zip(lanes, states, strict=True):
            lane.draws.load(state)
        if fits:
            self._tell(wanted, failed or "")
        else:
            self._halve(len(lanes))
        return fits

    def _halve(self, clients: int) -> None:
        self._width = (clients + 1) // 2
        if self._device != "cpu":
            torch.accelerator.empty_cache()
        how = f"{self._width} at once" if self._width > 1 else "one by one"
        text = f"the memory of {self._device} does not suffice for a step of {clients} clients; they go on {how}"
        events.emit("note", text=text)

    def _tell(self, wanted: Sequence[WantedStep], why: str) -> None:
        """Say once that clients of a base model take steps one by one."""
        base = wanted[0].client.base
        if (base, why) not in self._told:
            self._told.add((base, why))
            names = ", ".join(str(each.client.id) for each in wanted)
            text = f"clients {names} take steps of {base.name} one by one: {' '.join(why.split())[:300]}"
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
