"""The local loop: one client, its adapter, its optimiser, its stream."""

from fedmosaic import events
from fedmosaic.training.budget import Budget, Meter, steps_of
from fedmosaic.training.client import Client, LocalBatch, adapter_state, load_adapter_state
from fedmosaic.training.losses import Penalty, cross_entropy, proximal
from fedmosaic.training.model_pool import ModelPool
from fedmosaic.training.null_models import NullModelPool
from fedmosaic.training.optimiser import SlotOptimiser

__all__ = [
    "Budget",
    "Client",
    "LocalBatch",
    "Meter",
    "ModelPool",
    "NullModelPool",
    "Penalty",
    "SlotOptimiser",
    "adapter_state",
    "cross_entropy",
    "events",
    "load_adapter_state",
    "proximal",
    "steps_of",
]
