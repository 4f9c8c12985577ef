"""How steps are spread over rounds and clients."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.scenario import small

from fedmosaic.config import varied
from fedmosaic.errors import SettingsError
from fedmosaic.training import steps_of

STEPS = st.integers(100, 2000).map(lambda hundredths: hundredths / 100)


def spread(steps: float, rounds: int) -> dict[int, list[int]]:
    settings = varied(small(), [f"training.steps={steps}"])
    return {
        each.id: [steps_of(settings, each.id, round_) for round_ in range(1, rounds + 1)]
        for each in settings.scenario.clients
    }


@given(STEPS, st.integers(1, 30))
def test_all_steps_are_dealt_out_evenly(steps, rounds):
    by_client = spread(steps, rounds)
    hundredths = round(100 * steps)
    assert sum(map(sum, by_client.values())) == len(by_client) * rounds * hundredths // 100  # Hermite's identity
    assert {each for dealt in by_client.values() for each in dealt} <= {math.floor(steps), math.ceil(steps)}
    totals = [sum(dealt) for dealt in by_client.values()]
    assert max(totals) - min(totals) <= 1


def test_half_a_step_more_is_one_in_every_second_round_and_in_each_round_for_half_of_the_clients():
    assert spread(4.5, 4) == {0: [4, 5, 4, 5], 1: [4, 5, 4, 5], 2: [5, 4, 5, 4], 3: [5, 4, 5, 4]}


@pytest.mark.parametrize("whole", ["20", "20.0"])
def test_whole_steps_are_the_same_settings_however_they_are_written(whole):
    settings = varied(small(), [f"training.steps={whole}"])
    assert settings.to_toml().count("steps = 20\n") == 1
    assert settings.digest == varied(small(), ["training.steps=20"]).digest
    assert all(steps_of(settings, 1, round_) == 20 for round_ in range(1, 9))


@pytest.mark.parametrize("steps", ["0", "0.99", "-3", "nan", "inf", "many"])
def test_less_than_one_step_is_refused(steps):
    with pytest.raises(SettingsError, match=r"training\.steps"):
        varied(small(), [f"training.steps={steps}"])
