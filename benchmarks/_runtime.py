"""What a benchmark needs of a run that is never made: its settings, models and data on one thread."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from fedmosaic.config import RunSettings, load_scenario, resolve
from fedmosaic.federation import Runtime

NOWHERE = Path("unused")
"""Nothing is written here."""


def runtime(settings: RunSettings) -> Runtime:
    """Models and data of these settings."""
    torch.set_num_threads(settings.threads)
    return Runtime(settings, NOWHERE)


@cache
def frozen_probe_runtime(scenario: str) -> Runtime:
    """Models and data of FedMosaic on a scenario, opened once."""
    return runtime(resolve(load_scenario(scenario), method="fedmosaic"))
