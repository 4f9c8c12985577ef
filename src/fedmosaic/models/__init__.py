"""Base models: one interface to the embedded tiny family and to any transformers checkpoint."""

from fedmosaic.models.base import AnswerLogits, BaseModel, Batch
from fedmosaic.models.load import find_base_model, load_base_model, terms_of
from fedmosaic.models.wrapper import Wrapper

__all__ = ["AnswerLogits", "BaseModel", "Batch", "Wrapper", "find_base_model", "load_base_model", "terms_of"]
