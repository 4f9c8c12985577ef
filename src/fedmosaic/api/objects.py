"""What a run is given as objects instead of files: tasks, pictures and base models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fedmosaic.alignment import MODES, NoAlignment
from fedmosaic.config import RunSettings, Scenario, validate
from fedmosaic.data.images import ImageSource
from fedmosaic.data.in_memory import IN_MEMORY, InMemoryBenchmark, Picture
from fedmosaic.data.sample import Task
from fedmosaic.errors import SettingsError
from fedmosaic.federation import Assets, engines
from fedmosaic.methods.registry import make_method
from fedmosaic.models import BaseModel
from fedmosaic.models.from_module import OwnModel


@dataclass(frozen=True)
class Objects:
    """Objects that stand in for files.

    Attributes:
        tasks: instead of the scenario's benchmark; those that no client has are unseen.
        images: the pictures that their samples name, by key.
        models: base models by the names that the scenario's clients use.
    """

    tasks: Sequence[Task] = ()
    images: Mapping[str, Picture] = field(default_factory=dict)
    models: Mapping[str, OwnModel] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tasks or self.models)

    def named_in(self, scenario: Scenario) -> Scenario:
        """Return a scenario that says what it takes from objects, as ``settings.toml`` shall show it.

        Args:
            scenario: as it was given.

        Raises:
            SettingsError: tasks were given, but the scenario has data of its own; or a model that no client uses.
        """
        if self.images and not self.tasks:
            raise SettingsError("images were given without tasks whose samples name them; give tasks=[...], too")
        changes: dict[str, object] = {}
        if self.tasks:
            if scenario.data:
                raise SettingsError(
                    f"the scenario reads its tasks from {scenario.data}, but tasks were given, too; leave one out"
                )
            changes["benchmark"] = IN_MEMORY
        used = {*scenario.models, *filter(None, [scenario.probe])}
        if unused := [name for name in self.models if name not in used]:
            raise SettingsError(
                f"no client uses the given model {unused[0]!r}; the scenario's clients use {', '.join(sorted(used))}"
            )
        if self.models:
            changes["given_models"] = sorted(self.models)
        if not changes:
            return scenario
        return validate(Scenario, scenario.model_dump() | changes, source=f"scenario {scenario.name}")

    def check(self, settings: RunSettings) -> None:
        """Make sure that everything is here that a run takes from objects, and that its engine can take them.

        Args:
            settings: of the run.

        Raises:
            SettingsError: something is missing, or the engine runs clients in other processes.
        """
        scenario = settings.scenario
        if scenario.benchmark == IN_MEMORY and not self.tasks:
            raise SettingsError(
                "the run's tasks were given as objects, which its folder does not hold; give them again: "
                "tasks=[...], images={...}"
            )
        if missing := [name for name in scenario.given_models if name not in self.models]:
            raise SettingsError(
                f"the base model {missing[0]!r} was given as an object, which the run's folder does not hold; give it "
                f"again: models={{{missing[0]!r}: fedmosaic.OwnModel(module, tokenizer)}}"
            )
        colora = settings.adapter.blocks and make_method(settings.method, settings.method_settings).colora
        aligned = settings.adapter.alignment in MODES and settings.adapter.alignment != NoAlignment.name
        if scenario.given_models and len(scenario.models) > 1 and colora and aligned:
            raise SettingsError(
                f"adapter.alignment={settings.adapter.alignment!r} aligns models by their names, which objects do not "
                "have; give adapter={'alignment': 'none'}, or the folder of an alignment"
            )
        if self and not engines.takes_objects(settings.engine):
            raise SettingsError(
                f"engine {settings.engine!r} runs clients in other processes, which cannot be given objects; use "
                "engine 'in-process', or a data folder and checkpoint folders"
            )

    def benchmark(self, scenario: Scenario) -> InMemoryBenchmark | None:
        """Return the given tasks as a benchmark, one for all runs of a scenario; None if none were given.

        Args:
            scenario: says which tasks clients train on, and which one is public.

        Raises:
            FedMosaicError: as :class:`~fedmosaic.data.in_memory.InMemoryBenchmark` does.
        """
        if not self.tasks:
            return None
        key = (tuple(scenario.task_names), scenario.public)
        if key not in self._benchmarks:
            self._benchmarks[key] = InMemoryBenchmark(
                self.tasks, images=self.images, trained=scenario.task_names, public=scenario.public
            )
        return self._benchmarks[key]

    def assets(self, settings: RunSettings, *, images: ImageSource | None = None, cache: Path | None = None) -> Assets:
        """Return what a run reads: these objects, and all else as the settings say.

        Args:
            settings: of the run.
            images: where images come from, if not from the tasks' pictures.
            cache: where image features are kept, if not in the user's cache folder.
        """

        def load(name: str) -> BaseModel:
            device = "cpu" if settings.model.offload else assets.device  # its pool brings it to the device
            return self.models[name].load(
                name, images=assets.images, home=assets.cache, device=device, dtype=settings.model.dtype
            )

        benchmark = self.benchmark(settings.scenario)
        assets = Assets(settings, benchmark=benchmark, models=_Loaded(self.models, load), images=images, cache=cache)
        return assets

    @cached_property
    def _benchmarks(self) -> dict[tuple[tuple[str, ...], str], InMemoryBenchmark]:
        return {}


class _Loaded(Mapping[str, BaseModel]):
    """Base models by name, made when they are first asked for."""

    def __init__(self, names: Mapping[str, object], load: Callable[[str], BaseModel]) -> None:
        self._names = names
        self._load = load
        self._models: dict[str, BaseModel] = {}

    def __getitem__(self, name: str) -> BaseModel:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._models:
            self._models[name] = self._load(name)
        return self._models[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
