"""Every registered method as a parameter of tests."""

from collections.abc import Iterable

import pytest

from fedmosaic.methods.registry import method_classes

FAST = {"sft", "fedavg", "fedmosaic", "fedmosaic-proxy"}
"""Methods whose tests are not slow: the others differ from one of them in little."""


def marked(names: Iterable[str] = ()) -> list:
    """Return methods (default: all), sorted, marked as slow but for a few."""
    return [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in sorted(names or method_classes())
    ]
