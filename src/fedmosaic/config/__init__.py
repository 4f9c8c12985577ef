"""Scenario and run settings, validated before anything is touched."""

from fedmosaic.config.home import home
from fedmosaic.config.overrides import dotted
from fedmosaic.config.scenario import ClientSpec, Scenario
from fedmosaic.config.scenarios import builtin_names, load_scenario
from fedmosaic.config.settings import (
    AdapterSettings,
    EvaluationSettings,
    RunSettings,
    TrainingSettings,
    resolve,
    varied,
    whole,
)
from fedmosaic.config.validation import validate

__all__ = [
    "AdapterSettings",
    "ClientSpec",
    "EvaluationSettings",
    "RunSettings",
    "Scenario",
    "TrainingSettings",
    "builtin_names",
    "dotted",
    "home",
    "load_scenario",
    "resolve",
    "validate",
    "varied",
    "whole",
]
