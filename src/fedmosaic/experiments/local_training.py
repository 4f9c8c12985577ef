"""One adapter trained on one task without any federation: for unseen tasks and for the benchmark's tables."""

from __future__ import annotations

from collections.abc import Collection

from fedmosaic import seeding
from fedmosaic.adapters import folded_in
from fedmosaic.config import ClientSpec
from fedmosaic.data.sample import Task
from fedmosaic.data.stream import Stream
from fedmosaic.evaluation import score_samples
from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.training import Budget, Client, ClientState


def train_locally(
    assets: Assets,
    adapters: AdapterFactory,
    spec: ClientSpec,
    task: Task,
    *,
    start: ClientState,
    slot: str,
    measure_at: Collection[int],
    tests: Collection[Task] = (),
    seed: int = 0,
) -> dict[int, dict[str, float]]:
    """Train one slot on a task's train samples and score it on the way, on test samples and else as the settings say.

    Args:
        assets: base models and settings.
        adapters: gives the base model's, which keeps what it ends with.
        spec: whose base model; its own tasks do not matter.
        task: what to learn.
        start: the state to start from; moments in it are not taken up.
        slot: what trains and answers.
        measure_at: numbers of steps after which to measure; 0 is the start, the largest is where training ends.
        tests: the tasks whose test samples are scored; default: the learned one.
        seed: of the order of the samples.

    Returns:
        step -> task -> mean score.
    """
    adapter, steps = adapters.adapter(spec), max(measure_at)
    stream = Stream([task], "static", rounds=1, seed=seeding.derive(seed, "alone", task.name))
    assets.pool.turn()
    client = Client(spec, adapter, assets, round_=1, stream=stream)
    client.restore(start.weights)
    scores: dict[int, dict[str, float]] = {}

    def measure(step: int) -> None:
        if step in measure_at:
            adapter.train(False)
            with folded_in(adapter, slot):
                how = assets.settings.evaluation
                scores[step] = {
                    each.name: score_samples(
                        client.base,
                        each.test[: how.final_samples_per_task or None],
                        batch_size=how.batch_size,
                        open_metric=how.open_metric,
                        answer_tokens=how.answer_tokens,
                    ).mean
                    for each in tests or (task,)
                }
            adapter.train(True)

    def work(_: Client) -> None:
        measure(0)
        for step, batch in enumerate(client.batches(Budget(steps)) if steps else (), start=1):
            client.step(batch, slots=(slot,), mix=slot)
            measure(step)

    client.timed(work)
    return scores
