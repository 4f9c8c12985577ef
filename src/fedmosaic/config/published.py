"""The published scenarios by name: who has which task and model in DRAKE, HFLB and the text-only benchmarks.

Tasks and assignments are those of the authors' release. Their data are not part of this package: a run needs the data
folder in the published layout (``FEDMOSAIC_DATA``) and the models, as folders or hub ids. The subset numbers of
Fed-Aya are taken to be consecutive: its own JSON file, where at hand, is to be preferred. The settings are the
published ones as far as this package has them (the learning rate is constant; for text the authors let it fall).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from fedmosaic.config.scenario import ClientSpec, Scenario

_DRAKE = (
    ("Fashion200K-0", "MagicBrush-0", "VISION-0", "FashionIQ-0"),
    ("VSR-0", "VISION-1", "Fashion200K-2", "NLVR2-0"),
    ("SEED-Bench-2-2", "Fashion200K-1", "NLVR2-1", "CIRR-0"),
    ("VizWiz-0", "IRFL-2", "Bongard-HOI-1", "MIT-States-0"),
    ("IRFL-1", "Bongard-OpenWorld-1", "COMICS_Dialogue-0", "IRFL-0"),
    ("Bongard-HOI-2", "Bongard-OpenWorld-0", "IRFL-3", "Bongard-HOI-0"),
    ("WCVQA-0", "iconqa-2", "Co-Instruct-DB-2", "SEED-Bench-2-1"),
    ("TQA-0", "WCVQA-3", "iconqa-1", "Co-Instruct-DB-1"),
    ("Co-Instruct-DB-0", "dvqa-0", "WCVQA-1", "iconqa-3"),
    ("iconqa-0", "Co-Instruct-DB-3", "SEED-Bench-2-0", "WCVQA-2"),
)

_DRAKE_OPEN = ("iconqa-2", "iconqa-3")


def _subsets(dataset: str, numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{dataset}-{number}" for number in numbers)


_HFLB = (
    _subsets("GQA", range(10, 14)),
    _subsets("GQA", range(20, 24)),
    _subsets("GQA", range(30, 34)),
    *(
        _subsets(dataset, range(4))
        for dataset in ("Abstract", "SNLI-VE", "COCOQA", "NLVR2_feddat", "VizWiz-Original", "AQUA")
    ),
)
_FED_SCOPE = tuple(
    _subsets("FS_LLM_Instruct", numbers)
    for numbers in (range(4), range(10, 14), range(14, 18), range(20, 24), range(24, 28))
)
_FED_AYA = tuple(_subsets("Fed-Aya", range(4 * client, 4 * client + 4)) for client in range(8))
_TENS = tuple((10 * ten, half) for ten in range(8) for half in range(2))
_FED_LLM_LARGE = (
    *(_subsets("FedDPA", (101 + ten + half, 201 + ten + half)) for ten, half in _TENS),
    *(_subsets("Fed-aya_topic", (100 + ten + 2 * half, 101 + ten + 2 * half)) for ten, half in _TENS),
    *(_subsets("FedchatbotIT", (client, client + 20)) for client in range(20)),
)

_LLAMA = {size: f"thkim0305/llama3.2_{size}_vl" for size in ("1B", "3B")} | {"8B": "thkim0305/llama3.1_8B_vl"}
_QWEN = {size: f"thkim0305/qwen2.5_{size}_vl" for size in ("0.5B", "1.5B", "3B")}
_TEXT = {size: f"meta-llama/Llama-3.2-{size}" for size in ("1B", "3B")} | {"8B": "meta-llama/Llama-3.1-8B"}
_EVEN = range(0, 52, 2)


def _settings(steps: int, rank: int, rates: tuple[float, float], *, rounds: int = 20, text: bool) -> dict[str, Any]:
    """The published training settings as settings of a run (docs/method-facts.md#published-training-settings).

    The gate has the rate of A and B, as in the published runs (docs/method-facts.md#gate-learning-rate).
    """
    found: dict[str, Any] = {
        "rounds": rounds,
        "training": {
            "steps": steps,
            "batch_size": 4,
            "learning_rate": rates[0],
            "colora_learning_rate": rates[1],
            "gate_learning_rate": rates[0],
        },
        "adapter": {"rank": rank, "alpha": 2.0 * rank, "blocks": 4},
    }
    return found | ({"evaluation": {"open_metric": "rouge-l", "answer_tokens": 128}} if text else {})


def _models(rest: str, **groups: Sequence[int]) -> Callable[[int], str]:
    """Model by client id: that of the group which has the id, else ``rest``."""
    by_client = {client: model for model, clients in groups.items() for client in clients}
    return lambda client: by_client.get(client, rest)


def _scenario(
    name: str,
    title: str,
    tasks: Sequence[tuple[str, ...]],
    model_of: Callable[[int], str],
    settings: dict[str, Any],
    open_tasks: Sequence[str],
) -> Scenario:
    clients = tuple(ClientSpec(id=i, model=model_of(i), tasks=each) for i, each in enumerate(tasks))
    return Scenario(
        name=name,
        title=title,
        benchmark="published",
        data=os.environ.get("FEDMOSAIC_DATA", ""),
        open_tasks=tuple(open_tasks),
        clients=clients,
        settings=settings,
    )


def published_scenarios() -> dict[str, Scenario]:
    """All published scenarios by name (docs/method-facts.md#data-formats)."""
    l1, l3, l8 = _LLAMA["1B"], _LLAMA["3B"], _LLAMA["8B"]
    q05, q15, q3 = _QWEN["0.5B"], _QWEN["1.5B"], _QWEN["3B"]
    drake = {
        "drake-1b-3b": _models(l3, **{l1: (0, 1, 8, 9)}),
        "drake-1b-3b-8b": _models(l3, **{l1: (0, 1, 8), l8: (6, 9)}),
        "drake-llama1b-3b-qwen1.5b": _models(l3, **{q15: (0, 2, 4), l1: (1, 8)}),
        "drake-llama3b-qwen1.5b": _models(l3, **{q15: (0, 1, 2, 4)}),
        "drake-llama3b-qwen1.5b-3b": _models(l3, **{q15: (0, 1, 2, 4), q3: (3, 5, 7)}),
        "drake-qwen0.5b-1.5b-3b": _models(q3, **{q05: (1, 8), q15: (0, 5, 6)}),
    }
    images = _settings(100, 128, (2e-5, 5e-5), text=False)
    title = "DRAKE: 10 clients, 40 tasks"
    found = [_scenario(name, title, _DRAKE, models, images, _DRAKE_OPEN) for name, models in drake.items()]
    hflb = _models(l3, **{l1: (0, 1, 5)})
    found.append(_scenario("hflb", "HFLB: 9 clients, 36 tasks", _HFLB, hflb, images, ()))
    t1, t3, t8 = _TEXT["1B"], _TEXT["3B"], _TEXT["8B"]
    scope, aya = (_settings(steps, 16, (3e-4, 5e-4), text=True) for steps in (30, 50))
    large = _settings(30, 16, (1e-4, 5e-4), rounds=4, text=True)
    for name, title, tasks, models, settings in (
        ("fed-scope", "Fed-Scope: 5 clients, 20 tasks", _FED_SCOPE, _models(t3, **{t8: (0, 4)}), scope),
        ("fed-aya", "Fed-Aya: 8 clients, 32 topics", _FED_AYA, _models(t1, **{t3: (0, 1, 3, 5)}), aya),
        ("fed-llm-large", "Fed-LLM-Large: 52 clients, 104 tasks", _FED_LLM_LARGE, _models(t3, **{t1: _EVEN}), large),
    ):
        found.append(_scenario(name, title, tasks, models, settings, [task for each in tasks for task in each]))
    return {scenario.name: scenario for scenario in found}
