"""One adapter trained alone is scored as the run's settings say."""

import dataclasses

import pytest
from tests.methods.lab import Lab, NumbersModel, make_task

from fedmosaic.data.sample import Sample
from fedmosaic.experiments.local_training import train_locally
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets

ANSWER = "2 3 4 5 6 7 8 9 10 11 12 13"


class Backwards(NumbersModel):
    """Says the words of one answer, the last one first."""

    def answer(self, samples, *, max_tokens=8):
        return [" ".join(ANSWER.split()[::-1][:max_tokens]) for _ in samples]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"answer_tokens": 12}, 5 / 6),
        ({"answer_tokens": 12, "open_metric": "rouge-l"}, 5 / 6 * 1 / 12),
        ({"answer_tokens": 6}, 5 / 6 * 2 / 3),
        ({"answer_tokens": 12, "final_samples_per_task": 2}, 1 / 2),
    ],
)
def test_open_answers_are_as_long_and_are_scored_as_in_the_run(how, expected):
    settings = Lab("sft").settings
    settings = settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update=how)})
    test = (Sample("0", (), "2 3", "20 21"), *(Sample(str(i), (), "2 3", ANSWER) for i in range(1, 6)))
    task = dataclasses.replace(make_task(0), test=test)
    assets = Assets(settings, models={"narrow": Backwards("narrow")})
    adapters, spec = AdapterFactory(assets), settings.scenario.clients[0]
    found = train_locally(assets, adapters, spec, task, start=adapters.start(spec), slot="local", measure_at=(0,))
    assert found[0][task.name] == pytest.approx(expected)
