"""What a run reads, opened when it is first needed: settings, data, base models, public samples, alignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fedmosaic import seeding
from fedmosaic.alignment import Alignment
from fedmosaic.config import ClientSpec, RunSettings, home
from fedmosaic.data.benchmark import Benchmark, load_benchmark
from fedmosaic.data.images import ImageSource
from fedmosaic.data.sample import Sample
from fedmosaic.federation import participation
from fedmosaic.federation.alignment import alignment_for
from fedmosaic.methods.base import Method
from fedmosaic.methods.registry import make_method
from fedmosaic.models import BaseModel
from fedmosaic.models.device import listed
from fedmosaic.models.wording import Wording
from fedmosaic.training import ModelPool


class Assets:
    """What a run reads; nothing is opened before it is asked for, and everything once.

    Args:
        settings: the run's.
        benchmark: used instead of the scenario's.
        models: used instead of the models that their names would load.
        images: where images come from, if not from the benchmark, which is then opened for samples only.
        cache: where image features and base models' scores are kept; default: the user's cache folder.
        alignment: Co-LoRA's frozen bases, instead of those that the settings name.
        pool: kind of the pool of base models.

    Attributes:
        settings: the run's.
        cache: see above.
    """

    def __init__(
        self,
        settings: RunSettings,
        *,
        benchmark: Benchmark | None = None,
        models: Mapping[str, BaseModel] | None = None,
        images: ImageSource | None = None,
        cache: Path | None = None,
        alignment: Alignment | None = None,
        pool: type[ModelPool] = ModelPool,
    ) -> None:
        self.settings = settings
        self.cache = home() if cache is None else cache
        self._benchmark = benchmark
        self._models = models or {}
        self._images = images
        self._alignment = alignment
        self._pool = pool

    def with_settings(self, settings: RunSettings) -> Assets:
        """Return the same data and base models, opened once for both, for a run with other settings.

        Adapters of both must not be attached at the same time.

        Args:
            settings: of the same scenario, device and dtype.
        """
        other = Assets(
            settings,
            benchmark=self.benchmark,
            models=self._models,
            images=self._images,
            cache=self.cache,
            alignment=self._alignment,
            pool=self._pool,
        )
        other.__dict__["pool"] = self.pool  # as if it had been asked for
        return other

    @cached_property
    def benchmark(self) -> Benchmark:
        """The tasks and images.

        Raises:
            SettingsError: there is no such benchmark, or no folder for its data.
            DataError: the data cannot be built or read.
        """
        if self._benchmark is not None:
            return self._benchmark
        scenario = self.settings.scenario
        return load_benchmark(
            scenario.benchmark,
            home=home(),
            folder=Path(scenario.data) if scenario.data else None,
            skip_bad=scenario.skip_bad,
            open_tasks=scenario.open_tasks,
            public=scenario.public,
            columns=scenario.columns,
        )

    @property
    def images(self) -> ImageSource:
        """Gives all samples' images by key."""
        return self.benchmark.images if self._images is None else self._images

    @property
    def device(self) -> str:
        """Where these base models compute: the first of the run's devices; clients on another one have assets there."""
        return listed(self.settings.device)[0]

    @cached_property
    def pool(self) -> ModelPool:
        """The base models.

        Raises:
            SettingsError: the settings' device is not there.
        """
        own = self.settings
        return self._pool(
            images=self.images,
            home=self.cache,
            device=self.device,
            dtype=own.model.dtype,
            attention=own.model.attention,
            quantisation=own.model.quantisation,
            autocast={"auto": None, "on": True, "off": False}[own.model.autocast],
            wording=Wording(own.scenario.system, own.scenario.template),
            offload=own.model.offload,
            feature_cache=own.model.feature_cache,
            given=self._models,
        )

    def public(self, count: int, round_: int) -> Sequence[Sample]:
        """Return public samples of one round: the same on the server and on all clients, others in each round.

        Args:
            count: how many.
            round_: whose.

        Raises:
            SettingsError: the benchmark has none.
        """
        return self.benchmark.public(count, seeding.derive(self.settings.seed, "public", round_))

    @cached_property
    def method(self) -> Method[Any]:
        """The federated method, prepared: this is the one place where it gets what its client half needs.

        Raises:
            SettingsError: there is no such method, or it does not know a setting.
        """
        method = make_method(self.settings.method, self.settings.method_settings)
        method.prepare(self)
        return method

    @cached_property
    def alignment(self) -> Alignment | None:
        """Co-LoRA's frozen bases, the same for all clients of an architecture; None where each draws its own.

        Raises:
            SettingsError: the alignment that the settings name does not fit the models.
        """
        if self._alignment is not None:
            return self._alignment
        shape = self.method.adapter_settings(self.settings.adapter)
        return alignment_for(
            self.settings.scenario.models,
            lambda name: self.pool.known(name).architecture,
            home=home(),
            rank=shape.rank,
            blocks=shape.blocks,
            mode=shape.alignment,
            device=self.device,
            dtype=self.settings.model.dtype,
            offload=self.settings.model.offload,
        )

    # ---- who trains when, which follows from the settings ---------------------------------------------------------

    @cached_property
    def schedule(self) -> participation.Schedule:
        """The ids of the clients that train in each round."""
        return participation.schedule(self.settings)

    def rounds_trained(self, spec: ClientSpec, *, until: int) -> list[int]:
        """Return the rounds up to one in which a client trains, ascending.

        Args:
            spec: who the client is.
            until: the last round that is meant.
        """
        return [each for each in spec.rounds(self.settings.rounds) if each <= until and spec.id in self.schedule[each]]


AssetsOf = Callable[[RunSettings], Assets]
"""Opens what a run with these settings reads; in one process, it may hand in objects instead."""
