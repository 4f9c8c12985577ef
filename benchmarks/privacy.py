"""What privacy costs: how well relevance tells who does the same, and how well the models do, over epsilon.

    python benchmarks/privacy.py --out results/privacy.json --auc-only                       # 2 CPU-minutes
    python benchmarks/privacy.py --out results/privacy.json --accuracy mosaic40-small        # and a run per epsilon

Relevance quality on mosaic40, exactly as a run of the seed makes its sketches: AUC of telling pairs of clients whose
current tasks share a skill from other pairs, mean over the rounds that have both (_domains.py), and the mean cosine of
either kind. Noise is drawn anew ``--draws`` times. The plot is docs/privacy.svg.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _domains import Seen, arrivals, auc_by_round, finished, make_probe, probe_model, running, same_skill
from _runtime import frozen_probe_runtime
from torch import Tensor

from fedmosaic.config import load_scenario, resolve
from fedmosaic.methods.fedmosaic import FedMosaicSettings
from fedmosaic.relevance import Exposure, calibrated_noise, cosine_similarity
from fedmosaic.relevance.sanitise import clipped_mean, poisson_sample, subkey, unclipped_mean
from fedmosaic.report.chart import Axes, Line, draw

EPSILONS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0)
CLIP_ONLY, PAPER = "clip only, no guarantee", "paper's noise, no guarantee"
DEFAULTS = FedMosaicSettings()


def ways() -> dict[str, dict[str, Any]]:
    """Name -> method settings."""
    private = {f"epsilon {epsilon:g}": {"privacy": {"epsilon": epsilon}} for epsilon in EPSILONS}
    return {**private, CLIP_ONLY: {"sanitise": "clip"}, PAPER: {"sanitise": "paper"}}


def release(sketches: Tensor, way: Mapping[str, Any], key: bytes) -> Tensor:
    """What a client of the default settings releases of its new samples' sketches."""
    if way.get("sanitise") == "paper":
        return unclipped_mean(sketches, noise=DEFAULTS.paper_noise, key=key)
    rate, sigma = min(1.0, DEFAULTS.probe_samples / len(sketches)), 0.0
    if "privacy" in way:
        exposure = Exposure(rate=rate)
        sigma = calibrated_noise(exposure, epsilon=way["privacy"]["epsilon"], delta=DEFAULTS.privacy.delta)
    taken = sketches[poisson_sample(subkey(key, "choice"), len(sketches), rate)]
    return clipped_mean(
        taken, clip=DEFAULTS.clip, noise_multiplier=sigma, count=rate * len(sketches), key=subkey(key, "noise")
    )


def quality(seen: Sequence[Seen], each: Sequence[Tensor], way: Mapping[str, Any], draws: int) -> dict[str, float]:
    aucs: list[float] = []
    alike: list[float] = []
    other: list[float] = []
    for draw_ in range(draws):
        keys = [subkey(b"privacy", draw_, here.client, here.round) for here in seen]
        released = [release(sketches, way, key) for sketches, key in zip(each, keys, strict=True)]
        rows = running(seen, released, DEFAULTS.ema)
        aucs.append(statistics.fmean(auc_by_round(seen, rows, same_skill).values()))
        similarity = cosine_similarity(rows)
        for a, one in enumerate(seen):
            for b, two in enumerate(seen[:a]):
                if one.round == two.round:
                    (alike if same_skill(one, two) else other).append(float(similarity[a, b]))
    spread = statistics.stdev(aucs) if draws > 1 else 0.0
    return {
        "auc": statistics.fmean(aucs),
        "auc_stdev": spread,
        "cosine_same_skill": statistics.fmean(alike),
        "cosine_other": statistics.fmean(other),
    }


def accuracy(scenario: str, way: Mapping[str, Any], seed: int, path: Path) -> dict[str, float]:
    """Self and Others of a whole run."""
    settings = resolve(load_scenario(scenario), method="fedmosaic", seed=seed)
    settings = settings.model_copy(update={"method_settings": {**settings.method_settings, **way}})
    results = finished(settings, path)
    return {part: results[part]["last"] for part in ("self", "others")}


def plot(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The curves over epsilon; dashed: clipping alone."""
    lines = []
    for key, css, name in (("auc", "a", "AUC"), ("self", "b", "Self"), ("others", "c", "Others")):
        points = [(epsilon, rows[f"epsilon {epsilon:g}"].get(key)) for epsilon in EPSILONS]
        known = [(epsilon, value) for epsilon, value in points if value is not None]
        if known:
            lines.append(Line(known, css, name, end=True, tag=name))
            lines.append(
                Line([(0, rows[CLIP_ONLY][key]), (20, rows[CLIP_ONLY][key])], f"{css} dashed", CLIP_ONLY, dots=False)
            )
    axes = Axes(20, [k / 10 for k in range(11)], "AUC, accuracy", lambda v: f"{v:.2f}", "epsilon (delta 1e-5)")
    style = (
        "text{font:12px sans-serif}.grid{stroke:#ddd}.line{fill:none;stroke-width:2}.line.dashed{stroke-dasharray:4}"
        ".a{stroke:#205493}.b{stroke:#2e8540}.c{stroke:#b35c00}text.end{stroke:none}"
    )
    svg = draw(lines, axes, title="Relevance quality (AUC) and accuracy (Self, Others) over epsilon")
    return (
        str(svg)
        .replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        .replace(">", f"><style>{style}</style>", 1)
    )


def show(rows: Mapping[str, Mapping[str, float]]) -> str:
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = ["| sanitising | " + " | ".join(keys) + " |", "|---|" + "---|" * len(keys)]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[key]:.3f}" if key in row else "" for key in keys) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--accuracy", metavar="SCENARIO", default="mosaic40-small")
    parser.add_argument("--epsilons", type=lambda text: [float(e) for e in text.split(",")], help="of the runs only")
    parser.add_argument("--auc-only", action="store_true", help="no training")
    parser.add_argument("--runs", type=Path, default=Path("runs/privacy"))
    parser.add_argument("--plot", type=Path, default=Path("docs/privacy.svg"))
    arguments = parser.parse_args()
    box = frozen_probe_runtime("mosaic40")
    seen = arrivals(box, seed=arguments.seed)
    probe = make_probe(probe_model(box), "projection", seed=arguments.seed)
    with torch.no_grad():
        each = [probe(here.samples) for here in seen]
    wanted = ways()
    rows: dict[str, dict[str, float]] = {
        name: quality(seen, each, way, arguments.draws if "privacy" in way else 1) for name, way in wanted.items()
    }
    trained = {f"epsilon {e:g}" for e in arguments.epsilons or EPSILONS} | {CLIP_ONLY, PAPER}
    for name, way in wanted.items() if not arguments.auc_only else ():
        if name in trained:
            path = arguments.runs / f"{arguments.accuracy}-{name.split(',')[0].replace(' ', '-')}-{arguments.seed}"
            rows[name] |= accuracy(arguments.accuracy, way, arguments.seed, path)
            print(name, rows[name], flush=True)
    command = f"python benchmarks/privacy.py --seed {arguments.seed} --draws {arguments.draws}"
    command += " --auc-only" if arguments.auc_only else f" --accuracy {arguments.accuracy}"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"command": command, "rows": rows}, indent=1) + "\n")
    arguments.plot.write_text(plot(rows))
    print(show(rows))
