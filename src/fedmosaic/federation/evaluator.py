"""Scores on a run's tasks: of any model, and of the base models, which are measured only once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from fedmosaic.adapters import Adapter
from fedmosaic.config import ClientSpec
from fedmosaic.data.sample import Sample
from fedmosaic.evaluation import TaskScore, score_samples
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.base_scores import BaseScores
from fedmosaic.federation.input_digests import model_digest
from fedmosaic.models import BaseModel
from fedmosaic.models.device import within_memory


class Evaluator:
    """Scores models as the run's settings say.

    Args:
        assets: of the run.
        adapters: which base models answer without.
    """

    def __init__(self, assets: Assets, adapters: AdapterFactory) -> None:
        self._assets = assets
        self._adapters = adapters
        self._models: dict[str, str] = {}

    def scores(self, model: BaseModel, tasks: Sequence[str], count: int) -> dict[str, TaskScore]:
        """Score a model as it stands; tasks share batches.

        Args:
            model: with or without an adapter.
            tasks: their names.
            count: the first so many samples of each task; 0: all.

        Returns:
            Each sample's score, by task.
        """
        how, samples = self._assets.settings.evaluation, self._samples(tasks, count)
        with within_memory(model.device, f"{model.name} is scored"):
            together = score_samples(
                model,
                [sample for each in samples.values() for sample in each],
                batch_size=how.batch_size,
                open_metric=how.open_metric,
                answer_tokens=how.answer_tokens,
            )
        single = iter(together.scores)
        return {task: TaskScore(tuple(next(single) for _ in each)) for task, each in samples.items()}

    def base_scores(self, spec: ClientSpec, tasks: Sequence[str], count: int) -> dict[str, TaskScore]:
        """Score a client's base model without its adapter; what is known already is not measured again.

        Args:
            spec: who the client is.
            tasks: their names.
            count: the first so many samples of each task; 0: all.

        Returns:
            Each sample's score, by task.
        """
        model = self._assets.pool.known(spec.model)

        def measure() -> dict[str, TaskScore]:
            self._assets.pool.turn()
            self._assets.pool.model(spec.model)
            self._adapters.adapter(spec)
            adapter = model.adapter  # that of another client, where some work side by side
            assert isinstance(adapter, Adapter)
            with adapter.disabled():
                return self.scores(model, tasks, count)

        if spec.model not in self._models:
            self._models[spec.model] = model_digest(spec.model, self._assets.pool)
        return self._known.get(self._models[spec.model], self._samples(tasks, count), measure)

    @cached_property
    def _known(self) -> BaseScores:
        own = self._assets.settings
        how = {
            "evaluation": own.evaluation.model_dump(
                mode="json", include={"batch_size", "open_metric", "answer_tokens"}
            ),
            "model": own.model.model_dump(mode="json"),
            "wording": [own.scenario.system, own.scenario.template],
            "device": self._assets.device.partition(":")[0],
        }
        return BaseScores(self._assets.cache / "scores", how, self._assets.images)

    def _samples(self, tasks: Sequence[str], count: int) -> dict[str, tuple[Sample, ...]]:
        split = self._assets.settings.evaluation.split
        return {task: self._assets.benchmark.task(task).split(split)[: count or None] for task in tasks}
