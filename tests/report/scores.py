"""Scores of single questions, made up for runs that nobody ran."""

import numpy as np

from fedmosaic.federation import RunFolder


def drawn(folder, right, *, samples, when="final", seed=0):
    """Give a run scores of single samples: ``right(client, task)`` is the share that is right, spread at random."""
    rng = np.random.default_rng(seed)
    scenario = RunFolder(folder).settings.scenario
    table = {
        client.id: {
            task: (rng.random(samples) < right(client.id, task)).astype(float).tolist() for task in scenario.task_names
        }
        for client in scenario.clients
    }
    RunFolder(folder).write_scores(table, when=when)
    return table
