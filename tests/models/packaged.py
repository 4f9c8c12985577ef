"""Small random models in GGUF files inside packages, as the real ones are: a Llama, and a Gemma 3 in two parts."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from fedmosaic.models.from_package import PackagedText, PackagedVision
from fedmosaic.models.weight_package import WeightPackage

WORDS = (
    "what kind of thing is this ? options : bird fish tool boat answer : first second third odd one out green red blue "
    "which image is the yes no . , 0 1 2 3 4 5 6 7 8 9"
)
LAYERS, WIDTH, HEADS, KEYS = 2, 64, 2, 1
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GEMMA_NAMES = {
    **_NAMES,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}


@dataclass(frozen=True)
class Packaged:
    """Two base models of one package, the original of its language model, and where the delta is expected."""

    text: type[PackagedText]
    vision: type[PackagedVision]
    original: torch.nn.Module
    delta: Path


def make_packaged(architecture: str, folder: Path) -> Packaged:
    """Write the package and return its models; the folder of packages must be on ``sys.path``."""
    file = folder / "whole.gguf"
    original, unused = {"llama": _llama, "gemma3": _gemma}[architecture](file)
    content = file.read_bytes()
    file.unlink()
    count = {"llama": 1, "gemma3": 2}[architecture]
    ends = [len(content) * part // count for part in range(count + 1)]
    parts = []
    for number in range(count):
        module = f"weights_of_{architecture}_{folder.name.replace('-', '_')}_{number}"
        package = folder / module
        package.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError('a package of weights is never imported')\n")
        (package / f"part{number}").write_bytes(content[ends[number] : ends[number + 1]])
        parts.append(f"{module}/part{number}")
    package = WeightPackage((f"weights-of-{architecture}==1.0",), tuple(parts), hashlib.sha256(content).hexdigest())
    delta = folder / "delta.safetensors"
    text = type("Text", (PackagedText,), {"name": f"test-{architecture}-text", "package": package})
    body = {"name": f"test-{architecture}", "package": package, "language_model": text, "unused": unused}
    vision = type("Vision", (PackagedVision,), {**body, "delta_file": classmethod(lambda cls: delta)})
    sys.path.insert(0, str(folder))
    return Packaged(text, vision, original, delta)


def _llama(path: Path) -> tuple[torch.nn.Module, str]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unused>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {WORDS}"] * 20, trainer)
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    config = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KEYS, vocab_size=len(tokens), max_position_embeddings=256, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    module = LlamaForCausalLM(config).eval()
    writer = gguf.GGUFWriter(path, "llama")
    _write_sizes(writer, config)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_chat_template(TEMPLATE)
    _write_special(writer, bos=1, eos=2, unknown=0, padding=2)
    heads = {"attn_q": HEADS, "attn_k": KEYS}
    _write_weights(writer, module, _NAMES, Kind.Q4_1, stored=lambda name, w: _interleaved(w, heads.get(name)))
    return module, "<unused>"


def _gemma(path: Path) -> tuple[torch.nn.Module, str]:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<unused0>"]
    letters = [*sorted(set(WORDS.replace(" ", "")) | set("abcdefghijklmnopqrstuvwxyz<>\n")), "▁"]
    pieces = [f"▁{word}"[:end] for word in dict.fromkeys(WORDS.split()) for end in range(2, len(word) + 2)]
    tokens = [*special, *dict.fromkeys([*pieces, *letters])]
    config = Gemma3TextConfig(
        hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=HEADS, head_dim=32,
        num_key_value_heads=KEYS, vocab_size=len(tokens), max_position_embeddings=256, query_pre_attn_scalar=256,
        sliding_window=64, bos_token_id=2, eos_token_id=1, pad_token_id=0,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )  # fmt: skip
    torch.manual_seed(0)
    module = Gemma3ForCausalLM(config).eval()
    for name, parameter in module.named_parameters():
        if "norm" in name:  # they are zeros at first
            torch.nn.init.normal_(parameter, std=0.3)
    writer = gguf.GGUFWriter(path, "gemma3")
    _write_sizes(writer, config)
    writer.add_key_length(32)
    writer.add_value_length(32)
    writer.add_sliding_window(64)
    writer.add_rope_freq_base(1e6)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_add_space_prefix(False)
    _write_special(writer, bos=2, eos=1, unknown=3, padding=0)
    _write_weights(writer, module, _GEMMA_NAMES, Kind.Q5_0, stored=lambda name, w: w + 1 if "norm" in name else w)
    return module, "<unused0>"


def _write_sizes(writer, config) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _write_special(writer, *, bos: int, eos: int, unknown: int, padding: int) -> None:
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(eos)
    writer.add_unk_token_id(unknown)
    writer.add_pad_token_id(padding)


def _write_weights(writer, module, names, kind: Kind, *, stored) -> None:
    """Write the weights, and give the module the values that are left of them."""
    module.model.embed_tokens.weight.data.mul_(20)  # or no hidden state could predict anything
    places = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"} | {
        f"model.layers.{layer}.{theirs}": f"blk.{layer}.{ours}"
        for layer in range(LAYERS)
        for theirs, ours in names.items()
    }
    for theirs, ours in places.items():
        weight = module.get_parameter(f"{theirs}.weight").data
        values = weight.numpy()
        if weight.ndim == 2:
            used = Kind.Q8_0 if ours == "token_embd" else kind
            weight.copy_(torch.from_numpy(gguf.dequantize(gguf.quantize(values, used), used)))
            tensor = gguf.quantize(np.ascontiguousarray(stored(ours.rpartition(".")[2], weight.numpy())), used)
            writer.add_tensor(f"{ours}.weight", tensor, raw_dtype=used)
        else:
            writer.add_tensor(f"{ours}.weight", stored(ours.rpartition(".")[2], values).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(weight, heads: int | None):
    """Return a Llama's queries or keys in llama.cpp's order: the halves of each head are interleaved."""
    if heads is None:
        return weight
    return weight.reshape(heads, 2, len(weight) // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)
