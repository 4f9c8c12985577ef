"""Alignment: frozen Co-LoRA bases in which the latents of all architectures mean the same."""

from fedmosaic.adapters.alignment.align import align
from fedmosaic.adapters.alignment.modes import (
    MODES,
    InputsOnly,
    Joint,
    Mode,
    NoAlignment,
    Pivot,
    Published,
    find_mode,
)
from fedmosaic.adapters.alignment.result import Alignment, Correlation
from fedmosaic.adapters.alignment.shipped import alignment_for, find_shipped, make_alignment
from fedmosaic.adapters.alignment.stream import Positions

__all__ = [
    "MODES",
    "Alignment",
    "Correlation",
    "InputsOnly",
    "Joint",
    "Mode",
    "NoAlignment",
    "Pivot",
    "Positions",
    "Published",
    "align",
    "alignment_for",
    "find_mode",
    "find_shipped",
    "make_alignment",
]
