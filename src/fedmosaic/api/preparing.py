"""Everything that can be refused or made before a run starts: data, models, adapters, image features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from fedmosaic import events
from fedmosaic.api.objects import Objects
from fedmosaic.api.reference import reference_of
from fedmosaic.api.telling import SILENT, Teller
from fedmosaic.config import RunSettings
from fedmosaic.data.sample import Sample, Task
from fedmosaic.data.texts import quoted
from fedmosaic.evaluation import indistinguishable_options
from fedmosaic.federation import engines
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.division import own_part
from fedmosaic.federation.input_digests import InputDigests
from fedmosaic.federation.name_checks import check_names, check_tasks
from fedmosaic.methods.registry import make_method
from fedmosaic.models.device import check_device, listed


def prepare(
    settings: RunSettings, *, objects: Objects | None = None, folder: Path | None = None, tell: Teller = SILENT
) -> None:
    """Check that the run can start and make what it needs; nothing is written to the run's folder.

    Args:
        settings: of the run.
        objects: what it is given as objects.
        folder: the clients' folder of a run that is to go on; what it has read must be there as it was.
        tell: shows what takes long.

    Raises:
        FedMosaicError: anything that would stop the run later.
    """
    given = objects or Objects()
    given.check(settings)
    if engines.is_elsewhere(settings.engine):
        make_method(settings.method, settings.method_settings)  # names and values; all else is on other machines
        return
    check_names(settings)
    method = make_method(settings.method, settings.method_settings)
    method.check_rule(settings.aggregation.rule)
    method.check(settings)
    check_device(settings.device)
    assets = given.assets(_one_at_a_time(settings))
    adapters = AdapterFactory(assets, kept_bases=folder and folder / "alignment")
    names = settings.scenario.task_names
    with tell.working("data: built on first use, then cached"):
        tasks = []
        for number, name in enumerate(names, start=1):
            tasks.append(assets.benchmark.task(name))
            events.work("tasks", number, len(names))
        if settings.scenario.public:
            assets.benchmark.task(settings.scenario.public)
        check_tasks(settings.scenario, assets.benchmark)
        for spec in settings.scenario.clients:
            for task in spec.tasks:
                own_part(assets.benchmark.task(task), spec)
        public = _public(settings, assets)
    skipped: list[str] = getattr(assets.benchmark, "skipped", [])
    if skipped:
        tell.note(f"left out {len(skipped)} record(s) that cannot be used; first: {skipped[0]}")
    for note in getattr(assets.benchmark, "notes", []):
        tell.note(note)
    _check_starts(settings, given)
    with tell.working("base models and their alignment: made on first use, then cached") as entitle:
        if folder:
            InputDigests.of(assets, folder).check_all()
        for spec in settings.scenario.clients:
            assets.pool.turn()
            adapters.adapter(spec)
            if (imported := adapters.imported(spec)) is not None:
                tell.note(f"client {spec.id} starts from {spec.start}: {imported.summary}")
        split = settings.evaluation.split
        for note in _same_options(assets, tasks, split):
            tell.note(note)
        samples: list[Sample] = [sample for task in tasks for sample in (*task.train, *task.split(split))]
        samples += public
        entitle("image features: computed on first use, then cached")
        assets.pool.prepare(settings.scenario.models, samples)


def _one_at_a_time(settings: RunSettings) -> RunSettings:
    """What several devices hold together, one need not: base models that are to be spread come one after another."""
    how = settings.model
    if len(listed(settings.device)) == 1 or how.quantisation != "none":  # quantised weights cannot be moved
        return settings
    return settings.model_copy(update={"model": how.model_copy(update={"offload": True})})


def _same_options(assets: Assets, tasks: Sequence[Task], split: Literal["test", "validation"]) -> Iterator[str]:
    """Yield a note for each task and model if the model cannot tell options apart: its scores mean less there."""
    for name in assets.settings.scenario.models:
        assets.pool.turn()
        for task in tasks:
            samples = task.split(split)
            if found := indistinguishable_options(assets.pool.model(name), samples):
                (first, options), *_ = found
                yield (
                    f"{task.name}: {len(found)} of {len(samples)} {split} samples have options that are the same words "
                    f"to {name} ({first.id}: {quoted(list(options))}); a choice among these counts as a guess"
                )


def _public(settings: RunSettings, assets: Assets) -> Sequence[Sample]:
    """Return the user's public samples that the run may read, so that they are looked at like the clients' own.

    Raises:
        SettingsError: the method, or the reference beside it, needs public samples, and the data have none or too few.
    """
    both = filter(None, (settings, reference_of(settings)))
    needed = [make_method(each.method, each.method_settings).settings.public_needed(each.training) for each in both]
    if not any(needed):
        return ()
    assets.benchmark.public(max(needed), seed=0)
    name = settings.scenario.public
    return assets.benchmark.task(name).train if name else ()


def _check_starts(settings: RunSettings, objects: Objects) -> None:
    """Refuse a client's LoRA before the alignment is made, which may take long and does not change what fits."""
    if bringing := [spec for spec in settings.scenario.clients if spec.start]:
        unaligned = settings.model_copy(update={"adapter": settings.adapter.model_copy(update={"alignment": "none"})})
        adapters = AdapterFactory(objects.assets(unaligned))
        for spec in bringing:
            adapters.imported(spec)
