"""Everything that can be refused or made before a run starts: data, models, adapters, image features."""

from __future__ import annotations

from rich.console import Console

from fedmosaic.adapters.alignment import check_mode
from fedmosaic.config import RunSettings, home
from fedmosaic.data.sample import Sample
from fedmosaic.errors import SettingsError
from fedmosaic.federation import Machine
from fedmosaic.methods.registry import make_method
from fedmosaic.models.device import check_device


def prepare(settings: RunSettings, console: Console) -> None:
    """Check that the run can start and make what it needs; nothing is written to the run's folder.

    Raises:
        FedMosaicError: anything that would stop the run later.
    """
    make_method(settings.method, settings.method_settings)
    if settings.engine != "in-process":
        raise SettingsError(f"engine {settings.engine!r} is not part of this version; use --engine in-process")
    check_mode(settings.adapter.alignment)
    check_device(settings.device)
    machine = Machine(settings, folder=home() / "unused")
    with console.status("data: built on first use, then cached"):
        tasks = [machine.benchmark.task(name) for name in settings.scenario.task_names]
    skipped: list[str] = getattr(machine.benchmark, "skipped", [])
    if skipped:
        console.print(f"left out {len(skipped)} record(s) that cannot be used; first: {skipped[0]}", highlight=False)
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
