"""Adapters: slots, Co-LoRA, gates and where they go in a model."""

from fedmosaic.adapters.adapter import Adapter
from fedmosaic.adapters.build import Adapted
from fedmosaic.adapters.folding import folded_in
from fedmosaic.adapters.forward_context import SlotWeights
from fedmosaic.adapters.layer import AdaptedLinear, CoLoraLinear, LoraLinear
from fedmosaic.adapters.placement import Placement, Target, block_ends, find_targets
from fedmosaic.adapters.slots import Slot
from fedmosaic.adapters.tensors import TensorShapes, is_of_proxy, is_shared, is_slot_tensor, of_proxy, parted

__all__ = [
    "Adapted",
    "AdaptedLinear",
    "Adapter",
    "CoLoraLinear",
    "LoraLinear",
    "Placement",
    "Slot",
    "SlotWeights",
    "Target",
    "TensorShapes",
    "block_ends",
    "find_targets",
    "folded_in",
    "is_of_proxy",
    "is_shared",
    "is_slot_tensor",
    "of_proxy",
    "parted",
]
