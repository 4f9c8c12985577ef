"""Slots: the named LoRA-like branches that every adapted linear of a client carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmosaic.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Slot:
    """One branch of the adapter.

    Attributes:
        name: e.g. ``"local"`` or ``"personal_global"``; a Python identifier, since it becomes part of parameter names.
        communicated: whether the slot's weights may leave the client.

    Raises:
        SettingsError: the name is not an identifier.
    """

    name: str
    communicated: bool

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise SettingsError(
                f"slot name {self.name!r} is not usable; expected letters, digits and underscores, such as 'local'"
            )


def checked_slots(slots: Sequence[Slot]) -> tuple[Slot, ...]:
    """Return the slots as a tuple.

    Args:
        slots: in the order in which they are computed.

    Raises:
        SettingsError: there are none, or two have the same name.
    """
    names = [slot.name for slot in slots]
    if not names:
        raise SettingsError("an adapter needs at least one slot, e.g. Slot('local', communicated=False); got none")
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise SettingsError(f"slot names must differ, but {', '.join(doubles)} stand(s) more than once in {names}")
    return tuple(slots)
