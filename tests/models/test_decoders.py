"""Decoders whose layers are called otherwise than Llama's: GPT-2 and its kin, from the folder to the merged export."""

import pytest
import torch
import transformers as tf
from peft import PeftModel
from torch.utils.flop_counter import FlopCounterMode

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.adapters.export import write_lora
from fedmosaic.adapters.merge import merged
from fedmosaic.adapters.placement import find_targets
from fedmosaic.alignment import align
from fedmosaic.data.sample import Sample
from fedmosaic.models.base import IGNORED, Batch
from fedmosaic.models.cost import BatchShape, forward_flops, train_step_flops
from fedmosaic.models.read import load_checkpoint
from fedmosaic.pretraining.tokenizers import fit_tokenizer

MARKS = {"vocab_size": 500, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT = {**MARKS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
WIDE = {**MARKS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
KINDS = {
    "gpt2": (tf.GPT2LMHeadModel, tf.GPT2Config(**GPT)),
    "gpt_bigcode": (tf.GPTBigCodeForCausalLM, tf.GPTBigCodeConfig(**GPT)),
    "gptj": (tf.GPTJForCausalLM, tf.GPTJConfig(**GPT, rotary_dim=8)),
    "codegen": (tf.CodeGenForCausalLM, tf.CodeGenConfig(**GPT, rotary_dim=8)),
    "gpt_neo": (
        tf.GPTNeoForCausalLM,
        tf.GPTNeoConfig(
            **MARKS,
            hidden_size=32,
            num_layers=2,
            attention_types=[[["global", "local"], 1]],
            num_heads=4,
            max_position_embeddings=128,
        ),
    ),
    "gpt_neox": (tf.GPTNeoXForCausalLM, tf.GPTNeoXConfig(**WIDE, intermediate_size=48)),
    "opt": (tf.OPTForCausalLM, tf.OPTConfig(**WIDE, ffn_dim=48, word_embed_proj_dim=32)),
    "bloom": (tf.BloomForCausalLM, tf.BloomConfig(**MARKS, hidden_size=32, n_layer=2, n_head=4)),
    "falcon": (tf.FalconForCausalLM, tf.FalconConfig(**WIDE)),
    "phi": (tf.PhiForCausalLM, tf.PhiConfig(**WIDE, intermediate_size=48)),
    "mpt": (tf.MptForCausalLM, tf.MptConfig(**MARKS, d_model=32, n_layers=2, n_heads=4, max_seq_len=128)),
}
LIMITS = {"gpt_neox": 2048, "opt": 2048, "bloom": None, "falcon": 2048, "phi": 2048}
WITHOUT_BIAS = ("gptj", "codegen", "gpt_neo", "falcon", "mpt")  # at some of the linears that Q shifts
SLOTS = (Slot("local", communicated=True), Slot("other", communicated=False))


@pytest.fixture(scope="module", params=sorted(KINDS))
def kind(request, tmp_path_factory):
    """A random checkpoint's kind and folder; its norms shift, as trained ones do."""
    kind, config = KINDS[request.param]
    torch.manual_seed(0)
    module, folder = kind(config), tmp_path_factory.mktemp(request.param)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_((0.3 if parameter.ndim == 1 else 0.1) * torch.randn_like(parameter))
    module.save_pretrained(folder)
    words = "what kind of thing is this ? options : bird fish tool boat answer : first second red and green a"
    fit_tokenizer("bpe", [words] * 20, vocabulary=300, whole_words=[]).save_pretrained(folder)
    return request.param, folder


@pytest.fixture
def model(kind, noise):
    return load_checkpoint("it", kind[1], images=noise)


@pytest.fixture
def texts(samples):
    return [sample for sample in samples if not sample.images] * 2


def adapted(model, *, fill=True, blocks=1, dropout=0.0):
    adapter = Adapter.attach(
        model.module,
        model.decoder,
        slots=SLOTS,
        rank=4,
        alpha=4,
        blocks=blocks,
        gate="scalar",
        seed=0,
        dropout=dropout,
        architecture="it",
    )
    torch.manual_seed(1)
    for parameter in (p for group in adapter.named_groups().values() for p in group.values() if fill):
        torch.nn.init.normal_(parameter, std=0.3)
    return adapter


def test_positions_are_the_configurations(kind, model):
    assert model.limit == LIMITS.get(kind[0], 128)


@torch.no_grad()
def test_logits_are_the_models_own(model, texts):
    batch = model.collate(texts)
    theirs = model.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    torch.testing.assert_close(model.head(model.hidden_states(batch)), theirs)


class Low(torch.nn.Module):
    """A linear with a low-rank branch in plain operations, which torch can count."""

    def __init__(self, base, inside, outside):
        super().__init__()
        self.base = base
        self.down, self.up = torch.nn.Parameter(torch.ones(4, inside)), torch.nn.Parameter(torch.ones(outside, 4))

    def forward(self, x):
        return self.base(x) + (x @ self.down.T) @ self.up.T


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
def test_cost_is_what_torch_counts(kind, model, texts, first):
    if kind[0] != "mpt":  # knows one kernel only
        model.module.set_attn_implementation("eager")  # the fused kernel is not counted on a CPU
    batch = model.collate(texts * 2)
    rows, length = batch.input_ids.shape
    shape = BatchShape(rows, length, int((batch.labels[:, 1:] != IGNORED).sum()))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.loss(batch)
    assert forward_flops(model, shape) == pytest.approx(counter.get_total_flops(), rel=0.02)
    for target in find_targets(model.decoder, blocks=0).targets:
        if target.layer >= first:
            base = model.decoder.get_submodule(target.path)
            model.decoder.set_submodule(target.path, Low(base, target.in_features, target.out_features))
    with FlopCounterMode(display=False) as counter:
        model.loss(batch).backward()
    assert train_step_flops(model, shape) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_a_count_draws_no_random_numbers(model):
    """Else a run would depend on when its cost is counted."""
    adapter = adapted(model, dropout=0.5)
    adapter.train()
    before = torch.random.get_rng_state()
    assert train_step_flops(model, BatchShape(2, 8, 4)) > 0
    assert torch.equal(torch.random.get_rng_state(), before)
    model.hidden_states(Batch(*torch.ones(3, 1, 2, dtype=torch.long)))
    assert not torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
def test_every_layer_gets_adapters_that_learn(model, texts):
    adapter = adapted(model, fill=False)
    layers = {target.layer for target in adapter.placement.targets}
    assert layers == {0, 1}
    assert adapter.placement.ends == (1,)
    groups = adapter.train_only("local", gate=True)
    optimiser = torch.optim.AdamW([p for group in groups.values() for p in group], lr=1e-2)
    batch, losses = model.collate(texts), []
    for _ in range(6):
        loss = model.loss(batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(parameter.abs().max() > 0 for name, parameter in adapter.parameters("local").items() if "block." in name)


@pytest.mark.slow
def test_models_of_one_kind_and_different_size_are_aligned(noise, tmp_path):
    """Whatever their linears are called, and though GPT-2's are transposed."""
    models = {}
    for width in (32, 48):
        config = tf.GPT2Config(**GPT | {"n_embd": width})
        torch.manual_seed(width)
        tf.GPT2LMHeadModel(config).save_pretrained(tmp_path / str(width))
        words = "what kind of thing is this ? options : bird fish tool boat answer : first second"
        fit_tokenizer("bpe", [words] * 20, vocabulary=300, whole_words=[]).save_pretrained(tmp_path / str(width))
        models[str(width)] = load_checkpoint(str(width), tmp_path / str(width), images=noise)
    kinds = ("bird", "fish", "tool", "boat")
    asked = [
        Sample(str(i), (), f"what {kinds[i % 3]} is this {kinds[i % 4]} ? answer :", kinds[i % 4], kinds)
        for i in range(40)
    ]
    alignment = align(models, asked, rank=4, blocks=2)
    for model in models.values():
        adapter = adapted(model, fill=False, blocks=2)
        adapter.load_basis(alignment.basis(model.architecture))
    assert alignment.mean().inputs > 0.5


@pytest.mark.slow
@torch.no_grad()
def test_exports_compute_the_same(kind, model, texts, tmp_path):
    name, folder = kind
    adapter = adapted(model)
    if name in WITHOUT_BIAS:  # their LoRA holds Q; the merged form is for adapters without it
        for parameter_name, parameter in adapter.named_groups()["colora"].items():
            parameter.mul_(0 if parameter_name.endswith(".Q") else 1)
    write_lora(adapter, tmp_path / "lora", base_model=str(folder))
    batch = model.collate(texts)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    model.module.double()
    expected = model.module(**inputs).logits
    model.module.float()
    changes, config = merged(adapter, model.module)
    adapter.detach()
    model.save(tmp_path / "merged", changes=changes, config=config)
    plain = tf.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").double().eval()
    torch.testing.assert_close(plain(**inputs).logits, expected, atol=2e-4, rtol=1e-5)
    base = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    assert (base(**inputs).logits - expected).abs().max() > 1e-2
    theirs = PeftModel.from_pretrained(base, tmp_path / "lora").double().eval()
    torch.testing.assert_close(theirs(**inputs).logits, expected, atol=2e-5, rtol=1e-5)
