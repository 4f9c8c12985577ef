"""The Flower apps, the wire between them, the folders they keep, and the engines they run on.

Names are imported when they are first used: the process that only hands a message on must not load torch for it.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmosaic.federation.assets import Assets
    from fedmosaic.federation.division import divided
    from fedmosaic.federation.run_folder import RunFolder
    from fedmosaic.federation.runtime import ClientRuntime

__all__ = ["Assets", "ClientRuntime", "RunFolder", "divided"]

# Nobody is told of a run, and nothing is looked up or installed, unless the user asks for it by these variables.
# Flower reads them when it is imported, so this comes first.
for _name, _value in {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(_name, _value)

_MODULES = {"Assets": "assets", "ClientRuntime": "runtime", "RunFolder": "run_folder", "divided": "division"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
