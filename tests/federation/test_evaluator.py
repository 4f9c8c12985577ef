"""The evaluator: scores of base models that are known from another run are those of this run's."""

import pytest
from tests.federation.scenario import small

from fedmosaic.evaluation import TaskScore
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.evaluator import Evaluator

SCENARIO, MODEL = {"template": "{question} Think twice."}, {"dtype": "bfloat16"}


def measured(monkeypatch, cache, **changes):
    """Return how often a base model is scored in a run that differs from the first in some of its settings."""
    settings = small("sft")
    update = {key: getattr(settings, key).model_copy(update=change) for key, change in changes.items()}
    assets, calls = Assets(settings.model_copy(update=update), cache=cache), []

    def scores(self, model, tasks, count):
        calls.append(model)
        return {task: TaskScore(tuple(0.0 for _ in samples)) for task, samples in self._samples(tasks, count).items()}

    monkeypatch.setattr(Evaluator, "scores", scores)
    adapters = AdapterFactory(assets)
    spec = settings.scenario.clients[0]
    Evaluator(assets, adapters).base_scores(spec, spec.tasks, 2)
    adapters.detach()
    return len(calls)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"scenario": SCENARIO}, {"scenario": {"system": "Be brief."}}, {"model": MODEL}])
def test_a_base_model_that_reads_or_computes_otherwise_is_scored_again(monkeypatch, tmp_path, change):
    assert measured(monkeypatch, tmp_path) == 1
    assert measured(monkeypatch, tmp_path) == 0
    assert measured(monkeypatch, tmp_path, **change) == 1
    assert measured(monkeypatch, tmp_path, **change) == 0
