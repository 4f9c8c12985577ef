"""Making a small random checkpoint of an architecture: tokenizer, weights and processor.

Nothing is downloaded: configurations are made here, weights are random, the tokenizer is fitted to a few words, and the
processors are transformers' own with small pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name
from transformers.utils import is_torchvision_available

from fedmosaic.models.processors import NoVideos, without_videos
from fedmosaic.pretraining.tokenizers import fit_tokenizer

WORDS = (
    "what kind of thing is this ? options : bird fish tool boat answer : first second third odd one out green red blue "
    "system user assistant you are a careful helper . say which image"
)
ROTARY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
DECODER = {**ROTARY, "intermediate_size": 48, "vocab_size": 600, "max_position_embeddings": 1024}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL = {**DECODER, **SPECIAL}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }} : "
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{{ 'MARK' if c['type'] == 'image' else ' ' + c['text'] }}{% endfor %}{% endif %}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


@dataclass(frozen=True)
class Instance:
    """One architecture.

    Attributes:
        title: what users call it.
        config: makes the configuration; is given the ids of the marks by their name.
        processor: makes the processor of a tokenizer and a chat template; None for text models.
        marks: special tokens by the name under which the tokenizer has them.
        mark: what stands for a picture in a prompt.
        needs: packages beyond the project's own, without which the processor does not load.
        tiles: whether large pictures become more tokens than small ones.
    """

    title: str
    config: Callable[[Mapping[str, int]], Any]
    processor: Callable[[Any, str], Any] | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    mark: str = "<image>"
    needs: tuple[str, ...] = ()
    tiles: bool = False


def tokenizer_of(instance: Instance) -> Any:
    """Return a small tokenizer with the instance's marks."""
    fitted = fit_tokenizer("bpe", [WORDS] * 20, vocabulary=400, whole_words=["user", "assistant", "system"])
    fitted.add_special_tokens({"additional_special_tokens": [*instance.marks.values()]})
    plain = {name: mark for name, mark in instance.marks.items() if not name.startswith("_")}
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=fitted.backend_tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template=TEMPLATE.replace("MARK", instance.mark) if instance.processor is None else None,
        extra_special_tokens=plain,
    )


def save(instance: Instance, folder: Path, *, seed: int = 0) -> None:
    """Write the instance's checkpoint, as ``save_pretrained`` does; no weight is as in a fresh model (norms shift)."""
    tokenizer = tokenizer_of(instance)
    ids = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in instance.marks.items()}
    config = instance.config(ids)
    autos = (tf.AutoModelForImageTextToText, tf.AutoModelForCausalLM, tf.AutoModelForSeq2SeqLM)
    auto: Any = next(auto for auto in autos if type(config) in auto._model_mapping)
    torch.manual_seed(seed)
    module = auto.from_config(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_((0.3 if parameter.ndim == 1 else 0.1) * torch.randn_like(parameter))
    module.save_pretrained(folder)
    if instance.processor is None:
        tokenizer.save_pretrained(folder)
    else:
        instance.processor(tokenizer, TEMPLATE.replace("MARK", instance.mark)).save_pretrained(folder)


def pil(name: str, **settings: Any) -> Any:
    """Return an image processor that needs no torchvision, or (where there is none) the one that does."""
    kind = get_image_processor_class_from_name(f"{name}Pil") or get_image_processor_class_from_name(name)
    return kind(**settings)


def reading(name: str, *parts: Any, **settings: Any) -> Any:
    """Return a processor of these parts; the one that reads videos comes last, where torchvision is there."""
    kind = getattr(tf, name)
    if "video_processor" in kind.get_attributes():
        kind, parts = (
            (kind, parts) if is_torchvision_available() else (without_videos(kind), (*parts[:-1], NoVideos({})))
        )
    return kind(*parts, **settings)


def video(name: str, **settings: Any) -> Any:
    """Return a processor of videos, or None where torchvision is missing."""
    return getattr(tf, name)(**settings) if is_torchvision_available() else None
