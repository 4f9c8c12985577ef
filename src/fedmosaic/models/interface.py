"""The vision-language interface: where a projector reads the features of the vision tower, found from the structure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from fedmosaic.errors import ModelError
from fedmosaic.models.fingerprint import parameters_digest
from fedmosaic.models.parameter_linear import LINEAR, PARAMETER
from fedmosaic.models.stack import linear_features


class _Kind(NamedTuple):
    """Endings of module paths."""

    tower: str
    projector: str
    first: str  # within the projector


_KINDS = (
    _Kind("vision_tower", "multi_modal_projector", "linear_1"),  # LLaVA, InternVL, Mistral 3, LFM2-VL
    _Kind("vision_tower", "multi_modal_projector", "linear"),  # PaliGemma
    _Kind("vision_tower", "multi_modal_projector", LINEAR),  # Gemma 3, given a linear
    _Kind("vision_model", "connector", "modality_projection.proj"),  # Idefics 3, SmolVLM
    _Kind("visual", "visual.merger", "mlp.0"),  # Qwen2-VL, Qwen2.5-VL
    _Kind("visual", "visual.merger", "linear_fc1"),  # Qwen3-VL
    _Kind("visual", "visual.merger", "proj"),  # GLM-4.1V
)
OF_FEATURES = ("vision_feature_layer", "vision_feature_select_strategy", "scale_factor")
"""Settings of a model that its tower's features depend on."""
_OF_MERGED_FEATURES = ("downsample_ratio", "downsample_factor", "spatial_merge_size", "mm_tokens_per_image")
"""The same, named only where a model has them."""


@dataclass(frozen=True, slots=True)
class Interface:
    """The first linear of a model's projector.

    Attributes:
        path: of the linear in the model.
        projector: path of the projector.
        tower: names the space of the tower's features: equal for two models exactly when these mean the same in both.
        features: width of the features, d_tower.
        image_token: id of the tokens whose embeddings the projector gives, one for each of its rows.
        tower_path: of the vision tower.
    """

    path: str
    projector: str
    tower: str
    features: int
    image_token: int
    tower_path: str = ""

    def sequences(self, input_ids: Tensor) -> Tensor:
        """Return, for each row that the projector reads, the sequence that it belongs to.

        Args:
            input_ids: (B, T), with as many image tokens as the projector reads rows, in their order.

        Returns:
            (N,) long.
        """
        return (input_ids == self.image_token).nonzero()[:, 0]


def find_interface(module: PreTrainedModel) -> Interface | None:
    """Return a model's vision-language interface; None for text models.

    Args:
        module: without an adapter at its projector.

    Raises:
        ModelError: the model reads images, but its projector does not begin with a linear that is known here.
    """
    if getattr(module.config, "vision_config", None) is None:
        return None
    for kind in _KINDS:
        tower, projector = _ending(module, kind.tower), _ending(module, kind.projector)
        if tower is None or projector is None:
            continue
        path = f"{projector}.{kind.first}"
        linear = dict(module.named_modules()).get(path)
        sizes = None if linear is None else linear_features(linear)
        token = getattr(module.config, "image_token_id", getattr(module.config, "image_token_index", None))
        if sizes is not None and token is not None:
            name = _tower_name(module, kind, tower, projector, sizes[0])
            return Interface(path, projector, name, sizes[0], int(token), tower)
    raise ModelError(
        f"{type(module).__name__} has no projector that a tower adapter fits: expected one that begins with a linear, "
        "as LLaVA's, Idefics 3's, SmolVLM's, Gemma 3's, PaliGemma's and Qwen-VL's do; set adapter.tower_rank=0"
    )


def _ending(module: nn.Module, ending: str) -> str | None:
    return next((name for name, _ in module.named_modules() if f".{name}".endswith(f".{ending}")), None)


def _tower_name(module: PreTrainedModel, kind: _Kind, tower: str, projector: str, features: int) -> str:
    """Return 12 hex digits of everything that the features at the linear depend on, but for the pictures' sizes."""

    def weights() -> Iterator[tuple[str, Tensor]]:
        for name, parameter in module.get_submodule(tower).named_parameters():
            if not f"{tower}.{name}".startswith(f"{projector}."):  # a merger lies within its tower
                yield name, parameter
        for name, parameter in module.get_submodule(projector).named_parameters():  # e.g. a norm before the linear
            if name.startswith(f"{kind.first}."):
                return
            if name != PARAMETER:  # that is the linear's
                yield f"{projector}.{name}".removeprefix(f"{tower}."), parameter

    settings = [getattr(module.config, name, None) for name in OF_FEATURES]
    merged = {name: value for name in _OF_MERGED_FEATURES if (value := getattr(module.config, name, None)) is not None}
    return parameters_digest(weights(), f"{features} {settings}{merged or ''}")[:12]
