"""The published scenarios by name: who has which task and model in DRAKE, HFLB and the text-only benchmarks.

Tasks and assignments are those of the authors' release. Their data are not part of this package: a run needs the data
folder in the published layout (``FEDMOSAIC_DATA``) and the models, as folders or hub ids. The ids of the Llama 1B and
3B checkpoints are the release's; those of the others follow their pattern, and the subset numbers of Fed-Aya and
Fed-LLM-Large are taken to be consecutive: the release's own JSON files, where at hand, are to be preferred.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

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
_FED_LLM_LARGE = tuple(
    _subsets(dataset, (2 * k, 2 * k + 1))
    for dataset, clients in (("FedDPA", 16), ("Fed-aya_topic", 16), ("FedchatbotIT", 20))
    for k in range(clients)
)

_LLAMA = {size: f"thkim0305/llama3.2_{size}_vl" for size in ("1B", "3B")} | {"8B": "thkim0305/llama3.1_8B_vl"}
_QWEN = {size: f"thkim0305/qwen2.5_{size}_vl" for size in ("0.5B", "1.5B", "3B")}
_TEXT = {
    "1B": "meta-llama/Llama-3.2-1B-Instruct",
    "3B": "meta-llama/Llama-3.2-3B-Instruct",
    "8B": "meta-llama/Llama-3.1-8B-Instruct",
}


def _models(rest: str, **groups: Sequence[int]) -> Callable[[int], str]:
    """Model by client id: that of the group which has the id, else ``rest``."""
    by_client = {client: model for model, clients in groups.items() for client in clients}
    return lambda client: by_client.get(client, rest)


def _scenario(name: str, title: str, tasks: Sequence[tuple[str, ...]], model_of: Callable[[int], str]) -> Scenario:
    clients = tuple(ClientSpec(id=i, model=model_of(i), tasks=each) for i, each in enumerate(tasks))
    data = os.environ.get("FEDMOSAIC_DATA", "")
    return Scenario(name=name, title=title, benchmark="published", data=data, clients=clients)


def published_scenarios() -> dict[str, Scenario]:
    """All published scenarios by name (METHODS D.1, D.2)."""
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
    found = {name: _scenario(name, "DRAKE: 10 clients, 40 tasks", _DRAKE, models) for name, models in drake.items()}
    others = (
        ("hflb", "HFLB: 9 clients, 36 tasks", _HFLB, _models(l3, **{l1: (0, 1, 5)})),
        ("fed-scope", "Fed-Scope: 5 clients, 20 tasks", _FED_SCOPE, _models(_TEXT["3B"], **{_TEXT["8B"]: (0, 4)})),
        ("fed-aya", "Fed-Aya: 8 clients, 32 topics", _FED_AYA, _models(_TEXT["1B"], **{_TEXT["3B"]: (0, 1, 3, 5)})),
        (
            "fed-llm-large",
            "Fed-LLM-Large: 52 clients, 104 tasks",
            _FED_LLM_LARGE,
            lambda client: _TEXT["1B" if client % 2 == 0 else "3B"],
        ),
    )
    return found | {name: _scenario(name, title, tasks, models) for name, title, tasks, models in others}
