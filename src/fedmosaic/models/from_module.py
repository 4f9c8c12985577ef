"""An own transformers module as a base model, with no files."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from fedmosaic.data.images import ImageSource
from fedmosaic.errors import ModelError
from fedmosaic.models.base import BaseModel
from fedmosaic.models.checkpoint import CheckpointModel
from fedmosaic.models.device import check_device, taken
from fedmosaic.models.features import Features
from fedmosaic.models.fingerprint import architecture_name
from fedmosaic.models.read import AUTO
from fedmosaic.models.tiny import TinyModel
from fedmosaic.models.vision import VisionTowerConfig


@dataclass(frozen=True)
class OwnModel:
    """A transformers module and what makes its inputs. Runs work on copies: the module itself never changes.

    Attributes:
        module: a causal language model, or a model that reads images and text.
        processor: its tokenizer, or its processor if it reads images.

    Raises:
        ModelError: either is of a kind that cannot be used, or a module that reads images has a tokenizer only.
    """

    module: PreTrainedModel
    processor: Any

    def __post_init__(self) -> None:
        if not isinstance(self.module, PreTrainedModel):
            raise ModelError(
                f"a base model's module is a {type(self.module).__name__}; expected a transformers PreTrainedModel, "
                "such as AutoModelForCausalLM.from_pretrained gives"
            )
        if not isinstance(self.processor, PreTrainedTokenizerBase | ProcessorMixin):
            raise ModelError(
                f"a base model's processor is a {type(self.processor).__name__}; expected a transformers tokenizer, "
                "or a processor for a model that reads images"
            )
        if self._sees and not self._is_embedded and not isinstance(self.processor, ProcessorMixin):
            raise ModelError(
                f"{type(self.module).__name__} reads images, but only its tokenizer was given; give its processor"
            )

    def load(
        self,
        name: str,
        *,
        images: ImageSource,
        home: Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str = torch.float32,
    ) -> BaseModel:
        """Return a base model of its own, made from a copy of the module.

        Args:
            name: how it shall be called.
            images: where the samples' images are.
            home: the cache folder (features of the embedded models' frozen tower are kept there).
            device: where the model computes.
            dtype: of its weights, as torch's or by its name; ``auto`` for what the module has.

        Raises:
            ModelError: the module or its tokenizer cannot be used.
            SettingsError: there is no such device.
        """
        check_device(device)
        module: Any
        module, processor = copy.deepcopy((self.module, self.processor))
        architecture = architecture_name(module)  # before anything is rounded
        if dtype != AUTO:
            module.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
        module.to(taken(device))
        try:
            model = self._model(name, module, processor, images, home)
        except ModelError as error:
            raise ModelError(f"base model {name!r} cannot be used: {error}") from error
        model.architecture = architecture
        return model

    def _model(self, name: str, module: Any, processor: Any, images: ImageSource, home: Path) -> BaseModel:
        if self._is_embedded:
            tokenizer = processor.tokenizer if isinstance(processor, ProcessorMixin) else processor
            return TinyModel(name, module, tokenizer, Features(images, module.model.vision_tower, home=home))
        if isinstance(processor, ProcessorMixin):
            return CheckpointModel(name, module, processor.tokenizer, processor, images)
        return CheckpointModel(name, module, processor, None, images)

    @property
    def _sees(self) -> bool:
        return getattr(self.module.config, "vision_config", None) is not None

    @property
    def _is_embedded(self) -> bool:
        """Whether it is one of fedmosaic's own family, whose image features are kept."""
        return isinstance(getattr(self.module.config, "vision_config", None), VisionTowerConfig)
