"""Alignment: frozen Co-LoRA bases in which the latents of all architectures mean the same."""

from fedmosaic.alignment.align import MODES, NoSharedModulesError, align, find_mode
from fedmosaic.alignment.cka import LayerSimilarity, compare_layers
from fedmosaic.alignment.joint import Joint
from fedmosaic.alignment.measure import Correlation
from fedmosaic.alignment.modes import InputsOnly, Mode, NoAlignment, Pivot, Published
from fedmosaic.alignment.result import Alignment, is_alignment
from fedmosaic.alignment.shipped import check_mode, find_shipped
from fedmosaic.alignment.stream import PositionWeights

__all__ = [
    "MODES",
    "Alignment",
    "Correlation",
    "InputsOnly",
    "Joint",
    "LayerSimilarity",
    "Mode",
    "NoAlignment",
    "NoSharedModulesError",
    "Pivot",
    "PositionWeights",
    "Published",
    "align",
    "check_mode",
    "compare_layers",
    "find_mode",
    "find_shipped",
    "is_alignment",
]
