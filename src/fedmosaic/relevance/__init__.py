"""Relevance (RELA): similarity of the clients' tasks, from sketches of gradients, and the weights made of it."""

from fedmosaic.relevance.privacy import DEFAULT_PRIVACY, Exposure, PrivacySettings, calibrated_noise, spent_epsilon
from fedmosaic.relevance.probe import AnswerGradients, Probe, answer_gradients, probe_target
from fedmosaic.relevance.release import GUARANTEES, ProbeBatch, Releases, Sanitise
from fedmosaic.relevance.sketch import Sketch, SketchKind, make_sketch
from fedmosaic.relevance.sketches.entries import EntrySketch
from fedmosaic.relevance.sketches.projection import TensorSketch
from fedmosaic.relevance.weights import cosine_similarity, relevance_weights, weighted_sums

__all__ = [
    "DEFAULT_PRIVACY",
    "GUARANTEES",
    "AnswerGradients",
    "EntrySketch",
    "Exposure",
    "PrivacySettings",
    "Probe",
    "ProbeBatch",
    "Releases",
    "Sanitise",
    "Sketch",
    "SketchKind",
    "TensorSketch",
    "answer_gradients",
    "calibrated_noise",
    "cosine_similarity",
    "make_sketch",
    "probe_target",
    "relevance_weights",
    "spent_epsilon",
    "weighted_sums",
]
