"""Adapters: slots, Co-LoRA, gates and where they go in a model."""

from fedmosaic.adapters.adapter import Adapter
from fedmosaic.adapters.build import Adapted
from fedmosaic.adapters.folding import base_changed, folded_in
from fedmosaic.adapters.forward_context import SlotWeights
from fedmosaic.adapters.layer import AdaptedLinear, CoLoraLinear, LoraLinear
from fedmosaic.adapters.mixed_model import MixedModel
from fedmosaic.adapters.placement import EVERY_LAYER, Placement, Target, block_ends, find_targets
from fedmosaic.adapters.slots import Slot
from fedmosaic.adapters.tensors import (
    TensorShapes,
    is_of_proxy,
    is_shared,
    is_slot_tensor,
    of_proxy,
    parted,
    rank_dimension,
)
from fedmosaic.adapters.tower import TowerSite

__all__ = [
    "EVERY_LAYER",
    "Adapted",
    "AdaptedLinear",
    "Adapter",
    "CoLoraLinear",
    "LoraLinear",
    "MixedModel",
    "Placement",
    "Slot",
    "SlotWeights",
    "Target",
    "TensorShapes",
    "TowerSite",
    "base_changed",
    "block_ends",
    "find_targets",
    "folded_in",
    "is_of_proxy",
    "is_shared",
    "is_slot_tensor",
    "of_proxy",
    "parted",
    "rank_dimension",
]
