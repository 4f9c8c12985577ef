"""The alignment that comes with the package, and what a run may name instead."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fedmosaic.alignment.align import MODES
from fedmosaic.alignment.result import RECORD, Alignment, is_alignment
from fedmosaic.errors import SettingsError
from fedmosaic.models.vision_weights import ASSETS
from fedmosaic.nearest import hint

SHIPPED = ASSETS / "alignment"
DEFAULT = "joint"


def find_shipped(architectures: Collection[str], rank: int, blocks: int) -> Alignment | None:
    """Return the shipped alignment that holds all these architectures, or None.

    Shipped are the embedded models', in the default mode, as ``fedmosaic align mosaic40 --half`` made them.

    Args:
        architectures: :attr:`BaseModel.architecture` of the models of a run.
        rank: r.
        blocks: number of blocks N_B.
    """
    for record in sorted(SHIPPED.glob(f"*/{RECORD}")):
        alignment = Alignment.load(record.parent)
        fits = set(architectures) <= set(alignment.architectures.values())
        if fits and (alignment.rank, alignment.blocks) == (rank, blocks):
            return alignment
    return None


def check_mode(mode: str) -> None:
    """Make sure that a run's ``adapter.alignment`` names something.

    Args:
        mode: a name of :data:`~fedmosaic.alignment.MODES`, or a folder.

    Raises:
        SettingsError: it is neither a mode nor the folder of an alignment.
    """
    if mode not in MODES and not is_alignment(Path(mode)):
        raise SettingsError(
            f"adapter.alignment={mode!r} is neither a mode ({', '.join(MODES)}) nor a folder that holds an alignment; "
            f"{hint(mode, MODES)}make one: fedmosaic align SCENARIO --out {mode}"
        )
