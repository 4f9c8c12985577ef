"""The resources of a method's server half: its own base models and public samples, metered."""

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
from fedmosaic.adapters import TensorShapes
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.methods.aggregators.base import make_aggregator
from fedmosaic.methods.base import Aggregation, Method
from fedmosaic.methods.uploads import Uploads
from fedmosaic.training import Client, Meter


class ServerContext:
    """The :class:`~fedmosaic.methods.base.ServerState` of one run; models are loaded when a method first asks for one.

    Args:
        assets: of the run, as the server has them.
        adapters: of the same assets, where clients use them too; default: the server's own.
        scratch: where what is too large for memory goes; default: the system's folder for such files.

    Attributes:
        tensors: what the last aggregation asked to keep.
        round: the round whose downloads are made.
        spent: what trainees and aggregation cost so far.
        trainees: those of the round.
    """

    def __init__(self, assets: Assets, adapters: AdapterFactory | None = None, *, scratch: Path | None = None) -> None:
        self.tensors: Mapping[str, Tensor] = {}
        self.round = 0
        self.spent = Meter()
        self._assets = assets
        self._rule = make_aggregator(**dict(assets.settings.aggregation))
        self._adapters = AdapterFactory(assets) if adapters is None else adapters
        self.trainees: list[Client] = []
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
        return self._assets.method

    def trainee(self, client: int, *, rate: float = 1.0) -> Client:
        """Return a client of the server's own, untrained; see :class:`~fedmosaic.methods.base.ServerState`.

        Args:
            client: whose base model it has.
            rate: factor of the clients' learning rates.
        """
        spec = self._assets.settings.scenario.client(client)
        with torch.random.fork_rng():  # loading a model for the first time draws numbers; a resumed run does so later
            trainee = Client(spec, self._adapters.adapter(spec), self._assets, self.round, rate=rate)
        trainee.restore(self._adapters.start(spec))
        trainee.adapter.train()
        self.trainees.append(trainee)
        return trainee

    def announced(self, client: int) -> tuple[str, TensorShapes] | None:
        """Return the architecture and the uploads' shapes of a trainee; None for a method without any.

        Args:
            client: whose base model it has.
        """
        settings = self._assets.settings
        if not self.method.settings.public_needed(settings.training):
            return None
        with torch.random.fork_rng():
            adapter = self._adapters.adapter(settings.scenario.client(client))
        shapes = self.method.upload_shapes(adapter)
        return adapter.shape.architecture, {name: tuple(shape) for name, shape in shapes.items()}

    def aggregate(self, uploads: Uploads, tensors: Mapping[str, Tensor], round_: int) -> Aggregation:
        """Return the method's aggregation for a round, made with a fixed random seed, and meter its cost.

        Args:
            uploads: each client's last one.
            tensors: what the last aggregation asked to keep.
            round_: whose downloads are made.
        """
        self.tensors, self.round = tensors, round_
        self.trainees.clear()
        self.clear_scratch()
        torch.manual_seed(seeding.derive(self._assets.settings.seed, "server", round_))
        start = time.perf_counter()
        aggregation = self.method.aggregate(uploads.combined_by(self._rule), self)
        self.spent.seconds += time.perf_counter() - start
        self.spent.flops += sum(trainee.meter.flops for trainee in self.trainees)
        return aggregation

    def initial_download(
        self, architecture: str, shapes: Mapping[str, tuple[int, ...]], uploads: Uploads
    ) -> dict[str, Tensor]:
        """Return the method's download of a client without an upload; see :meth:`Method.initial_download`.

        Args:
            architecture: the newcomer's.
            shapes: of its uploads.
            uploads: the others'.
        """
        return self.method.initial_download(architecture, shapes, uploads.combined_by(self._rule))
