import pytest

from fedmosaic.errors import SettingsError
from fedmosaic.methods.registry import make_method, method_classes


def test_every_file_of_the_package_is_found_and_well_formed():
    classes = method_classes()
    assert {"fedmosaic", "fedavg", "sft"} <= set(classes)
    for name, kind in classes.items():
        assert kind.name == name
        assert kind.title
        assert kind.__doc__
        assert sum(slot.communicated for slot in kind.slots) <= 1
        kind(kind.Settings())


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("fedmosiac", {}, ["fedmosiac", "did you mean 'fedmosaic'"]),
        ("fedmosaic", {"temprature": 1}, ["temprature", "temperature"]),
        ("fedmosaic", {"temperature": 0}, ["temperature", "greater than 0"]),
        ("fedmosaic", {"temperature": "warm"}, ["warm"]),
        ("sft", {"x": 1}, ["no settings"]),
    ],
)
def test_a_wrong_method_or_setting_is_named(name, settings, words):
    with pytest.raises(SettingsError) as error:
        make_method(name, settings)
    for word in words:
        assert word in str(error.value)
