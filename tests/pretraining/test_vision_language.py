import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tests.models.conftest import Noise
from tests.models.packaged import make_packaged

from fedmosaic.data.dialogue import Dialogue
from fedmosaic.data.mosaic40.bank import Picture
from fedmosaic.data.sample import Sample
from fedmosaic.errors import RunError
from fedmosaic.io import load_tensors
from fedmosaic.models import load_base_model
from fedmosaic.pretraining import vision_language
from fedmosaic.pretraining.named_pictures import name_pictures, word_tokens
from fedmosaic.pretraining.train import dialogue_loss
from fedmosaic.pretraining.vision_language import train, untrained, write_delta
from fedmosaic.pretraining.vision_language_step import Recipe, Training
from fedmosaic.registry import PACKAGED

pytestmark = pytest.mark.slow  # models are trained

ONE = Dialogue(
    ("000001",), (("<image> what kind of thing is this ? answer :", "bird"), ("is this red ? answer :", "no"))
)
TWO = Dialogue(("000001", "000002"), (("<image> first <image> second which image is odd ? answer :", "second"),))
KINDS = ("bird", "fish", "tool", "boat")
PICTURES = [Picture(f"{n:06d}", "icon", "x", {"category": KINDS[n % 4], "number": n}) for n in range(8)]
RECIPE = Recipe(steps=4, batch=2, rank=4, naming=0, warm_up=1, lr=1e-2, projector_lr=1e-2, dtype="float32")


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def packaged(request, tmp_path_factory):
    return make_packaged(request.param, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def bank(monkeypatch):
    """Eight random pictures, and batches of two dialogues about them that depend on the step."""
    monkeypatch.setattr(vision_language, "draw", lambda bank, recipe, chunk: [[ONE, TWO], [TWO, ONE], [ONE], [TWO]] * 2)
    return SimpleNamespace(images=Noise(8), pool=SimpleNamespace(pictures=PICTURES), checksum="")


def start(packaged, bank, kept, recipe=RECIPE):
    return Training(untrained(packaged.vision, bank, home=kept), recipe)


def test_the_rate_rises_stays_and_falls():
    recipe = Recipe(steps=100, warm_up=4, decay=0.5)
    assert [recipe.rate(step) for step in (0, 1, 3, 49, 75)] == [0.25, 0.5, 1.0, 1.0, 0.5]
    assert recipe.rate(99) == pytest.approx(0.02)


def test_a_run_that_was_killed_goes_on_to_the_same_bits(packaged, bank, kept, tmp_path):
    whole, lines = start(packaged, bank, kept), []
    train(whole, bank, tmp_path / "whole.safetensors", every=0, log=lines.append)
    for until in (1, 3, None):  # each in a process of its own
        part = start(packaged, bank, kept)
        train(part, bank, tmp_path / "parts.safetensors", every=1000, until=until, log=lines.append)
    assert lines == ["goes on from step 1", "goes on from step 3"]
    one, other = (load_tensors(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    assert set(one) == set(other)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert sum(name.startswith("exp_avg_sq/") for name in one) == len(whole.trained()) == 2 * 2 * 7 + 4


def test_going_on_with_another_recipe_is_refused_but_for_its_length(packaged, bank, kept, tmp_path):
    first = start(packaged, bank, kept)
    train(first, bank, tmp_path / "c.safetensors", every=1000, until=1, log=lambda _: None)
    with pytest.raises(RunError, match=r"was begun with lr=0.01; go on so, or begin in another folder$"):
        start(packaged, bank, kept, Recipe(**{**vars(RECIPE), "lr": 1e-3})).load(tmp_path / "c.safetensors")
    longer = start(packaged, bank, kept, Recipe(**{**vars(RECIPE), "steps": 9}))
    longer.load(tmp_path / "c.safetensors")
    assert longer.step == 1


def test_training_learns_and_its_delta_makes_the_same_model(packaged, bank, kept, tmp_path, monkeypatch):
    training = start(packaged, bank, kept, Recipe(**{**vars(RECIPE), "steps": 40}))
    model = training.model
    frozen = {name: tensor.clone() for name, tensor in model.module.named_parameters() if "base.weight" in name}
    before = float(dialogue_loss(model, model.collate_dialogues([ONE, TWO])).detach())
    train(training, bank, tmp_path / "c.safetensors", every=1000, log=lambda _: None)
    batch = model.collate_dialogues([ONE, TWO])
    with torch.no_grad():
        after = float(dialogue_loss(model, batch))
        expected = model.answer_logits(batch).logits
    assert after < before - 2
    assert all(torch.equal(frozen[name], model.module.get_parameter(name)) for name in frozen)
    question = Sample("q", ("000001",), "<image> what is this ? answer :", "bird", ("bird", "fish"))
    monkeypatch.setattr(vision_language, "public_samples", lambda bank, count, seed: [question] * count)
    write_delta(training, packaged.vision, bank, questions=6, home=kept, out=tmp_path)
    record = json.loads((tmp_path / "pretraining.json").read_text())
    assert (record["steps"], record["skills"]["other"]["samples"], record["skills"]["other"]["chance"]) == (40, 6, 0.5)
    packaged.delta.write_bytes((tmp_path / "delta.safetensors").read_bytes())
    PACKAGED.register(packaged.vision)
    loaded = load_base_model(packaged.vision.name, images=bank.images, home=kept)
    with torch.no_grad():
        found = loaded.answer_logits(loaded.collate_dialogues([ONE, TWO]))
        assert float((found.logits - expected).norm() / expected.norm()) < 0.03
        loaded.save(tmp_path / "saved")
        saved = load_base_model(str(tmp_path / "saved"), images=bank.images, home=kept)
        again = saved.answer_logits(saved.collate_dialogues([ONE, TWO]))
        torch.testing.assert_close(again.logits, found.logits)


def test_half_precision_follows_single_precision(packaged, bank, kept):
    losses = {}
    for dtype in ("float32", "bfloat16"):
        training = start(packaged, bank, kept, Recipe(**{**vars(RECIPE), "steps": 20, "dtype": dtype}))
        assert {p.dtype for p in training.trained().values()} == {torch.float32}
        assert training.model.decoder.layers[0].mlp.up_proj.base.weight.dtype == getattr(torch, dtype)
        losses[dtype] = torch.tensor([training.learn([ONE, TWO]) for _ in range(20)])
    assert float(losses["float32"][-1]) < float(losses["float32"][0]) - 0.5
    torch.testing.assert_close(losses["bfloat16"], losses["float32"], rtol=0.1, atol=0.1)


def test_a_projector_learns_to_name_pictures(packaged, bank, kept):
    training = start(packaged, bank, kept)
    model = training.model
    tokens = [word_tokens(picture, model) for picture in PICTURES]
    assert tokens[5] == sorted(
        {
            model.tokenizer.encode(" fish", add_special_tokens=False)[0],
            model.tokenizer.encode(" 5", add_special_tokens=False)[-1],
        }
    )
    losses = [name_pictures(model, PICTURES, steps=steps, noise=0.1, seed=0) for steps in (5, 60)]
    assert losses[1] < 0.5 * losses[0]
    places = sorted({token for each in tokens for token in each})
    with torch.no_grad():
        words = model.module.get_input_embeddings()(torch.tensor(places))
        seen = training.projector(model.features.get([picture.key for picture in PICTURES]))
        centre = words.mean(0)
        near = F.normalize(seen - centre, dim=-1) @ F.normalize(words - centre, dim=-1).T
        assert [places[int(row)] in wanted for row, wanted in zip(near.amax(1).argmax(-1), tokens, strict=True)] == [
            True
        ] * 8
        sizes = seen.pow(2).mean().sqrt(), words.pow(2).mean().sqrt()
    torch.testing.assert_close(*sizes, rtol=0.01, atol=0)
