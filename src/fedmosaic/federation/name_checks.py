"""The names in a run's settings, checked before anything is made or written."""

from __future__ import annotations

from fedmosaic.alignment import check_mode
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.data.benchmark import Benchmark, unknown
from fedmosaic.methods.registry import make_method
from fedmosaic.models import find_base_model


def check_names(settings: RunSettings) -> None:
    """Check the names of methods, their settings, base models and alignment.

    Args:
        settings: of the run.

    Raises:
        SettingsError: a method, one of its settings or an alignment is not known; names the nearest.
        ModelError: a base model is not known; names the nearest.
    """
    make_method(settings.method, settings.method_settings)
    scenario = settings.scenario
    if scenario.reference:
        make_method(scenario.reference, {})
    check_mode(settings.adapter.alignment)
    for model in dict.fromkeys((*scenario.models, scenario.probe or scenario.models[0])):
        if model not in scenario.given_models:
            find_base_model(model)


def check_tasks(scenario: Scenario, benchmark: Benchmark) -> None:
    """Check the names of tasks that are asked without options, which nothing else would miss.

    Args:
        scenario: of the run.
        benchmark: its data.

    Raises:
        SettingsError: the data have no such task; names near ones.
    """
    known = {*benchmark.task_names(), *benchmark.unseen_names(), *filter(None, [scenario.public])}
    for name in scenario.open_tasks:
        if name not in known:
            raise unknown("open task", name, known)
