"""What a method's server half may compute with: its own base models and public samples, metered."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedmosaic import seeding
from fedmosaic.config import RunSettings
from fedmosaic.federation.runtime import Runtime
from fedmosaic.methods.base import Aggregation, Method, Uploads
from fedmosaic.training import Client, Meter


class ServerContext:
    """The :class:`~fedmosaic.methods.base.ServerState` of one run; models are loaded when a method first asks for one.

    Args:
        settings: of the run.
        machine: whose base models and samples it uses; default: its own.
        scratch: where what is too large for memory goes; default: the system's folder for such files.

    Attributes:
        tensors: what the last aggregation asked to keep.
        round: the round whose downloads are made.
        spent: what trainees and aggregation cost so far.
    """

    def __init__(self, settings: RunSettings, machine: Runtime | None = None, *, scratch: Path | None = None) -> None:
        self.tensors: Mapping[str, Tensor] = {}
        self.round = 0
        self.spent = Meter()
        self._machine = machine or Runtime(settings, Path("unused"))
        self._trainees: list[Client] = []
        self._scratch_parent = scratch
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def scratch(self) -> Path:
        """Made when it is first asked for in a round."""
        if self._scratch is None:
            if self._scratch_parent is not None:
                self._scratch_parent.mkdir(parents=True, exist_ok=True)
            self._scratch = tempfile.TemporaryDirectory(prefix="scratch-", dir=self._scratch_parent)
        return Path(self._scratch.name)

    def clear_scratch(self) -> None:
        """Delete what an aggregation has left on disk."""
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
        if self._scratch_parent is not None:  # a killed run leaves some
            shutil.rmtree(self._scratch_parent, ignore_errors=True)

    @property
    def method(self) -> Method[Any]:
        """The method whose server half this is."""
        return self._machine.method

    def trainee(self, client: int, *, rate: float = 1.0) -> Client:
        """A client of the server's own, untrained; see :class:`~fedmosaic.methods.base.ServerState`."""
        machine = self._machine
        spec = machine.settings.scenario.client(client)
        settings = machine.settings.with_rates(rate)
        with torch.random.fork_rng():  # loading a model for the first time draws numbers; a resumed run does so later
            base, adapter = machine.pool.model(spec.model), machine.adapter(spec)
        trainee = Client(
            spec,
            base=base,
            adapter=adapter,
            stream=None,
            pool=machine.pool,
            settings=settings,
            round_=self.round,
            public=machine.public,
        )
        trainee.restore(machine.start(spec))
        trainee.adapter.train()
        self._trainees.append(trainee)
        return trainee

    def aggregate(self, uploads: Uploads, tensors: Mapping[str, Tensor], round_: int) -> Aggregation:
        """Let the method make a round's downloads, reproducibly, and meter what it costs."""
        self.tensors, self.round = tensors, round_
        self._trainees.clear()
        self.clear_scratch()
        torch.manual_seed(seeding.derive(self._machine.settings.seed, "server", round_))
        start = time.perf_counter()
        aggregation = self.method.aggregate(uploads, self)
        self.spent.seconds += time.perf_counter() - start
        self.spent.flops += sum(trainee.meter.flops for trainee in self._trainees)
        return aggregation
