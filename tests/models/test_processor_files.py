"""Processors that read videos too, or need packages: read without what pictures do not need, else one line."""

import json
from importlib.util import find_spec

import pytest
import torch
import transformers as tf
from tests.models.checks import Case, Noise
from tests.models.instances import INSTANCES
from tests.models.making import SMALL, save, tokenizer_of

from fedmosaic.data.sample import Sample
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models import processors
from fedmosaic.models.interface import find_interface
from fedmosaic.models.read import load_checkpoint

ASKED = "what kind of thing is this ? answer :"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = {}

    def of(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            save(INSTANCES[name], made[name])
        return made[name]

    return of


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision reads the videos")
def test_what_a_checkpoint_says_of_videos_is_kept(folder, tmp_path):
    own = folder("qwen2_vl")
    (own / "video_preprocessor_config.json").write_text(json.dumps({"fps": 7, "video_processor_type": "Q"}))
    model = load_checkpoint("it", own, images=Noise())
    model.save(tmp_path)
    again = load_checkpoint("again", tmp_path, images=Noise())
    assert again.processor.video_processor.to_dict() == {"fps": 7, "video_processor_type": "Q"}
    assert json.loads((tmp_path / "processor_config.json").read_text())["processor_class"] == "Qwen2VLProcessor"
    assert type(again.processor).__name__ == "Qwen2VLProcessor"


@pytest.mark.parametrize(
    "error",
    [
        ImportError("PixtralProcessor requires the Torchvision library\n but it was not found"),
        ValueError("none of the backends of X is there: torchvision"),
        ImportError("Package `num2words` is required to run SmolVLM processor."),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_extra_that_brings_it(folder, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(processors.AutoProcessor, "from_pretrained", fail)
    with pytest.raises(
        ModelError, match=r"^base model 'it': its processor in .*pip install 'fedmosaic\[processors\]'$"
    ):
        load_checkpoint("it", folder("idefics3"), images=Noise())


def test_other_faults_of_a_processor_say_which_files_are_expected(folder, monkeypatch):
    def fail(*_, **__):
        raise ValueError("odd")

    monkeypatch.setattr(processors.AutoProcessor, "from_pretrained", fail)
    with pytest.raises(ModelError, match=r"odd; expected are preprocessor_config\.json"):
        load_checkpoint("it", folder("idefics3"), images=Noise())


# ---- what must not be seen


@torch.no_grad()
def test_answers_are_not_seen_where_a_prompt_is_read_at_once(folder):
    """PaliGemma's prompt is read in both directions, and token types say what the prompt is."""
    model = Case(folder("paligemma2"), None, None).model()
    one, two = (Sample("a", ("64x64",), f"<image> {ASKED}", answer) for answer in ("a fish tool", "a fish boat"))
    logits = [model.answer_logits(model.collate([sample])).logits for sample in (one, two)]
    shared = min(map(len, logits)) - 2  # of the answers' tokens: all but the last, and the end
    assert shared > 1
    torch.testing.assert_close(logits[0][:shared], logits[1][:shared])
    types = model.collate([one]).vision["token_type_ids"]
    assert not types.any()  # the processor's; the model is told of the answer when it is computed


def test_a_model_that_cannot_do_without_pictures_names_the_sample(folder):
    model = Case(folder("paligemma2"), None, None).model()
    text = Sample("plain", (), ASKED, "bird")
    for refuse in (model.prepare, model.collate):
        with pytest.raises(DataError, match=r"reads no text without a picture, but sample 'plain' has none"):
            refuse([text])


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (lambda: tf.Gemma3ForCausalLM(_gemma(use_bidirectional_attention=True)), "reads a text at once"),
        (lambda: tf.DistilBertForMaskedLM(tf.DistilBertConfig(dim=32, n_layers=1, n_heads=2)), "use a decoder model"),
    ],
    ids=["both directions", "no decoder"],
)
def test_models_that_do_not_write_are_refused(tmp_path, module, words):
    module().save_pretrained(tmp_path)
    tokenizer_of(INSTANCES["llama"]).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=words) as caught:
        load_checkpoint("it", tmp_path, images=Noise())
    assert "\n" not in str(caught.value)


def _gemma(**more):
    return tf.Gemma3TextConfig(**SMALL, head_dim=16, sliding_window=64, **more)


def test_a_norm_before_the_projectors_linear_is_a_part_of_the_features(folder):
    """InternVL's: two models of one tower and other norms do not share what their adapters learn."""
    module = load_checkpoint("it", folder("internvl"), images=Noise()).module
    before = find_interface(module).tower
    projector = module.model.multi_modal_projector
    with torch.no_grad():
        projector.linear_1.weight.add_(1)
        assert find_interface(module).tower == before
        projector.layer_norm.weight.mul_(2)
        assert find_interface(module).tower != before
