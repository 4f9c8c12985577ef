"""One client's work among others': a thread that runs only when it is its turn."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from fedmosaic.adapters import Adapter
from fedmosaic.adapters.dropout import Draws
from fedmosaic.models import BaseModel, Batch
from fedmosaic.training.read_together import WantedReading
from fedmosaic.training.step_together import Trainee, WantedStep

_LANE: contextvars.ContextVar[Lane | None] = contextvars.ContextVar("lane", default=None)

Wanted = WantedStep | WantedReading


def current_lane() -> Lane | None:
    """Return the lane that this code runs in, if it is a client's among others."""
    return _LANE.get()


def own_adapter(adapter: Adapter) -> Adapter:
    """Return the adapter modules that a client is to work in: among others it has some of its own.

    Args:
        adapter: the modules that clients of one base model take turns in, otherwise.
    """
    lane = current_lane()
    return adapter if lane is None else lane.own(adapter)


def clock() -> float:
    """Return seconds from any start, without those in which other clients have worked."""
    lane = current_lane()
    return time.perf_counter() - (0.0 if lane is None else lane.idle)


class Seats(Protocol):
    """What a lane needs of its cohort."""

    def copy_of(self, adapter: Adapter) -> Adapter:
        """Return modules like an adapter's that nobody else has.

        Args:
            adapter: the common one.
        """
        ...

    def seat(self, client: Trainee) -> None:
        """Put a client's adapter into its base model.

        Args:
            client: with a copy.
        """
        ...


class _StoppedError(BaseException):
    """Ends a client's work that nobody waits for any more."""


class Lane:
    """One client's work.

    Args:
        cohort: that it is part of.
        work: what is done.
        device: where models compute.

    Attributes:
        wanted: the step or the reading that it waits for.
        outcome: the step's loss, or what was read, if that was done together with others'.
        share: seconds of the pass that are this client's.
        idle: seconds in which others have worked.
        ended: whether the work has.
        result: of the work.
        error: that it has ended with.
        draws: the client's random draws.
    """

    def __init__(self, cohort: Seats, work: Callable[[], Any], device: str) -> None:
        self.wanted: Wanted | None = None
        self.outcome: float | Tensor | None = None
        self.share = self.idle = 0.0
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.draws = Draws([] if device.startswith("cpu") else [device])
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
        loss = self._wait(wanted)
        assert not isinstance(loss, Tensor)
        return loss

    def read(self, model: BaseModel, batch: Batch) -> Tensor | None:
        """Let the others come to what they read, and return the hidden states; None if they are still to be computed.

        Args:
            model: reads.
            batch: what it reads.
        """
        client = next((each for each in self._clients if each.adapter is model.adapter), None)
        if client is None or client.adapter.on_changed_base:
            return None
        hidden = self._wait(WantedReading(client, batch))
        assert not isinstance(hidden, float)
        return hidden

    def _wait(self, wanted: Wanted) -> float | Tensor | None:
        start = time.perf_counter()
        self.wanted, self.outcome, self.share = wanted, None, 0.0
        self._back.release()
        self._go.acquire()
        if self._stopped:
            raise _StoppedError
        self.idle += time.perf_counter() - start - self.share
        outcome, self.outcome = self.outcome, None
        return outcome

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
        """Run until the next step or reading, or to the end."""
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
