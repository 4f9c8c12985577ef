"""Does relevance find who does the same? Per round, and what it is worth: RELA, uniform weights, an oracle.

    python benchmarks/relevance_structure.py --out results/relevance-structure.json --auc-only      # 1 CPU-minute
    python benchmarks/relevance_structure.py --out results/relevance-structure.json --scenario mosaic40-small --seeds 0
    python benchmarks/relevance_structure.py --out results/relevance-structure.json                 # 2 CPU-hours

With ``--method fedmosaic-proxy`` the same of the mixture of proxies; ``--set`` gives all variants the same settings,
e.g. those with which the method stands in the field:

    python benchmarks/relevance_structure.py --out results/relevance-proxy.json --method fedmosaic-proxy
        --set adapter.tower_rank=256 --set method.own=shared --set method.proxy=tiny-llama-small --set method.weight=2
        --set method.share=0.5 --set method.own_steps=0.25 --set method.proxy_steps=2.35

AUC: of telling pairs of clients whose *current* tasks have one skill (or are of one family) from other pairs, by the
cosine of their running sketches, in rounds that have both kinds of pairs. The probe is frozen: this needs no training.

Ablation: full runs; Self and Others at the end with 95 % intervals over the seeds. The oracle's similarity is 1 between
clients whose current tasks have one skill, 0.5 in one family, 0 otherwise; uniform weights are those of the limit of
high temperature. Temperatures are swept on ``--sweep-seeds``. Finished runs in ``--runs`` are not made again, so two
processes can share the work by ``--variants``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _domains import (
    arrivals,
    auc_by_round,
    finished,
    make_probe,
    probe_model,
    running,
    same_family,
    same_skill,
)
from _oracle import Oracle, OracleProxy, Told
from _runtime import frozen_probe_runtime

from fedmosaic.config import load_scenario, resolve
from fedmosaic.evaluation.statistics import mean_interval
from fedmosaic.experiments.paired import paired_difference
from fedmosaic.registry import METHODS
from fedmosaic.relevance import Exposure, PrivacySettings
from fedmosaic.relevance.sanitise import clipped_mean, subkey

TEMPERATURES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
PARTS = ("self", "others")
LEVELS = {"skill": same_skill, "family": same_family}


@dataclass(frozen=True)
class Variant:
    """One column of the ablation."""

    name: str
    method: str
    settings: Mapping[str, Any]
    swept: bool = False


VARIANTS = (
    Variant("RELA", "fedmosaic", {}),
    Variant("RELA, no noise", "fedmosaic", {"sanitise": "clip"}),
    Variant("uniform", "fedmosaic", {"relevance": "uniform"}),
    Variant("oracle", "fedmosaic-oracle", {"relevance": "uniform"}),
    *(
        Variant(f"RELA, no noise, tau {tau}", "fedmosaic", {"sanitise": "clip", "temperature": tau}, swept=True)
        for tau in TEMPERATURES
        if tau != 0.5
    ),
)

PROXY_VARIANTS = (
    Variant("RELA", "fedmosaic-proxy", {"relevance": "sketch"}),
    Variant("RELA, no noise", "fedmosaic-proxy", {"relevance": "sketch", "sanitise": "clip"}),
    Variant("update", "fedmosaic-proxy", {"relevance": "update"}),
    Variant("uniform", "fedmosaic-proxy", {}),
    Variant("oracle", "fedmosaic-proxy-oracle", {}),
    *(
        Variant(f"{name}, tau {tau}", method, {**settings, "temperature": tau}, swept=True)
        for name, method, settings in (
            ("RELA, no noise", "fedmosaic-proxy", {"relevance": "sketch", "sanitise": "clip"}),
            ("update", "fedmosaic-proxy", {"relevance": "update"}),
            ("oracle", "fedmosaic-proxy-oracle", {}),
        )
        for tau in TEMPERATURES
        if tau != 0.2
    ),
)
OF_METHOD = {"fedmosaic": VARIANTS, "fedmosaic-proxy": PROXY_VARIANTS}


def structure(scenario: str, seed: int) -> dict[str, dict[str, Any]]:
    """AUC by way of sanitising, level and round."""
    box = frozen_probe_runtime(scenario)
    seen, probe = arrivals(box, seed=seed), make_probe(probe_model(box), "projection", seed=seed)
    each = [probe(here.samples) for here in seen]
    table = {}
    for name, sigma in (("clipped", 0.0), ("epsilon 10", PrivacySettings().noise_for(Exposure()))):
        released = []
        for here, sketches in zip(seen, each, strict=True):
            key = subkey(b"structure", seed, here.client, here.round)
            count = max(len(sketches), 1)
            released.append(clipped_mean(sketches, clip=0.1, noise_multiplier=sigma, count=count, key=key))
        rows = running(seen, released)
        for level, alike in LEVELS.items():
            by_round = auc_by_round(seen, rows, alike)
            table[f"{name}, {level}"] = {"mean": statistics.fmean(by_round.values()), "by_round": by_round}
    return table


def train(variant: Variant, scenario: str, seed: int, runs: Path, common: Sequence[str]) -> dict[str, Any]:
    """The results of one run."""
    settings = resolve(load_scenario(scenario), overrides=common, method=variant.method, seed=seed)
    settings = settings.model_copy(update={"method_settings": {**settings.method_settings, **variant.settings}})
    Told.plan = {
        (s.client, s.round): s for s in arrivals(frozen_probe_runtime(scenario), seed=seed, rounds=settings.rounds)
    }
    path = runs / f"{scenario}-{variant.name.replace(' ', '').replace(',', '-')}-{seed}"
    return finished(settings, path)


def answers(run: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Part -> scores of a run, after local training and, where it has them, after the last exchange."""
    exchanged = run.get("final_exchange") or {}
    return {
        **{part: run[part] for part in PARTS},
        **{f"{part}, exchanged": exchanged[part] for part in PARTS if part in exchanged},
    }


