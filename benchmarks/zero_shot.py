"""What base models answer on the clients' tasks before any training: accuracy by family of skills, beside chance.

    python benchmarks/zero_shot.py --out results/zero-shot.json                           # the embedded models
    python benchmarks/zero_shot.py --out results/zero-shot.json --models small-smollm2 --dtype bfloat16   # one of these

Validation samples, the same for all models, all 40 tasks with options or not. Models that were measured before with as
many samples stay in the file. The peak is the process's: with several models that of the largest so far.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from _runtime import runtime
from learnable import chance

from fedmosaic.config import load_scenario, resolve
from fedmosaic.evaluation.score import score_samples
from fedmosaic.io import write_atomically
from fedmosaic.processes import peak_memory


def measure(model: str, *, samples: int, dtype: str) -> dict[str, Any]:
    here = runtime(resolve(load_scenario("mosaic40"), method="sft", overrides=[f"model.dtype={dtype}"]))
    loaded = here.pool.model(model)
    begin = time.process_time()
    right: dict[str, list[float]] = defaultdict(list)
    blind: dict[str, list[float]] = defaultdict(list)
    for name in here.benchmark.task_names():
        task = here.benchmark.task(name)
        asked = task.validation[:samples]
        loaded.prepare(asked)
        right[task.family] += score_samples(loaded, asked, batch_size=16).scores
        blind[task.family].append(chance(task))
        print(model, name, round(statistics.fmean(right[task.family]), 3), flush=True)
    return {
        "samples": samples,
        "dtype": dtype,
        "mean": round(statistics.fmean(score for scores in right.values() for score in scores), 3),
        "families": {family: round(statistics.fmean(scores), 3) for family, scores in sorted(right.items())},
        "chance": round(statistics.fmean(each for values in blind.values() for each in values), 3),
        "tasks": sum(len(each) for each in blind.values()),
        "cpu_seconds": round(time.process_time() - begin),
        "peak_gib": round((peak_memory() or 0) / 2**30, 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", default="tiny-llama,tiny-qwen2,tiny-gemma", help="separated by commas")
    parser.add_argument("--samples", type=int, default=20, help="of each task")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    found = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    kept = {name: each for name, each in found.items() if each["samples"] == arguments.samples}
    for name in arguments.models.split(","):
        kept[name] = measure(name, samples=arguments.samples, dtype=arguments.dtype)
        write_atomically(arguments.out, json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
