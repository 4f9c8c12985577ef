"""What methods say that they read of public samples is what they do read."""

from types import SimpleNamespace

import pytest

from fedmosaic.config import TrainingSettings
from fedmosaic.methods.ensemble_distillation import _public_batches
from fedmosaic.methods.registry import make_method


@pytest.mark.parametrize("steps", [1, 2.5, 50])
@pytest.mark.parametrize("name", ["feddistill", "perada", "takfl"])
def test_servers_read_what_students_learn_from_and_what_is_held_out(name, steps):
    training, asked = TrainingSettings(steps=steps, batch_size=8), []

    def public_batches(count):
        asked.append(count)
        return list(range(-(-count // 8)))

    settings = make_method(name, {}).settings
    reader = SimpleNamespace(settings=SimpleNamespace(training=training), public_batches=public_batches)
    learnt, held_out = _public_batches(reader, settings)
    assert asked == [settings.public_needed(training)]
    assert 8 * len(held_out) == asked[0] - settings.public_count(training)
    assert len(learnt) == -(-settings.public_count(training) // 8)


def test_clients_read_what_they_upload_about():
    training = TrainingSettings(steps=50)
    fedmkt, ssfl, sft = (make_method(name, {}) for name in ("fedmkt", "hetero-ssfl", "sft"))
    assert fedmkt.settings.public_needed(training) == fedmkt.size(training).samples
    assert ssfl.upload_shapes(None)["gram"][0] == ssfl.settings.public_needed(training)
    assert sft.settings.public_needed(training) == 0
