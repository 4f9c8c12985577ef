"""Which of a task's train samples are a client's."""

from __future__ import annotations

import dataclasses

from fedmosaic.config import ClientSpec, RunSettings, validate
from fedmosaic.config.dirichlet import divide
from fedmosaic.data.sample import Task
from fedmosaic.errors import DataError
from fedmosaic.federation.assets import Assets, AssetsOf


def divided(settings: RunSettings, assets: AssetsOf = Assets) -> RunSettings:
    """Return the settings with the scenario's division drawn, if one is still to be drawn.

    It needs the number of each task's train samples, so the data are read.

    Args:
        settings: of a run.
        assets: opens what it reads.

    Raises:
        SettingsError: there are fewer train samples than clients, or the data are not there.
        DataError: the data cannot be used.
    """
    scenario = settings.scenario
    if scenario.division is None:
        return settings
    benchmark = assets(settings).benchmark
    sizes = {task: len(benchmark.task(task).train) for task in scenario.task_names}
    chosen = divide(scenario, **scenario.division.model_dump(), sizes=sizes)
    table = settings.model_dump() | {"scenario": chosen}
    return validate(RunSettings, table, source=f"scenario {chosen.name}")


def own_part(task: Task, spec: ClientSpec) -> Task:
    """Return a client's task with those of its train samples that are the client's.

    Shares that meet at an edge are cut there at the same sample, so that shares which partition 0 to 1 partition the
    samples, whatever their number.

    Args:
        task: of the benchmark.
        spec: who the client is.

    Raises:
        DataError: the client's share is less than a sample.
    """
    share = spec.shares.get(task.name)
    if share is None:
        return task
    low, high = (round(edge * len(task.train)) for edge in share)
    if low == high:
        raise DataError(
            f"client {spec.id} has the share {share[0]:g} to {share[1]:g} of the {len(task.train)} train samples of "
            f"{task.name!r}, which is none of them; widen the share or take the task from the client"
        )
    return dataclasses.replace(task, train=task.train[low:high])
