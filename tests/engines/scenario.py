"""The smallest run that has everything: two architectures, two clients of one, two rounds, the last exchange."""

import json
from pathlib import Path

SCENARIO = """
name = "three"
probe = "tiny-llama"

[settings]
rounds = 2

[settings.training]
steps = 2
batch_size = 4

[settings.adapter]
blocks = 2
rank = 4
alignment = "none"

[settings.evaluation]
samples_per_task = 5
milestones = 1

[settings.method.privacy]
reproducible_noise = true # a deployment draws it from each client's own secret otherwise

[[clients]]
id = 0
model = "tiny-llama"
tasks = ["lowest-bar@bars"]

[[clients]]
id = 1
model = "tiny-gemma"
tasks = ["trend@lines"]

[[clients]]
id = 2
model = "tiny-llama"
tasks = ["trend@lines"]
"""

CLOCKS = {"engine", "seconds", "train_seconds", "evaluation_seconds"}


def written(folder: Path) -> Path:
    path = folder / "three.toml"
    path.write_text(SCENARIO)
    return path


def outcome(run: Path) -> dict[str, object]:
    """All that came out of a run but the name of its engine and what its clock says."""
    results = json.loads((run / "results.json").read_text())
    files = [run / "scores.json", run / "rounds.csv", *sorted((run / "relevance").glob("*.npz"))]
    return {
        "results": {key: value for key, value in results.items() if key not in CLOCKS},
        **{path.name: path.read_bytes() for path in files},
    }
