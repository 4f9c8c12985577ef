"""Alignment: frozen Co-LoRA bases in which the latents of all architectures mean the same."""

from fedmosaic.alignment.align import MODES, align, find_mode
from fedmosaic.alignment.cka import LayerSimilarity, compare_layers
from fedmosaic.alignment.joint import Joint
from fedmosaic.alignment.measure import Correlation
from fedmosaic.alignment.modes import InputsOnly, Mode, NoAlignment, Pivot, Published
from fedmosaic.alignment.result import Alignment, is_alignment
from fedmosaic.alignment.shipped import (
    alignment_for,
    check_mode,
    find_shipped,
    make_alignment,
    models_and_public_samples,
)
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
    "Pivot",
    "PositionWeights",
    "Published",
    "align",
    "alignment_for",
    "check_mode",
    "compare_layers",
    "find_mode",
    "find_shipped",
    "is_alignment",
    "make_alignment",
    "models_and_public_samples",
]
