"""The base models of one process: each distinct one is loaded once, however many clients use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.config import AdapterSettings
from fedmosaic.data.images import ImageSource
from fedmosaic.data.sample import Sample
from fedmosaic.models import BaseModel, Batch, load_base_model
from fedmosaic.models.base import IGNORED
from fedmosaic.models.cost import BatchShape, forward_flops, train_step_flops
from fedmosaic.models.device import check_device


@dataclass
class ModelPool:
    """Loads base models on first use, and keeps one set of adapter modules attached to each.

    Attributes:
        images: where the images of all samples come from.
        home: cache folder for built data and features.
        device: where the models live.
        dtype: of the base models' weights: float32, bfloat16, float16, or auto (what each is stored in).

    Raises:
        SettingsError: there is no such device.
    """

    images: ImageSource
    home: Path
    device: str = "cpu"
    dtype: str = "float32"
    _models: dict[str, BaseModel] = field(default_factory=dict)
    _probes: dict[str, BaseModel] = field(default_factory=dict)
    _adapters: dict[str, Adapter] = field(default_factory=dict)
    _flops: dict[tuple[object, ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_device(self.device)

    def model(self, name: str) -> BaseModel:
        """The base model that carries clients' adapters."""
        if name not in self._models:
            self._models[name] = self._load(name)
        return self._models[name]

    def probe(self, name: str) -> BaseModel:
        """The same base model without any adapter: a second copy, so that no slot can leak into it."""
        if name not in self._probes:
            self._probes[name] = self._load(name)
        return self._probes[name]

    def _load(self, name: str) -> BaseModel:
        return load_base_model(name, images=self.images, home=self.home, device=self.device, dtype=self.dtype)

    def prepare(self, names: Sequence[str], samples: Sequence[Sample]) -> None:
        """Let the models do what they can before training starts, e.g. compute the frozen tower's features."""
        for name in names:
            self.model(name).prepare(samples)

    def smallest(self, names: Sequence[str]) -> str:
        """The name of the model with the fewest parameters; ties go to the first by name."""
        return min(sorted(set(names)), key=lambda name: self.model(name).parameter_count)

    def pass_flops(self, name: str, batch: Batch, *, trained: tuple[str, ...] | None, mix: str) -> int:
        """Cost of a pass over a batch with the adapter as it stands; remembered, because counting takes time.

        Args:
            name: the base model.
            batch: its shape decides.
            trained: names what requires gradients now; None: a forward pass only, else forward and backward.
            mix: names how slots are mixed now.
        """
        sequences, length = batch.input_ids.shape
        shape = BatchShape(sequences, length, head_tokens=int((batch.labels != IGNORED).sum()))
        key = (name, trained, mix, shape)
        if key not in self._flops:
            count = forward_flops if trained is None else train_step_flops
            self._flops[key] = count(self.model(name), shape)
        return self._flops[key]

    def adapter(
        self, name: str, *, slots: Sequence[Slot], settings: AdapterSettings, gated: bool, seed: int
    ) -> Adapter:
        """The adapter modules on a base model; clients of this model take turns in them."""
        if name not in self._adapters:
            base = self.model(name)
            self._adapters[name] = Adapter.attach(
                base.module,
                base.decoder,
                slots=slots,
                rank=settings.rank,
                alpha=settings.alpha,
                blocks=settings.blocks,
                dropout=settings.dropout,
                gate=settings.gate if gated else "none",
                seed=seed,
                architecture=base.architecture,
            )
            base.adapter = self._adapters[name]
        return self._adapters[name]
