"""The local loop: one client, its adapter, its optimiser, its stream."""

from fedmosaic import events
from fedmosaic.training.budget import Budget, Meter, steps_of
from fedmosaic.training.client import Client, LocalBatch, Mix, adapter_state, load_adapter_state, weights
from fedmosaic.training.losses import Penalty, cross_entropy, proximal
from fedmosaic.training.optimiser import SlotOptimiser
from fedmosaic.training.pool import ModelPool
from fedmosaic.training.still import StillPool

__all__ = [
    "Budget",
    "Client",
    "LocalBatch",
    "Meter",
    "Mix",
    "ModelPool",
    "Penalty",
    "SlotOptimiser",
    "StillPool",
    "adapter_state",
    "cross_entropy",
    "events",
    "load_adapter_state",
    "proximal",
    "steps_of",
    "weights",
]
