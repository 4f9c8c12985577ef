"""Writes a data folder for each of three organisations, in the layout of docs/scenarios.md; a stand-in for real ones.

python examples/private_folders.py FOLDER
"""

import json
import sys
from pathlib import Path

from fedmosaic.config import home
from fedmosaic.data.benchmark import load_benchmark

TASKS = {"hospital": "category@photo", "clinic": "same-category@openmoji", "lab": "trend@lines"}
SAMPLES = {"train": 80, "test": 20}


def main(out: Path) -> None:
    benchmark = load_benchmark("mosaic40", home=home())
    for organisation, name in TASKS.items():
        task, folder = benchmark.task(name), out / organisation / "data"
        for split, count in SAMPLES.items():
            records = [record(sample, benchmark.images, folder) for sample in task.split(split)[:count]]
            path = folder / "dataset" / organisation / split / "dataset-0.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(records, indent=1))
        print(folder)


def record(sample, images, folder):
    """Return a sample in the published form, and write its pictures."""
    for key in sample.images:
        path = folder / "images" / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images.load(key).save(path)
    question = sample.prompt.split(" options :")[0].removesuffix(" answer :")
    asked = f"{question} Choice list:[{', '.join(sample.options)}]"
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": sample.answer}]
    return {"conversations": turns, "image": [f"images/{key}.png" for key in sample.images]}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
