"""The base models of one process: each distinct one is loaded once, however many clients use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedmosaic.data.images import ImageSource
from fedmosaic.data.sample import Sample
from fedmosaic.models import BaseModel, Batch, load_base_model
from fedmosaic.models.cost import batch_shape, forward_flops, train_step_flops
from fedmosaic.models.device import check_device, taken, within_memory
from fedmosaic.models.residence import Residence
from fedmosaic.models.wording import PLAIN, Wording
from fedmosaic.models.wrapper import twin, unwrapped


@dataclass
class ModelPool:
    """Loads base models on first use.

    Attributes:
        images: where the images of all samples come from.
        home: cache folder for built data and features.
        device: where the models compute.
        dtype: of the base models' weights: float32, bfloat16, float16, or auto (what each is stored in).
        attention: as transformers calls its implementation; ``auto`` for its own choice.
        quantisation: of the base models' weights: ``none``, ``int8`` or ``nf4``.
        autocast: whether adapters' products are taken in a model's half precision; None: on accelerators.
        wording: what is put around every question.
        offload: whether idle models wait in the CPU's memory.
        feature_cache: GiB of disk for the features of checkpoints' vision towers; 0: none.
        given: models that are used, as they are, instead of being loaded by the name they are keyed by.

    Raises:
        SettingsError: there is no such device.
    """

    images: ImageSource
    home: Path
    device: str = "cpu"
    dtype: str = "float32"
    attention: str = "auto"
    quantisation: str = "none"
    autocast: bool | None = None
    wording: Wording = PLAIN
    offload: bool = False
    feature_cache: float = 0.0
    given: Mapping[str, BaseModel] = field(default_factory=dict)
    _models: dict[str, BaseModel] = field(default_factory=dict)
    _copies: dict[tuple[str, str], BaseModel] = field(default_factory=dict)
    _flops: dict[tuple[object, ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_device(self.device)
        self.device = str(taken(self.device))
        self._residence = Residence(self.device) if self.offload else None

    def model(self, name: str) -> BaseModel:
        """Return the base model that carries clients' adapters, where it computes.

        Args:
            name: as clients name it.

        Raises:
            ModelError: it cannot be loaded.
        """
        return self._entered(self.known(name))

    def known(self, name: str) -> BaseModel:
        """Return the same base model for what needs no computation, wherever it waits.

        Args:
            name: as clients name it.

        Raises:
            ModelError: it cannot be loaded.
        """
        if name not in self._models:
            self._models[name] = self._settled(self.given[name] if name in self.given else self._load(name))
        return self._models[name]

    def probe(self, name: str) -> BaseModel:
        """Return the same base model without any adapter: a second copy, so that no slot can leak into it.

        Args:
            name: as clients name it.

        Raises:
            ModelError: it cannot be loaded.
        """
        return self._copy(name, "probe")

    def proxy(self, name: str) -> BaseModel:
        """Return the same base model once more, to carry the adapter of the clients' proxy models.

        Args:
            name: as clients name it.

        Raises:
            ModelError: it cannot be loaded.
        """
        return self._copy(name, "proxy")

    def _copy(self, name: str, purpose: str) -> BaseModel:
        if (name, purpose) not in self._copies:
            copy = twin(self.given[name]) if name in self.given else self._load(name)
            self._copies[name, purpose] = self._settled(copy)
        return self._entered(self._copies[name, purpose])

    def turn(self) -> None:
        """Begin another client's turn: models that were in use until now may be taken from the device."""
        if self._residence is not None:
            self._residence.turn()

    def _load(self, name: str) -> BaseModel:
        return load_base_model(
            name,
            images=self.images,
            home=self.home,
            device="cpu" if self.offload else self.device,
            dtype=self.dtype,
            attention=self.attention,
            quantisation=self.quantisation,
            feature_cache=self.feature_cache,
        )

    def _settled(self, model: BaseModel) -> BaseModel:
        for each in (model, unwrapped(model)):
            each.autocast, each.residence, each.wording = self.autocast, self._residence, self.wording
        return model

    def _entered(self, model: BaseModel) -> BaseModel:
        if self._residence is not None:
            with within_memory(self.device, f"base model {model.name} is brought to it"):
                self._residence.enter(unwrapped(model))
        return model

    def prepare(self, names: Sequence[str], samples: Sequence[Sample]) -> None:
        """Compute beforehand what does not change in training, e.g. the features of frozen vision towers.

        Args:
            names: of the models.
            samples: the samples that they will read.

        Raises:
            DataError: a model cannot read a sample.
            ModelError: a sample does not fit into a model's positions.
        """
        for name in names:
            self.turn()
            self.model(name).prepare(samples)

    def smallest(self, names: Sequence[str]) -> str:
        """Return the name of the model with the fewest parameters; ties go to the first by name.

        Args:
            names: at least one.
        """
        return min(sorted(set(names)), key=lambda name: self.known(name).parameter_count)

    def pass_flops(self, model: BaseModel, batch: Batch, *, trained: tuple[str, ...] | None, mix: str) -> int:
        """Return the FLOPs of a pass over a batch with the adapter as it stands; equal passes are counted once.

        Args:
            model: one of the pool's.
            batch: only its shape matters.
            trained: names what requires gradients now; None: a forward pass only, else forward and backward.
            mix: names how slots are mixed now.
        """
        shape = batch_shape(model, batch)
        key = (id(model), trained, mix, shape)
        if key not in self._flops:
            count = forward_flops if trained is None else train_step_flops
            self._flops[key] = count(model, shape)
        return self._flops[key]
