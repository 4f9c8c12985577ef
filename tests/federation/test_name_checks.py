"""Names of tasks are checked against the data, with the public one among them."""

import pytest
from tests.api.objects import capitals, colours

from fedmosaic.config import Scenario
from fedmosaic.data.in_memory import InMemoryBenchmark
from fedmosaic.errors import SettingsError
from fedmosaic.federation.name_checks import check_tasks

CLIENTS = [{"id": 0, "model": "mine", "tasks": ["capitals"]}]


@pytest.mark.parametrize("asked", [[], ["colours"], ["capitals", "colours"]])
def test_the_public_task_of_own_data_is_known(asked):
    benchmark = InMemoryBenchmark([capitals(), colours()], trained=["capitals"], public="colours")
    check_tasks(
        Scenario(name="s", benchmark="files", data="d", public="colours", open_tasks=asked, clients=CLIENTS), benchmark
    )
    with pytest.raises(SettingsError, match="unknown open task 'colour'; did you mean colours"):
        check_tasks(
            Scenario(name="s", benchmark="files", data="d", public="colours", open_tasks=["colour"], clients=CLIENTS),
            benchmark,
        )
