"""RELA: whose knowledge is relevant to whom, measured without seeing anyone's data."""

from fedmosaic.relevance.privacy import DEFAULT_PRIVACY, Exposure, PrivacySettings, calibrated_noise, spent_epsilon
from fedmosaic.relevance.probe import AnswerGradients, Probe, answer_gradients, observed
from fedmosaic.relevance.release import GUARANTEES, ProbeBatch, Releases, Sanitise
from fedmosaic.relevance.sketch import EntrySketch, Sketch, SketchKind, TensorSketch, make_sketch
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
    "observed",
    "relevance_weights",
    "spent_epsilon",
    "weighted_sums",
]
