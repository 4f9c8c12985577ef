"""Options are scored by the tokens that they have in training, wherever a prompt ends."""

import copy

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fedmosaic.data.in_memory import InMemoryImages
from fedmosaic.data.sample import Sample
from fedmosaic.errors import ModelError
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.models.likelihoods import log_likelihoods

OPTIONS = ("yes", "no")


@pytest.fixture(scope="module")
def model():
    """Its words have other tokens after a space than at a beginning, as those of most models of 2026."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special, letters = ["<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=letters)
    tokenizer.train_from_iterator(["is it ? answer : yes no yes no", "yes\nno\nanswer:\nyes\nno"] * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    return CheckpointModel("words", LlamaForCausalLM(config), fast, None, InMemoryImages())


@pytest.mark.parametrize("end", ["", " ", "\n"])
@torch.no_grad()
def test_options_are_scored_by_the_tokens_that_follow_the_prompt_in_training(model, end):
    prompt = f"is it ? answer:{end}"
    firsts, scores = [], []
    for option in OPTIONS:
        batch = model.collate([Sample("1", (), prompt, option)])
        first = int((batch.labels[0] != -100).nonzero()[0])
        firsts.append(batch.labels[0, first].item())
        hidden = model.hidden_states(batch)[0, first - 1]
        scores.append(torch.log_softmax(model.head(hidden).float(), dim=-1)[firsts[-1]])
    assert len(set(firsts)) == 2
    (found,) = log_likelihoods(model, [Sample("1", (), prompt, "yes", OPTIONS)])
    torch.testing.assert_close(found, torch.stack(scores), atol=1e-5, rtol=1e-5)


def test_a_model_that_gives_no_numbers_answers_nothing(model):
    module = copy.deepcopy(model.module)
    diverged = CheckpointModel("mine", module, model.tokenizer, None, InMemoryImages())
    torch.nn.init.constant_(module.model.norm.weight, float("nan"))
    for asked in (Sample("1", (), "is it ?", "yes", OPTIONS), Sample("2", (), "is it ?", "yes", (*OPTIONS, "yes no"))):
        with pytest.raises(ModelError, match="mine scores answers with NaN"):
            log_likelihoods(diverged, [asked])
    with pytest.raises(ModelError, match="mine scores answers with NaN"):
        diverged.answer([Sample("3", (), "is it ?", "yes")])
