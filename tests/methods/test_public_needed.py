"""What methods say that they read of public samples is what they do read, on clients and server."""

import pytest
from tests.federation.scenario import small

from fedmosaic.federation.rehearsal import rehearse, still
from fedmosaic.methods.registry import make_method


@pytest.mark.parametrize("name", ["sft", "feddistill", "fedmkt", "hetero-ssfl", "perada", "takfl"])
def test_a_method_reads_as_many_public_samples_as_it_says(name, monkeypatch):
    settings, asked = small(name, rounds=2), []
    machine = still(settings)

    def public(count, round_):
        asked.append(count)
        return machine.benchmark.task("trend@lines").train[:count]

    monkeypatch.setattr(machine, "public", public)
    for _ in rehearse(machine):
        pass
    needed = make_method(name, {}).settings.public_needed(settings.training)
    assert set(asked) == ({needed} if needed else set())
