"""RELA: whose knowledge is relevant to whom, measured without seeing anyone's data."""

from fedmosaic.relevance.probe import AnswerGradients, Probe, answer_gradients
from fedmosaic.relevance.sketch import TensorSketch
from fedmosaic.relevance.weights import cosine_similarity, mix, relevance_weights

__all__ = [
    "AnswerGradients",
    "Probe",
    "TensorSketch",
    "answer_gradients",
    "cosine_similarity",
    "mix",
    "relevance_weights",
]
