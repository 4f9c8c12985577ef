"""Scenario files in the published form: a JSON list of who has which model and data sets.

See docs/method-facts.md#records.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fedmosaic.config.validation import validate
from fedmosaic.errors import SettingsError
from fedmosaic.nearest import suggestion

_TYPES = {"multi-choice": False, "open-ended": True, "open": True}
_METRICS: dict[str, dict[str, Any]] = {
    "F1": {},
    "RougeL": {"evaluation": {"open_metric": "rouge-l", "answer_tokens": 128}},
}


class _Dataset(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dataset: Annotated[str, Field(min_length=1)]
    subset_id: int | str
    type: str = "multi-choice"
    metric: str | None = None

    @field_validator("type")
    @classmethod
    def _known_type(cls, value: str) -> str:
        if value not in _TYPES:
            raise ValueError(f"type {value!r} is not known; {suggestion(value, _TYPES)}")
        return value

    @property
    def task(self) -> str:
        return f"{self.dataset}-{self.subset_id}"

    @property
    def is_open(self) -> bool:
        return _TYPES[self.type]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    client_id: int
    model_id: str
    datasets: list[_Dataset]


class _File(BaseModel):
    entry: list[_Entry]

    @model_validator(mode="after")
    def _one_metric(self) -> _File:
        metrics = {dataset.metric for dataset in self.open_datasets if dataset.metric is not None}
        if len(metrics) > 1:
            raise ValueError(f"open answers have the metrics {', '.join(sorted(metrics))}; a run scores all by one")
        for metric in metrics - _METRICS.keys():
            raise ValueError(f"metric {metric!r} is not known; {suggestion(metric, _METRICS)}")
        return self

    @property
    def open_datasets(self) -> list[_Dataset]:
        return [dataset for entry in self.entry for dataset in entry.datasets if dataset.is_open]


def from_published(entries: Any, source: str) -> dict[str, Any]:
    """Return the table of a scenario that the published list describes.

    Args:
        entries: what the file holds.
        source: how messages call the file.

    Raises:
        SettingsError: it is no such list.
    """
    expected = "a list of {client_id, model_id, datasets: [{dataset, subset_id, type, metric?}]}"
    if not isinstance(entries, list):
        raise SettingsError(f"{source}: expected {expected}, got {type(entries).__name__}")
    try:
        file = validate(_File, {"entry": entries}, source=source)
    except SettingsError as error:
        raise SettingsError(f"{error}; expected {expected}".replace("entry.", "entry ")) from None
    settings = [_METRICS[dataset.metric] for dataset in file.open_datasets if dataset.metric is not None]
    return {
        "benchmark": "published",
        "open_tasks": list(dict.fromkeys(dataset.task for dataset in file.open_datasets)),
        "clients": [
            {"id": entry.client_id, "model": entry.model_id, "tasks": [dataset.task for dataset in entry.datasets]}
            for entry in file.entry
        ],
        "settings": settings[0] if settings else {},
    }
