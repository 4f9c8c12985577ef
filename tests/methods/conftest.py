import pytest

from fedmosaic.methods.ensemble import Classroom


@pytest.fixture
def keep_last(monkeypatch):
    """Students keep their last weights, whatever they answer: random models teach random answers."""
    monkeypatch.setattr(Classroom, "best", lambda self, architecture, candidates: dict(candidates[-1]))
