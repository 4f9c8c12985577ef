"""Own transformers modules as base models."""

import pytest
import torch
from tests.api.objects import text_model
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from fedmosaic.data.in_memory import InMemoryImages
from fedmosaic.data.sample import Sample
from fedmosaic.errors import ModelError
from fedmosaic.models import find_base_model
from fedmosaic.models.from_module import OwnModel
from fedmosaic.models.load import read_module
from fedmosaic.models.tiny import TinyModel

SAMPLE = Sample("one", (), "what color is grass ?", "green")


def loaded(own, home, **options):
    return own.load("mine", images=InMemoryImages(), home=home, **options)


def test_a_module_becomes_a_base_model_and_stays_as_it_is(tmp_path):
    own = text_model()
    model = loaded(own, tmp_path)
    assert model.module is not own.module
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert all(parameter.requires_grad for parameter in own.module.parameters())
    batch = model.collate([SAMPLE])
    ids, mask = batch.input_ids, batch.attention_mask
    theirs = own.module(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(model.head(model.hidden_states(batch)), theirs)


def test_equal_weights_are_one_architecture_whatever_they_are_rounded_to(tmp_path):
    one, other = loaded(text_model(), tmp_path), loaded(text_model(), tmp_path, dtype="float16")
    assert one.architecture == other.architecture != loaded(text_model(seed=1), tmp_path).architecture
    assert other.module.dtype == torch.float16


def test_an_embedded_model_given_as_a_module_keeps_its_features(tmp_path):
    folder = find_base_model("tiny-llama")
    own = OwnModel(read_module(folder), PreTrainedTokenizerFast.from_pretrained(folder))
    assert isinstance(loaded(own, tmp_path), TinyModel)


def test_what_is_no_base_model_is_named():
    own = text_model()
    with pytest.raises(ModelError, match="module is a Linear; expected a transformers PreTrainedModel"):
        OwnModel(torch.nn.Linear(2, 2), own.processor)
    with pytest.raises(ModelError, match="processor is a NoneType; expected a transformers tokenizer"):
        OwnModel(own.module, None)


def test_a_module_that_sees_needs_its_processor(tmp_path):
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    eyes = CLIPVisionConfig(**small, image_size=32, patch_size=16)
    config = LlavaConfig(vision_config=eyes, text_config=LlamaConfig(**small, vocab_size=64))
    tokenizer = AutoTokenizer.from_pretrained(find_base_model("tiny-llama"))
    with pytest.raises(ModelError, match="reads images, but only its tokenizer was given"):
        OwnModel(LlavaForConditionalGeneration(config), tokenizer)
