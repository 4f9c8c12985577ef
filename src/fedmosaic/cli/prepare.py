"""Everything that can be refused or made before a run starts: data, models, adapters, image features."""

from __future__ import annotations

from rich.console import Console

from fedmosaic.config import RunSettings, home
from fedmosaic.data.sample import Sample
from fedmosaic.errors import SettingsError
from fedmosaic.federation import Machine
from fedmosaic.federation.division import own_part
from fedmosaic.federation.names import check_names, check_tasks


def prepare(settings: RunSettings, console: Console) -> None:
    """Check that the run can start and make what it needs; nothing is written to the run's folder.

    Raises:
        FedMosaicError: anything that would stop the run later.
    """
    check_names(settings)
    if settings.engine != "in-process":
        raise SettingsError(f"engine {settings.engine!r} is not part of this version; use --engine in-process")
    machine = Machine(settings, folder=home() / "unused")
    with console.status("data: built on first use, then cached"):
        tasks = [machine.benchmark.task(name) for name in settings.scenario.task_names]
        check_tasks(settings.scenario, machine.benchmark)
        for spec in settings.scenario.clients:
            for task in spec.tasks:
                own_part(machine.benchmark.task(task), spec)
    skipped: list[str] = getattr(machine.benchmark, "skipped", [])
    if skipped:
        console.print(f"left out {len(skipped)} record(s) that cannot be used; first: {skipped[0]}", highlight=False)
    for note in getattr(machine.benchmark, "notes", []):
        console.print(note, highlight=False, markup=False)
    _check_starts(settings)
    with console.status("base models and their alignment: made on first use, then cached") as status:
        for spec in settings.scenario.clients:
            machine.adapter(spec)
            if (imported := machine.imported(spec)) is not None:
                console.print(f"client {spec.id} starts from {spec.start}: {imported.summary}", highlight=False)
        split = settings.evaluation.split
        samples: list[Sample] = [sample for task in tasks for sample in (*task.train, *task.split(split))]
        status.update("image features: computed on first use, then cached")
        machine.pool.prepare(settings.scenario.models, samples)


def _check_starts(settings: RunSettings) -> None:
    """Refuse a client's LoRA before the alignment is made, which may take long and does not change what fits."""
    if bringing := [spec for spec in settings.scenario.clients if spec.start]:
        unaligned = settings.model_copy(update={"adapter": settings.adapter.model_copy(update={"alignment": "none"})})
        machine = Machine(unaligned, folder=home() / "unused")
        for spec in bringing:
            machine.imported(spec)
