"""The results of a run as a record."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fedmosaic.errors import RunError
from fedmosaic.evaluation import Summary
from fedmosaic.federation import RunFolder

_COSTS = ("seconds", "train_seconds", "evaluation_seconds", "flops", "messages", "bytes_up", "bytes_down")


def results_of(folder: RunFolder) -> Any:
    """Return what came out of a run.

    Raises:
        RunError: it is not done, or its results are damaged.
    """
    table = folder.results()
    if table is None:
        raise RunError(f"the run in {folder.path} is not done; finish it: fedmosaic.resume({str(folder.path)!r})")
    costs = {name: table.pop(name) for name in (*_COSTS, "total_bytes_up", "total_bytes_down") if name in table}
    initial = {name.replace("self", "self_"): score for name, score in table.pop("initial").items()}
    parts = {name: table.pop(name) for name in ("self", "others", "unseen")}
    summaries = {name: Summary(**part) if part else None for name, part in parts.items()}
    return SimpleNamespace(
        **table,
        costs=SimpleNamespace(**costs),
        initial=SimpleNamespace(**initial),
        self_=summaries.pop("self"),
        **summaries,
    )
