"""What answers, options that share a prompt, and kept features of a tower cost: ratios in one run, medians, one thread.

    python benchmarks/evaluation.py                      # the embedded model tiny-llama, and a random text model
    python benchmarks/evaluation.py --width 512 --layers 8 --prompt 400 --repeats 5

Both ways are timed in turn on the same questions, the old one by reading everything anew; the answers are compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers as tf
from PIL import Image

from fedmosaic.config import home
from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.data.images import GivenImages
from fedmosaic.data.sample import Sample
from fedmosaic.methods import token_product
from fedmosaic.methods.token_product import TokenProduct
from fedmosaic.models import BaseModel, base, likelihoods, load_base_model
from fedmosaic.models.likelihoods import log_likelihoods
from fedmosaic.pretraining.tokenizers import fit_tokenizer

TEXT = "what kind of thing is this red green blue bird fish tool boat first second third house tree river stone"
WORDS = TEXT.split()


class Told(dict[str, object]):
    """Results, shown as they come."""

    def __setitem__(self, name: str, value: object) -> None:
        print(name, value, file=sys.stderr, flush=True)
        super().__setitem__(name, value)


def seconds(work: Callable[[], object], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return found


def anew(work: Callable[[], object]) -> Callable[[], object]:
    """Do the same without a past."""

    def without() -> object:
        places = (base, likelihoods, token_product)
        before = [place.can_read_on for place in places]
        try:
            for place in places:
                place.can_read_on = lambda *_: False
            return work()
        finally:
            for place, former in zip(places, before, strict=True):
                place.can_read_on = former

    return without


def compared(work: Callable[[], object], repeats: int) -> dict[str, object]:
    """Time both ways in turn, after a turn that does not count."""
    new, old = work(), anew(work)()
    same = new == old if not isinstance(new, list) or isinstance(new[0], str) else None
    apart = None if same is not None else max(float((a - b).abs().max()) for a, b in zip(new, old, strict=True))
    ratios, times = [], []
    for _ in range(repeats):
        (with_past,), (without,) = seconds(work, 1), seconds(anew(work), 1)
        ratios.append(with_past / without)
        times.append((with_past, without))
    middle = [statistics.median(each) for each in zip(*times, strict=True)]
    return {
        "seconds": round(middle[0], 3),
        "seconds anew": round(middle[1], 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(min(ratios), 3), round(max(ratios), 3)],
        **({"equal answers": same} if same is not None else {"largest difference (nats)": apart}),
    }


def text_model(folder: Path, width: int, layers: int) -> BaseModel:
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, num_attention_heads=width // 32,
        num_key_value_heads=width // 32, vocab_size=400, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    tf.LlamaForCausalLM(config).save_pretrained(folder)
    fit_tokenizer("word", [TEXT] * 20, vocabulary=300, whole_words=()).save_pretrained(folder)
    return load_base_model(str(folder), images=GivenImages(()), home=folder)


class Noise:
    """Random pictures."""

    collection = "noise"

    def keys(self) -> list[str]:
        return [str(number) for number in range(64)]

    def digest(self, key: str) -> str:
        return f"noise {key}"

    def load(self, key: str) -> Image.Image:
        random = np.random.default_rng(int(key))
        return Image.fromarray(random.integers(0, 255, (224, 224, 3), dtype=np.uint8))


def seeing_model(folder: Path, width: int, layers: int, gib: float) -> BaseModel:
    """A LLaVA whose tower is as large as ViT-S/16, 196 tokens a picture."""
    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        fitted = fit_tokenizer("word", [TEXT] * 20, vocabulary=300, whole_words=())
        tokenizer = tf.PreTrainedTokenizerFast(
            tokenizer_object=fitted.backend_tokenizer,
            **{f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk")},
        )
        tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
        vision = tf.CLIPVisionConfig(
            hidden_size=384, intermediate_size=1536, num_hidden_layers=12, num_attention_heads=6, image_size=224,
            patch_size=16, projection_dim=384,
        )  # fmt: skip
        text = tf.LlamaConfig(
            hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, num_attention_heads=width // 32,
            num_key_value_heads=width // 32, vocab_size=400, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        mark = tokenizer.convert_tokens_to_ids("<image>")
        config = tf.LlavaConfig(vision_config=vision, text_config=text, image_token_index=mark, image_seq_length=196)
        tf.LlavaForConditionalGeneration(config).save_pretrained(folder)
        images = tf.CLIPImageProcessor(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
        tf.LlavaProcessor(
            images,
            tokenizer,
            patch_size=16,
            vision_feature_select_strategy="default",
            image_token="<image>",
            num_additional_image_tokens=1,
        ).save_pretrained(folder)
    return load_base_model(str(folder), images=Noise(), home=folder, feature_cache=gib)


def features(folder: Path, width: int, layers: int, repeats: int) -> dict[str, object]:
    """Time reading a batch of eight pictures, processor included, with kept features and with the tower."""
    kept, plain = (seeing_model(folder, width, layers, gib) for gib in (1.0, 0.0))
    asked = [Sample(f"p{index}", (str(index),), "<image> what kind of thing is this", "bird") for index in range(8)]
    (first,) = seconds(lambda: kept.prepare(asked), 1)
    pairs = []
    for _ in range(repeats):
        pairs.append(tuple(seconds(lambda each=each: each.loss(each.collate(asked)), 1)[0] for each in (kept, plain)))
    return {
        "seconds": round(statistics.median(new for new, _ in pairs), 3),
        "seconds with the tower": round(statistics.median(old for _, old in pairs), 3),
        "ratio": round(statistics.median(new / old for new, old in pairs), 3),
        "seconds to fill": round(first, 3),
    }


def questions(count: int, length: int, options: int, words: int) -> list[Sample]:
    random = torch.Generator().manual_seed(0)

    def draw(count: int) -> str:
        return " ".join(WORDS[int(n)] for n in torch.randint(len(WORDS), (count,), generator=random))

    found = []
    for index in range(count):
        given: list[str] = []
        while len(given) < options:
            given.extend({draw(words)} - set(given))
        found.append(Sample(f"q{index}", (), draw(length - index % 7), given[0], tuple(given)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=120)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    found = Told({"threads": 1, "torch": torch.__version__, **vars(chosen)})
    benchmark = load_benchmark("mosaic40", home=home(), folder=None)
    tiny = load_base_model("tiny-llama", images=benchmark.images, home=home())
    asked = [
        sample for name in benchmark.task_names() for sample in benchmark.task(name).test if sample.options is None
    ]
    if asked:
        asked = asked[:64]
        tiny.prepare(asked)
        found["tiny-llama: open answers of mosaic40, 6 tokens"] = compared(
            lambda: tiny.answer(asked, max_tokens=6), chosen.repeats
        )
    with tempfile.TemporaryDirectory() as folder:
        model = text_model(Path(folder), chosen.width, chosen.layers)
        prompts = questions(chosen.questions, chosen.prompt, 4, 3)
        for tokens in (6, 32, 64):
            found[f"answers of {tokens} tokens"] = compared(
                lambda tokens=tokens: model.answer(prompts, max_tokens=tokens), chosen.repeats
            )
        together = TokenProduct(model, model, lambda some: torch.ones(len(some)))
        found["two models, 32 tokens"] = compared(lambda: together.answer(prompts, max_tokens=32), chosen.repeats)
        for options in (2, 4, 8):
            several = questions(chosen.questions, chosen.prompt, options, 3)
            found[f"{options} options of 3 words"] = compared(
                lambda several=several: log_likelihoods(model, several), chosen.repeats
            )
        one = dataclasses.replace(prompts[0], options=None)
        found["ask: one question, 32 tokens"] = compared(lambda: model.answer([one], max_tokens=32), chosen.repeats)
    with tempfile.TemporaryDirectory() as folder:
        found["features of a ViT-S/16"] = features(Path(folder), chosen.width, chosen.layers, chosen.repeats)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
