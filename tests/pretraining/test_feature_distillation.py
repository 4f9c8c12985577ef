"""FeatureDistillation make the hidden states of a family those of another, wherever both read the same."""

import copy

import pytest
import torch
from tests.models.conftest import Noise, make_tiny

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.models.special_tokens import IMAGE_ID
from fedmosaic.pretraining.feature_distillation import FeatureDistillation, matched_positions

pytestmark = pytest.mark.slow  # models are trained

DIALOGUES = (
    Dialogue(("000001",), (("<image> what is this ? answer :", "bird"), ("what is red ? answer :", "a fish tool"))),
    Dialogue(("000001", "000002"), (("<image> first <image> second which ? answer :", "second"),)),
)


@pytest.fixture(scope="module")
def teacher(tower, tmp_path_factory):
    return make_tiny("tiny-llama", tower, Noise(), tmp_path_factory.mktemp("home"))


def distance(hints, student):
    batch = student.collate_dialogues(DIALOGUES)
    with hints.recording():
        student.hidden_states(batch)
        return hints.loss(DIALOGUES, batch)


def test_models_meet_at_the_same_positions_whatever_their_tokenizers(teacher, tiny):
    counts = [matched_positions(model.collate_dialogues(DIALOGUES)).sum(1).tolist() for model in (teacher, tiny)]
    assert counts == [[4 + 2, 8 + 1]] * 2  # four tokens per image, one position per answer
    batch = tiny.collate_dialogues(DIALOGUES)
    at = matched_positions(batch)[0].nonzero()[-2:, 0]
    answers = [tiny.tokenizer.decode(batch.input_ids[0, at + 1][k]).strip() for k in range(2)]
    assert answers[0] == "bird"
    assert "a fish tool".startswith(answers[1])


def test_a_model_is_its_own_perfect_student(teacher):
    hints = FeatureDistillation(teacher, teacher)
    for points in hints.maps:
        torch.nn.init.eye_(points.weight)
        torch.nn.init.zeros_(points.bias)
    assert distance(hints, teacher) == 0


def test_the_loss_is_the_mean_square_at_both_ends_of_the_last_layers_of_blocks(monkeypatch, teacher, tiny):
    """Beside transformers' own record of hidden states."""
    hints = FeatureDistillation(teacher, tiny)
    found = distance(hints, tiny)
    states = []
    for model in (tiny, teacher):
        batch = model.collate_dialogues(DIALOGUES)
        embedded = model.module.get_input_embeddings()(batch.input_ids).clone()
        projected = model.module.model.multi_modal_projector(batch.vision["features"])
        embedded[batch.input_ids == IMAGE_ID] = projected.flatten(0, 1)
        monkeypatch.setitem(model.decoder._modules, "norm", torch.nn.Identity())  # else the last one is normed
        record = model.decoder(
            inputs_embeds=embedded, attention_mask=batch.attention_mask, output_hidden_states=True
        ).hidden_states
        middle = len(model.decoder.layers) // 2
        chosen = [record[at][matched_positions(batch)] for at in (middle - 1, middle, -2, -1)]
        states.append([torch.nn.functional.layer_norm(each, each.shape[-1:]) for each in chosen])
    each = [(points(state) - target).square().mean() for points, state, target in zip(hints.maps, *states, strict=True)]
    torch.testing.assert_close(found, sum(each) / 4)


def test_a_student_learns_and_the_teacher_stays(teacher, tiny):
    student = copy.copy(tiny)
    student.module = copy.deepcopy(tiny.module)
    student.decoder = student.module.get_decoder()
    hints = FeatureDistillation(teacher, student)
    student.decoder.requires_grad_(True)
    optimiser = torch.optim.Adam([*student.decoder.parameters(), *hints.parameters()], lr=3e-3)
    before = copy.deepcopy(teacher.module.state_dict())
    losses = []
    for _ in range(30):
        loss = distance(hints, student)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.module.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.module.parameters())
