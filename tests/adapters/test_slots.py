import pytest

from fedmosaic.adapters.slots import Slot, checked_slots
from fedmosaic.errors import SettingsError


@pytest.mark.parametrize("name", ["", "two words", "a.b", "1st"])
def test_a_name_that_cannot_be_part_of_a_parameter_name_is_refused(name):
    with pytest.raises(SettingsError, match="slot name"):
        Slot(name, communicated=True)


def test_slots_keep_their_order():
    slots = [Slot("b", communicated=True), Slot("a", communicated=False)]
    assert checked_slots(slots) == tuple(slots)


def test_no_slots_and_double_slots_are_refused():
    with pytest.raises(SettingsError, match="at least one"):
        checked_slots([])
    with pytest.raises(SettingsError, match="local stand"):
        checked_slots([Slot("local", communicated=True), Slot("local", communicated=False)])
