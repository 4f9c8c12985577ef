"""What a benchmark needs of a run that is never made: its settings, models and data on one thread."""

from __future__ import annotations

from functools import cache

import torch

from fedmosaic.config import RunSettings, load_scenario, resolve
from fedmosaic.federation import Assets


def runtime(settings: RunSettings) -> Assets:
    """Return models and data of these settings."""
    torch.set_num_threads(settings.threads)
    return Assets(settings)


@cache
def frozen_probe_runtime(scenario: str) -> Assets:
    """Return models and data of FedMosaic on a scenario, opened once."""
    return runtime(resolve(load_scenario(scenario), method="fedmosaic"))
