"""The small models that the tests of the models package use, too."""

from tests.models.conftest import samples, tiny, tower

__all__ = ["samples", "tiny", "tower"]
