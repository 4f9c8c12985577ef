"""fedmosaic: personalised federated learning of heterogeneous multimodal models.

    import fedmosaic as fm

    run = fm.run("demo", method="fedmosaic", seed=0)
    run.client(3).ask("photo.png", "what is this ?")

Names are imported when they are first used, so that importing the package takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedmosaic.adapters import Slot
    from fedmosaic.api.comparing import compare
    from fedmosaic.api.comparison import Comparison
    from fedmosaic.api.evaluating import Evaluation
    from fedmosaic.api.finished import ClientModel, Run
    from fedmosaic.api.methods import method_names, register_method
    from fedmosaic.api.other_answers import OtherAnswers
    from fedmosaic.api.product import ExportedProduct
    from fedmosaic.api.running import load_run, resume, run
    from fedmosaic.config import ClientSpec, RunSettings, Scenario, load_scenario
    from fedmosaic.data.sample import Sample, Task
    from fedmosaic.errors import DataError, FedMosaicError, ModelError, RunError, SettingsError, WireError
    from fedmosaic.experiments.adaptation import Adaptation
    from fedmosaic.federation.callbacks import Callback
    from fedmosaic.federation.results import RunResults
    from fedmosaic.methods.base import Aggregation, Method, MethodSettings
    from fedmosaic.models.from_module import OwnModel

from fedmosaic.version import __version__ as __version__

__all__ = [
    "Adaptation",
    "Aggregation",
    "Callback",
    "ClientModel",
    "ClientSpec",
    "Comparison",
    "DataError",
    "Evaluation",
    "ExportedProduct",
    "FedMosaicError",
    "Method",
    "MethodSettings",
    "ModelError",
    "OtherAnswers",
    "OwnModel",
    "Run",
    "RunError",
    "RunResults",
    "RunSettings",
    "Sample",
    "Scenario",
    "SettingsError",
    "Slot",
    "Task",
    "WireError",
    "compare",
    "load_run",
    "load_scenario",
    "method_names",
    "register_method",
    "resume",
    "run",
]

_MODULES = {
    "fedmosaic.adapters": ("Slot",),
    "fedmosaic.api.comparing": ("compare",),
    "fedmosaic.api.comparison": ("Comparison",),
    "fedmosaic.api.evaluating": ("Evaluation",),
    "fedmosaic.api.finished": ("ClientModel", "Run"),
    "fedmosaic.api.methods": ("method_names", "register_method"),
    "fedmosaic.api.other_answers": ("OtherAnswers",),
    "fedmosaic.api.product": ("ExportedProduct",),
    "fedmosaic.api.running": ("load_run", "resume", "run"),
    "fedmosaic.config": ("ClientSpec", "RunSettings", "Scenario", "load_scenario"),
    "fedmosaic.data.sample": ("Sample", "Task"),
    "fedmosaic.errors": ("DataError", "FedMosaicError", "ModelError", "RunError", "SettingsError", "WireError"),
    "fedmosaic.experiments.adaptation": ("Adaptation",),
    "fedmosaic.federation.callbacks": ("Callback",),
    "fedmosaic.federation.results": ("RunResults",),
    "fedmosaic.methods.base": ("Aggregation", "Method", "MethodSettings"),
    "fedmosaic.models.from_module": ("OwnModel",),
}
_PLACE = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _PLACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_PLACE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
