"""Adapters: slots, Co-LoRA, gates and where they go in a model."""

from fedmosaic.adapters.adapter import Adapter, Weights
from fedmosaic.adapters.build import Adapted
from fedmosaic.adapters.folding import folded_in
from fedmosaic.adapters.layer import AdaptedLinear, CoLoraLinear, LoraLinear
from fedmosaic.adapters.placement import Placement, Target, block_ends, place
from fedmosaic.adapters.slots import Slot
from fedmosaic.adapters.tensors import is_shared, is_slot_tensor

__all__ = [
    "Adapted",
    "AdaptedLinear",
    "Adapter",
    "CoLoraLinear",
    "LoraLinear",
    "Placement",
    "Slot",
    "Target",
    "Weights",
    "block_ends",
    "folded_in",
    "is_shared",
    "is_slot_tensor",
    "place",
]
