"""Scoring, and what Self, Others and their means over rounds are made of."""

from fedmosaic.evaluation.metrics.token_f1 import token_f1
from fedmosaic.evaluation.score import TaskScore, indistinguishable_options, likeliest_options, score_samples
from fedmosaic.evaluation.summary import (
    Measurement,
    SampleScores,
    Summary,
    client_means,
    milestones,
    summarise,
)

__all__ = [
    "Measurement",
    "SampleScores",
    "Summary",
    "TaskScore",
    "client_means",
    "indistinguishable_options",
    "likeliest_options",
    "milestones",
    "score_samples",
    "summarise",
    "token_f1",
]
