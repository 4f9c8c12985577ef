"""A dry run against the real run: the same FLOPs to the last, and nothing is written."""

import json

import pytest
from tests.federation.scenario import SMALL

from fedmosaic.config import resolve
from fedmosaic.experiments.dry_run import dry_run, steady_round, with_null_models
from fedmosaic.federation import RunFolder, engines

pytestmark = pytest.mark.slow  # whole runs

MOVING = SMALL.model_copy(
    update={
        "clients": tuple(
            each.model_copy(update=changes)
            for each, changes in zip(SMALL.clients, ({}, {"leaves": 2}, {}, {"joins": 2}), strict=True)
        )
    }
)


@pytest.mark.parametrize("method", ["hetero-ssfl", "fedmosaic"])
def test_a_dry_run_counts_what_the_run_spends(tmp_path, monkeypatch, method):
    """With a client that joins, one that leaves, rounds that not all train in, and steps that differ between rounds."""
    settings = resolve(
        MOVING,
        method=method,
        overrides=[
            "training.steps=1.6",
            "training.batch_size=2",
            "participation.fraction=0.7",
            *(["method.public_samples=4"] if method == "hetero-ssfl" else []),
        ],
        evaluation={"samples_per_task": 1, "milestones": 1},
    )
    folder = RunFolder.create(tmp_path / "run", settings)
    engines.run(settings, folder)
    spent = json.loads((tmp_path / "run" / "results.json").read_text())["flops"]
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    rounds = list(dry_run(with_null_models(settings)))
    assert len(rounds) == settings.rounds
    assert sum(each.flops for each in rounds) == spent
    assert list(empty.iterdir()) == []


def test_a_steady_round_has_something_to_receive():
    settings = resolve(SMALL, method="hetero-ssfl", overrides=["training.batch_size=2", "method.public_samples=4"])
    first, second = next(dry_run(with_null_models(settings))), steady_round(with_null_models(settings))
    assert not first.downloads
    assert set(second.downloads) == set(second.uploads) == {0, 1, 2, 3}
    assert second.flops > 1.3 * first.flops  # every step is aligned, too
