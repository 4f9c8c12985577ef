"""What all tests share: one cache folder, so that the benchmark is built and its features are computed once."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

from fedmosaic.registry import REGISTRIES

hypothesis.settings.register_profile("fedmosaic", deadline=None)  # a busy machine is no error
hypothesis.settings.load_profile("fedmosaic")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is left with a long one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory) -> Path:
    """A cache folder of the session's own, which its processes share, unless FEDMOSAIC_TEST_HOME names one to keep."""
    kept = os.environ.get("FEDMOSAIC_TEST_HOME")
    session = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        session = session.parent
    path = Path(kept) if kept else session / "home"
    path.mkdir(parents=True, exist_ok=True)
    os.environ["FEDMOSAIC_HOME"] = str(path)
    return path


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def registries_as_before():
    """What a test registers is gone after it: order must not matter."""
    before = [dict(registry._registered) for registry in REGISTRIES]
    yield
    for registry, registered in zip(REGISTRIES, before, strict=True):
        registry._registered.clear()
        registry._registered.update(registered)
