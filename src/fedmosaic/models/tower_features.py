"""What the frozen vision tower of a checkpoint gives of pictures, kept on disk: the input of the projector.

The projector may carry a tower adapter, so it is computed anew. Each picture goes through the tower alone: its features
do not depend on the company in a batch, and a run computes the same whether they were there or not.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fedmosaic import events
from fedmosaic.data.images import ImageSource
from fedmosaic.errors import DataError
from fedmosaic.models.bounded_folder import BoundedFolder
from fedmosaic.models.interface import OF_FEATURES, Interface

NAME = "tower_features"
"""Of the features in :attr:`Batch.vision <fedmosaic.models.base.Batch.vision>`."""

_VERSION = 2  # raise it when the same picture gives other pixels, or features are kept otherwise
_KNOWN = {"last_hidden_state", "pooler_output", "hidden_states", "attentions"}  # nothing besides that a decoder reads


class Features(NamedTuple):
    """Of one picture.

    Attributes:
        states: the projector's input, (parts, ..., d_tower).
        tokens: how many tokens the projector makes of it.
        listed: whether the decoder takes the tokens of a batch as a list, or as the tensor that the projector gives.
    """

    states: Tensor
    tokens: int
    listed: bool


class Seeing(Protocol):
    """The part of a base model that is needed here; :class:`fedmosaic.models.checkpoint.CheckpointModel` has it."""

    name: str
    module: PreTrainedModel
    processor: Any
    images: ImageSource

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        ...

    def picture_inputs(self, image: Image.Image, /) -> Mapping[str, Tensor]:
        """Return what the processor makes of one picture in a short question.

        Args:
            image: any mode.
        """
        ...

    def bare(self) -> AbstractContextManager[None]:
        """Return a block inside which the model is on its device and without an adapter."""
        ...


class TowerFeatures:
    """Features of the pictures that one base model reads.

    Args:
        model: without an adapter for now.
        interface: of the model.
        folder: for all models of a machine.
    """

    def __init__(self, model: Seeing, interface: Interface, folder: BoundedFolder) -> None:
        self._model = model
        self._interface = interface
        self._folder = folder
        self._usable = True
        self._listed = True  # of all features alike

    def prepare(self, pictures: Sequence[str]) -> None:
        """Compute the features that are missing.

        Args:
            pictures: the images' keys; repetitions are fine.

        Raises:
            DataError: an image is missing or unreadable; features that were computed stay.
        """
        digests = {self._model.images.digest(key): key for key in pictures}
        missing = [key for digest, key in digests.items() if not self._folder.has(self._name(digest))]
        for done, key in enumerate(missing, start=1):
            if self._get(key) is None:
                return
            events.work("images", done, len(missing))

    def instead_of_pixels(
        self, vision: Mapping[str, Tensor], pictures: Sequence[str], image_tokens: int
    ) -> dict[str, Tensor]:
        """Return a batch's further inputs with the features of its pictures in the place of their pixels.

        Where features cannot be kept or do not fit, the inputs are as they were.

        Args:
            vision: what the processor has made.
            pictures: the images' keys, in order.
            image_tokens: how many the batch has.

        Raises:
            DataError: an image is missing or unreadable.
        """
        found = [self._get(key) for key in pictures]
        features = [each for each in found if each is not None]
        fit = len(features) == len(found) and len({each.states.shape[1:] for each in features}) == 1
        if not fit or sum(each.tokens for each in features) != image_tokens:
            return dict(vision)
        others = {name: tensor for name, tensor in vision.items() if not name.startswith("pixel_")}
        return {**others, NAME: torch.cat([each.states for each in features])}

    def arguments(self, module: nn.Module, states: Tensor) -> dict[str, Any]:
        """Return the arguments of ``module.base_model`` that stand for pictures whose features are known.

        Args:
            module: the whole model, or a copy of it with an adapter of its own.
            states: of all pictures of a batch.
        """
        tokens: Tensor = module.get_submodule(self._interface.projector)(states)
        pooled: Any = [_rows(tokens)] if self._listed else tokens
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=pooled)}}

    @cached_property
    def key(self) -> str:
        """32 hex digits of what features depend on beside the picture: weights, settings and versions."""
        module, processor = self._model.module, self._model.processor
        images = getattr(processor, "image_processor", None)
        text = {
            "version": [_VERSION, transformers.__version__],
            "model": [type(module).__name__, module.config._attn_implementation, self._model.device.type],
            "tower": module.config.vision_config.to_dict(),
            "settings": [getattr(module.config, name, None) for name in OF_FEATURES],
            "processor": [type(processor).__name__, type(images).__name__, images.to_dict() if images else None],
        }
        digest = hashlib.blake2b(json.dumps(text, sort_keys=True, default=str).encode(), digest_size=16)
        entry = f"{self._interface.path.rpartition('.')[0]}."  # a merger lies within its tower
        for name, tensor in module.state_dict().items():
            if name.startswith(f"{self._interface.tower_path}.") and not name.startswith(entry):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _name(self, digest: str) -> str:
        return f"{self.key}/{hashlib.blake2b(digest.encode(), digest_size=16).hexdigest()}"

    def _get(self, key: str) -> Features | None:
        """Return the features of a picture, computed if they are missing; None if this model's cannot be kept."""
        digest = self._model.images.digest(key)
        name = self._name(digest)
        kept = self._folder.get(name) if self._usable else None
        if kept is not None:
            self._listed = bool(kept["listed"])
            return Features(kept["states"], int(kept["tokens"]), self._listed)
        features = self._compute(key, digest) if self._usable else None
        if features is not None:
            self._listed = features.listed
            numbers = {"tokens": features.tokens, "listed": features.listed}
            self._folder.put(name, {"states": features.states} | {each: torch.tensor(n) for each, n in numbers.items()})
        elif self._usable:
            self._usable = False
            events.emit("note", text=f"base model {self._model.name}: features of its tower cannot be kept")
        return features

    @torch.no_grad()
    def _compute(self, key: str, digest: str) -> Features | None:
        """Run tower and projector; None if the projector's output is not what the decoder reads."""
        image = self._model.images.load(key)
        if self._model.images.digest(key) != digest:
            raise DataError(f"image {key!r} was changed while it was read; start again when the data are complete")
        module = self._model.module
        projector = module.get_submodule(self._interface.projector)
        base: Any = module.base_model
        names = inspect.signature(base.get_image_features).parameters
        seen: list[Tensor] = []
        with self._model.bare():
            given = {
                name: tensor.to(module.device, module.dtype if tensor.is_floating_point() else None)
                for name, tensor in self._model.picture_inputs(image).items()
                if name in names
            }
            hook = projector.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
            try:
                output = base.get_image_features(**given, return_dict=True)
            finally:
                hook.remove()
            if len(seen) != 1 or not set(output.keys()) <= _KNOWN:
                return None
            pooled, tokens = output.pooler_output, projector(seen[0])
            listed = not isinstance(pooled, Tensor)
            rows = torch.cat([_rows(each) for each in pooled]) if listed else _rows(pooled)
            if not torch.equal(_rows(tokens), rows) or not (listed or tokens.shape == pooled.shape):
                return None
        return Features(seen[0].cpu(), len(rows), listed)


def _rows(tokens: Tensor) -> Tensor:
    """Return tokens as (n, d)."""
    return tokens.flatten(0, -2)
