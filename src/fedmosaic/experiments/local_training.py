"""One adapter trained on one task without any federation: for unseen tasks and for the benchmark's tables."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from fedmosaic import seeding
from fedmosaic.adapters import folded_in
from fedmosaic.config import ClientSpec
from fedmosaic.data.sample import Task
from fedmosaic.data.stream import Stream
from fedmosaic.evaluation import score_samples
from fedmosaic.federation.runtime import Runtime
from fedmosaic.training import Budget, Client


def train_locally(
    machine: Runtime,
    spec: ClientSpec,
    task: Task,
    *,
    start: dict[str, Tensor],
    slot: str,
    measure_at: Collection[int],
    tests: Collection[Task] = (),
    seed: int = 0,
) -> dict[int, dict[str, float]]:
    """Train one slot on a task's train samples and measure it on the way.

    Args:
        machine: models, data and settings.
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
    base, adapter, steps = machine.pool.model(spec.model), machine.adapter(spec), max(measure_at)
    stream = Stream([task], "static", rounds=1, seed=seeding.derive(seed, "alone", task.name))
    client = Client(
        spec, base=base, adapter=adapter, stream=stream, pool=machine.pool, settings=machine.settings, round_=1
    )
    client.restore({key: tensor for key, tensor in start.items() if key.startswith(("slot.", "gate|"))})
    scores: dict[int, dict[str, float]] = {}

    def measure(step: int) -> None:
        if step in measure_at:
            adapter.train(False)
            with folded_in(adapter, slot):
                size = machine.settings.evaluation.batch_size
                scores[step] = {t.name: score_samples(base, t.test, batch_size=size).mean for t in tests or (task,)}
            adapter.train(True)

    def work(_: Client) -> None:
        measure(0)
        for step, batch in enumerate(client.batches(Budget(steps)) if steps else (), start=1):
            client.step(batch, slots=(slot,), mix=slot)
            measure(step)

    client.timed(work)
    return scores
