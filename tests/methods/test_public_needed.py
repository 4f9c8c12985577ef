"""What methods say that they read of public samples is what they do read."""

from types import SimpleNamespace

import pytest

from fedmosaic.config import TrainingSettings
from fedmosaic.methods.ensemble_distillation import _public_batches
from fedmosaic.methods.registry import make_method
from fedmosaic.training import LocalBatch


class Reader:
    """A client whose public samples are 0, 1, 2, ..., and whose base model reads a batch as the list of its samples."""

    def __init__(self, training: TrainingSettings) -> None:
        self.settings = SimpleNamespace(training=training)
        self.base = SimpleNamespace(collate=list)
        self.asked: list[int] = []

    def public_batches(self, count):
        self.asked.append(count)
        size = self.settings.training.batch_size
        return [LocalBatch(chunk, list(chunk)) for chunk in cut(range(count), size)]


def cut(samples, size):
    return [list(samples)[start : start + size] for start in range(0, len(samples), size)]


@pytest.mark.parametrize("samples", [None, 3, 8, 10, 16, 45])
@pytest.mark.parametrize("name", ["feddistill", "perada", "takfl"])
def test_servers_read_what_students_learn_from_and_what_is_held_out(name, samples):
    training = TrainingSettings(steps=2.5, batch_size=8)
    settings, reader = make_method(name, {"public_samples": samples}).settings, Reader(training)
    learned, held_out = _public_batches(reader, settings)
    count, held = settings.public_count(training), 8 * settings.held_out_batches(training)
    assert reader.asked == [settings.public_needed(training)] == [count + held]
    assert [batch.samples for batch in learned] == cut(range(count), 8)
    assert [batch.samples for batch in held_out] == cut(range(count, count + held), 8)
    assert all(batch.inputs == batch.samples for batch in (*learned, *held_out))


def test_clients_read_what_they_upload_about():
    training = TrainingSettings(steps=50)
    fedmkt, ssfl, sft = (make_method(name, {}) for name in ("fedmkt", "hetero-ssfl", "sft"))
    assert fedmkt.settings.public_needed(training) == fedmkt.size(training).samples
    assert ssfl.upload_shapes(None)["gram"][0] == ssfl.settings.public_needed(training)
    assert sft.settings.public_needed(training) == 0
