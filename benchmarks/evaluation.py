"""What answers cost with a key-value cache, and options that share a prompt: ratios in one run, medians, one thread.

    python benchmarks/evaluation.py                      # the embedded model tiny-llama, and a random text model
    python benchmarks/evaluation.py --width 512 --layers 8 --prompt 400 --repeats 5

Both ways are timed in turn on the same questions, the old one by reading everything anew; the answers are compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers as tf

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
    fit_tokenizer("word", [" ".join(WORDS)] * 20, vocabulary=300, whole_words=()).save_pretrained(folder)
    return load_base_model(str(folder), images=GivenImages(()), home=folder)


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
    found: dict[str, object] = {"threads": 1, "torch": torch.__version__, **vars(chosen)}
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
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
