"""Local training and distillation: a client, its state, its optimiser, its losses and its base models."""

from fedmosaic import events
from fedmosaic.training.budget import Budget, Meter, steps_of
from fedmosaic.training.client import Client, LocalBatch
from fedmosaic.training.client_state import ClientState, averaged
from fedmosaic.training.losses import Penalty, cross_entropy, proximal
from fedmosaic.training.model_pool import ModelPool
from fedmosaic.training.null_models import NullModelPool
from fedmosaic.training.optimiser import SlotOptimiser
from fedmosaic.training.resources import Resources

__all__ = [
    "Budget",
    "Client",
    "ClientState",
    "LocalBatch",
    "Meter",
    "ModelPool",
    "NullModelPool",
    "Penalty",
    "Resources",
    "SlotOptimiser",
    "averaged",
    "cross_entropy",
    "events",
    "proximal",
    "steps_of",
]
