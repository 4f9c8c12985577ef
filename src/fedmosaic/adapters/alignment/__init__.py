"""Alignment: frozen Co-LoRA bases in which the latents of all architectures mean the same."""

from fedmosaic.adapters.alignment.align import align
from fedmosaic.adapters.alignment.modes import MODES, InputsOnly, Joint, Mode, NoAlignment, Pivot, Published
from fedmosaic.adapters.alignment.result import Alignment, Correlation
from fedmosaic.adapters.alignment.shipped import find_shipped, make_alignment
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
    "find_shipped",
    "make_alignment",
]
