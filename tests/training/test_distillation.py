"""Distillation on two tiny random models: what targets are, what the loss is, and that students learn."""

import pytest
import torch
import torch.nn.functional as F
from tests.methods.lab import Lab
from torch.testing import assert_close

from fedmosaic.training.distillation import (
    DistillationTargets,
    TeacherPredictions,
    distil,
    distillation_targets,
    divergence,
    ensemble_predictions,
)


@pytest.fixture
def lab():
    return Lab("fedavg", models=("narrow", "foreign"))


def test_divergence_is_t_squared_kl_and_counts_tokens_by_weight():
    random = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 6, 5, generator=random)
    probabilities, temperature = (teacher / 3).softmax(-1), 3.0
    each = F.kl_div((logits / 3).log_softmax(-1), probabilities, reduction="none").sum(-1)
    assert_close(divergence(logits, probabilities, torch.ones(6), temperature), 9 * each.mean())
    weights = torch.tensor([1.0, 0, 0, 0.5, 0, 0])
    assert_close(divergence(logits, probabilities, weights, temperature), 9 * (each[0] + 0.5 * each[3]) / 6)
    nothing = divergence(logits.requires_grad_(), torch.zeros(6, 5), torch.zeros(6), temperature)
    nothing.backward()
    assert nothing == 0
    assert torch.equal(logits.grad, torch.zeros(6, 5))


def test_an_ensemble_prediction_is_the_mean_over_teachers_without_dropout(lab):
    teacher = lab.client(0)
    teacher.adapter.train()
    batches = teacher.public_batches(6)
    teachers = [lab.noise(teacher, "shared", seed) for seed in (1, 2)]
    logits = []
    for tensors in teachers:
        teacher.adapter.load_slot("shared", tensors)
        teacher.adapter.train(False)
        with teacher.adapter.mixed({"shared": 1.0}), torch.no_grad():
            logits.append([teacher.base.answer_logits(batch.inputs).logits / 2 for batch in batches])
        teacher.adapter.train()
    made = {
        mean_of: ensemble_predictions(teacher, teachers, batches, slot="shared", temperature=2.0, mean_of=mean_of)
        for mean_of in ("probabilities", "logits")
    }
    for index, (one, two) in enumerate(zip(*logits, strict=True)):
        assert_close(made["probabilities"].probabilities[index], (one.softmax(-1) + two.softmax(-1)) / 2)
        assert_close(made["logits"].probabilities[index], ((one + two) / 2).softmax(-1))
    assert made["logits"].teachers == 2


def test_targets_are_the_teachers_probabilities_and_are_not_softened_again(lab):
    teacher = lab.client(0)
    batches = teacher.public_batches(6)
    predicted = ensemble_predictions(
        teacher, [lab.noise(teacher, "shared")], batches, slot="shared", temperature=2.0, mean_of="logits"
    )
    made = distillation_targets([predicted], teacher.base, batches, temperature=2.0)
    for probabilities, weights, teachers in zip(made.probabilities, made.weights, predicted.probabilities, strict=True):
        assert_close(probabilities, teachers)
        assert_close(weights, torch.ones(len(weights)))


def test_targets_of_two_vocabularies_weigh_teachers_by_their_number_in_the_students_own_tokens(lab):
    narrow, foreign = lab.client(0), lab.client(1)
    here, there = narrow.public_batches(4), foreign.public_batches(4)
    count = int((here[0].inputs.labels >= 0).sum())
    from_narrow, from_foreign = torch.zeros(count, 24), torch.zeros(count, 30)
    from_narrow[:, 5] = 1.0
    from_foreign[:, 31 - 7] = 0.75
    from_foreign[:, 3] = 0.25  # 28 in reverse, which the other vocabulary does not have
    predictions = [
        TeacherPredictions(narrow.base, here, [from_narrow], teachers=3),
        TeacherPredictions(foreign.base, there, [from_foreign], teachers=1),
    ]
    for student, batches, five, seven in ((narrow, here, 5, 7), (foreign, there, 26, 24)):
        made = distillation_targets(predictions, student.base, batches)
        assert_close(made.probabilities[0].sum(-1), torch.ones(count))
        total = 3.75 if student is narrow else 4.0
        assert_close(made.probabilities[0][:, five], torch.full((count,), 3 / total))
        assert_close(made.probabilities[0][:, seven], torch.full((count,), 0.75 / total))
        assert_close(made.weights[0], torch.full((count,), total / 4))


def test_a_student_learns_from_teachers_of_another_vocabulary(lab):
    teacher, student = lab.client(0), lab.client(1)
    here, there = teacher.public_batches(16), student.public_batches(16)
    probabilities = ensemble_predictions(
        teacher, [lab.noise(teacher, "shared")], here, slot="shared", temperature=1.0, mean_of="logits"
    )
    goal = distillation_targets([probabilities], student.base, there)

    def gap():
        logits = [student.predict(batch, mix="shared").logits for batch in there]
        each = zip(logits, goal.probabilities, goal.weights, strict=True)
        return float(sum(divergence(*one, 1.0) for one in each))

    before, flops = gap(), student.meter.flops
    for _ in range(3):
        distil(student, there, [goal], slot="shared")
    assert student.meter.flops > flops
    assert student.meter.steps == 3 * len(there)
    assert gap() < 0.9 * before


def test_the_label_part_is_cross_entropy_and_parts_add_up(lab):
    student = lab.client(0)
    (batch,) = student.public_batches(4)
    answers = student.predict(batch, mix="shared")
    probabilities = torch.randn(answers.logits.shape, generator=torch.Generator().manual_seed(0)).softmax(-1)
    ones = torch.ones(len(probabilities))
    goals = [
        DistillationTargets([probabilities], [ones], 2.0, 0.5),
        DistillationTargets([probabilities], [ones], 4.0, 0.1),
    ]
    distil(student, [batch], goals, slot="shared", label=0.9)
    expected = 0.9 * F.cross_entropy(answers.logits, answers.targets)
    expected += 0.5 * divergence(answers.logits, probabilities, ones, 2.0)
    expected += 0.1 * divergence(answers.logits, probabilities, ones, 4.0)
    assert student.meter.loss == pytest.approx(float(expected), rel=1e-5)
