"""Multiple choice by generated text: an option that is said as it stands is understood, however long it is."""

import pytest
from tests.methods.lab import Lab, NumbersBenchmark, NumbersModel, make_task

from fedmosaic.data.sample import Sample, Task
from fedmosaic.experiments.rescoring import agreement
from fedmosaic.federation import ClientRuntime
from fedmosaic.federation.assets import Assets

BEGIN = "2 3 4 5 6 7 8 9 10"
OPTIONS = (f"{BEGIN} 11 12", f"{BEGIN} 13 14")


class Literal(NumbersModel):
    """Says the right option as it stands."""

    def answer(self, samples, *, max_tokens=8):
        return [" ".join(sample.answer.split()[:max_tokens]) for sample in samples]


class LongOptions(NumbersBenchmark):
    def task(self, name):
        test = tuple(Sample(str(i), (), "2 3", OPTIONS[i % 2], OPTIONS) for i in range(6))
        return Task(name, "vqa", make_task(0).train, (), test)


@pytest.mark.parametrize("answer_tokens", [6, 20])
def test_options_that_begin_alike_are_told_apart_by_what_is_said(tmp_path, answer_tokens):
    settings = Lab("sft", models=("narrow",)).settings
    evaluation = settings.evaluation.model_copy(update={"answer_tokens": answer_tokens})
    settings = settings.model_copy(update={"evaluation": evaluation})
    assets = Assets(settings, benchmark=LongOptions(), models={"narrow": Literal("narrow")})
    same, by_likelihood, by_text = agreement(ClientRuntime(assets, tmp_path), settings.scenario.task_names, rounds=0)
    assert by_text == 1
    assert same == by_likelihood