def ablation(found: Mapping[str, Mapping[int, dict[str, Any]]], leader: str) -> dict[str, Any]:
    """Self and Others of each variant by seed, in points, and the leader's lead paired over seeds and tasks."""
    table: dict[str, Any] = {}
    for name, by_seed in found.items():
        each = {seed: answers(run) for seed, run in by_seed.items()}
        scores = {str(seed): {part: 100 * parts[part]["last"] for part in parts} for seed, parts in each.items()}
        table[name] = {"scores": scores}
        if name != leader and (seeds := sorted(set(by_seed) & set(found.get(leader, {})))):
            first = {seed: answers(found[leader][seed]) for seed in seeds}
            for part in each[seeds[0]]:
                ours, theirs = ([side[seed][part]["per_task"] for seed in seeds] for side in (first, each))
                table[name][f"{leader}'s lead in {part}"] = dataclasses.asdict(paired_difference(ours, theirs))
    return table


def interval(values: list[float]) -> str:
    """Mean and half width of its 95 % interval; a single value has none."""
    mean, half = mean_interval(values)
    return f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f} ± {half:.1f}"


def show(result: dict[str, Any]) -> str:
    lines = ["| sketches, pairs that share | mean AUC over rounds and seeds |", "|---|---|"]
    for name in next(iter(result["auc"].values())):
        auc = statistics.fmean(table[name]["mean"] for table in result["auc"].values())
        lines.append(f"| {name} | {auc:.3f} |")
    parts = next(iter(next(iter(result["runs"].values()))["scores"].values())) if result["runs"] else ()
    leader = result.get("leader", "RELA")
    heads = ["weights", "seeds", *(head for part in parts for head in (part.capitalize(), f"{leader}'s lead"))]
    lines += ["", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, row in result["runs"].items():
        scores = row["scores"].values()
        cells = [name, str(len(scores))]
        for part in parts:
            cells += [interval([each[part] for each in scores]), _lead(row.get(f"{leader}'s lead in {part}"))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _lead(lead: Mapping[str, float] | None) -> str:
    return (
        "" if lead is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * lead[k] for k in ("mean", "low", "high")))
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenario", default="mosaic40")
    parser.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--method", choices=OF_METHOD, default="fedmosaic")
    parser.add_argument("--set", action="append", default=[], help="a setting of all variants, as of fedmosaic run")
    parser.add_argument("--leader", default="RELA", help="the variant whose leads over the others are shown")
    parser.add_argument("--runs", type=Path, help="default: runs/relevance-structure, and -METHOD behind it")
    parser.add_argument("--variants", type=lambda text: text.split(";"), help="separated by ; (default: all)")
    parser.add_argument("--sweep-seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0])
    parser.add_argument("--markdown", action="store_true", help="print the tables of an earlier run's file")
    parser.add_argument("--auc-only", action="store_true", help="no training")
    arguments = parser.parse_args()
    suffix = "" if arguments.method == "fedmosaic" else f"-{arguments.method}"
    folder = arguments.runs or Path(f"runs/relevance-structure{suffix}")
    if arguments.markdown:
        print(show(json.loads(arguments.out.read_text())))
        raise SystemExit
    METHODS.register(Oracle)
    METHODS.register(OracleProxy)
    result: dict[str, Any] = {
        "command": f"python benchmarks/relevance_structure.py --scenario {arguments.scenario} --seeds "
        + ",".join(map(str, arguments.seeds))
        + ("" if arguments.method == "fedmosaic" else f" --method {arguments.method}")
        + "".join(f" --set {each}" for each in arguments.set),
        "auc": {str(seed): structure(arguments.scenario, seed) for seed in arguments.seeds},
        "leader": arguments.leader,
        "runs": {},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    runs: dict[str, dict[int, dict[str, Any]]] = {}
    for variant in () if arguments.auc_only else OF_METHOD[arguments.method]:
        if arguments.variants is None or variant.name in arguments.variants:
            seeds = arguments.sweep_seeds if variant.swept else arguments.seeds
            runs[variant.name] = {
                seed: train(variant, arguments.scenario, seed, folder, arguments.set) for seed in seeds
            }
            result["runs"] = ablation(runs, arguments.leader)
            arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(show(result))
