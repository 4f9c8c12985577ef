"""What a run keeps for its page: scores of single samples before, after and at the exchange; a handful of answers."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from tests.federation.scenario import small

from fedmosaic.federation import RunFolder, engines, examples
from fedmosaic.federation.event_log import Memory

pytestmark = pytest.mark.slow  # a whole run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of FedMosaic with a last exchange."""
    settings = small("fedmosaic", rounds=2).model_copy(update={"final_exchange": True})
    made = RunFolder.create(tmp_path_factory.mktemp("run") / "run", settings)
    engines.run(settings, made)
    return made


def mean_self(folder, scores):
    own = {client.id: client.tasks for client in folder.settings.scenario.clients}
    return {client: np.mean([np.mean(tasks[task]) for task in own[client]]) for client, tasks in scores.items()}


def test_kept_scores_are_those_of_the_tables(folder):
    with (folder.path / "rounds.csv").open() as file:
        rows = [(int(row["round"]), int(row["client"]), float(row["self"])) for row in csv.DictReader(file)]
    for when, round_ in (("start", 0), ("final", 2)):
        measured = {client: value for at, client, value in rows if at == round_}
        assert mean_self(folder, folder.scores(when=when)) == pytest.approx(measured)
    exchanged = json.loads((folder.path / "results.json").read_text())["final_exchange"]["self"]
    found = mean_self(folder, folder.scores(when="exchanged"))
    assert list(found.values()) == pytest.approx(exchanged["per_client"])


def test_examples_are_answered_right_where_their_scores_say_so(folder):
    checked = 0
    for client in folder.settings.scenario.clients:
        kept = examples.read(folder.client_folder / f"client-{client.id:03d}")
        assert len(kept) == min(4, sum(1 for _ in kept))
        seen: dict[str, int] = {}
        for each in kept:
            position = seen.get(each.task, 0)
            seen[each.task] = position + 1
            assert each.task in client.tasks
            assert set(each.answered) == {"start", "final", "exchanged"}
            for when, said in each.answered.items():
                score = folder.scores(when=when)[client.id][each.task][position]
                if score in (0.0, 1.0):  # else options are alike, or an open answer overlaps
                    assert (said.split() == each.answer.split()) == (score == 1.0), (client.id, each.task, when)
                    checked += 1
            assert all(image.startswith("data:image/") for image in each.images)
    assert checked >= 10


def test_the_memory_that_the_run_has_held_is_told(folder):
    (told,) = [line.what for line in folder.events() if isinstance(line.what, Memory)]
    assert told.process is None or 50e6 < told.process < 1e12
