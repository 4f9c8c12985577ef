"""The parts that the clients of one run share in one process, put together around the folder that they keep."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fedmosaic.federation.adapter_factory import AdapterFactory
from fedmosaic.federation.assets import Assets
from fedmosaic.federation.client_states import ClientStates
from fedmosaic.federation.evaluator import Evaluator
from fedmosaic.federation.input_digests import InputDigests


class ClientRuntime:
    """What the clients of a run share; whoever needs one part only is given that part.

    Args:
        assets: what the run reads.
        folder: the clients' folder: private states, the alignment, and the note of what was read.
        after_exchange: whether clients answer for the last round as the last exchange has left them.
        unexchanged: ids of the clients that were missing in it.
        only: the clients that are on this device, whose data and models are watched; default: all.

    Attributes:
        assets: settings, data, base models, method.
        adapters: the adapter modules, and how clients begin.
        states: what is kept of the clients.
        evaluator: scores models.
        inputs: notices data or models that have changed since the run began.
    """

    def __init__(
        self,
        assets: Assets,
        folder: Path,
        *,
        after_exchange: bool = False,
        unexchanged: Collection[int] = (),
        only: Collection[int] | None = None,
    ) -> None:
        self.assets = assets
        self.adapters = AdapterFactory(assets, kept_bases=folder / "alignment")
        self.states = ClientStates(
            folder, assets, self.adapters.start, after_exchange=after_exchange, unexchanged=unexchanged
        )
        self.evaluator = Evaluator(assets, self.adapters)
        self.inputs = InputDigests.of(assets, folder, only=only)
