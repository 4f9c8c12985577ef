"""What makes a vision-language model of a language model: a projector, and low-rank changes of the decoder's linears.

A change is ``diag(s) B A diag(t)`` with whole numbers of 8 bits in B (out, r) and A (r, in). The sums of B A are whole
numbers below 2**24, so every machine finds the same weights to the last bit, and one checksum fits all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fedmosaic.errors import ModelError, RunError
from fedmosaic.io import load_tensors, save_tensors

_LARGEST = 127
_RANK_LIMIT = 2**24 // _LARGEST**2  # whole numbers are exact in float32 up to 2**24
_PARTS = ("up", "up_scale", "down", "down_scale")


@dataclass(frozen=True)
class Change:
    """A change of one linear's weight.

    Attributes:
        up: B, (out, r) int8.
        up_scale: s, (out,) bfloat16.
        down: A, (r, in) int8.
        down_scale: t, (in,) bfloat16.
    """

    up: Tensor
    up_scale: Tensor
    down: Tensor
    down_scale: Tensor

    @classmethod
    def rounded(cls, up: Tensor, down: Tensor) -> Change:
        """Return the change ``up @ down``, rounded.

        Args:
            up: (out, r).
            down: (r, in).
        """
        if up.shape[1] > _RANK_LIMIT:
            raise ValueError(f"rank {up.shape[1]}: expected at most {_RANK_LIMIT}, or sums would not be exact")
        left, s = _rounded(up, dim=1)
        right, t = _rounded(down, dim=0)
        return cls(left, s, right, t)

    def dense(self) -> Tensor:
        """Return the change of the weight, (out, in) float32; the same bits everywhere."""
        product = self.up.float() @ self.down.float()
        return product.mul_(self.up_scale.float()[:, None]).mul_(self.down_scale.float())


@dataclass(frozen=True)
class Delta:
    """All that is added to a package's weights.

    Attributes:
        changes: by the linear's path below the decoder, e.g. ``layers.0.self_attn.q_proj``.
        projector: weights and biases by their names below the projector, e.g. ``linear_1.weight``.
        package: sha256 of the package's weights.
        result: :func:`weights_sha256` of the model that comes out; empty while it is not known.
    """

    changes: Mapping[str, Change]
    projector: Mapping[str, Tensor]
    package: str
    result: str = ""

    def save(self, path: Path) -> None:
        """Write a safetensors file.

        Args:
            path: the file.
        """
        tensors = {f"projector.{name}": tensor.to("cpu", torch.float16) for name, tensor in self.projector.items()}
        for place, change in self.changes.items():
            tensors |= {f"{place}.{part}": getattr(change, part) for part in _PARTS}
        save_tensors(path, tensors, {"package": self.package, "result": self.result})

    @classmethod
    def load(cls, name: str, path: Path) -> Delta:
        """Return what :meth:`save` has written.

        Args:
            name: of the base model, for messages.
            path: the file.

        Raises:
            ModelError: it is missing or damaged, or is no delta.
        """
        try:
            tensors = load_tensors(path, advice="install fedmosaic again")
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
            places = dict.fromkeys(key.rpartition(".")[0] for key in tensors if not key.startswith("projector."))
            changes = {place: Change(*(tensors[f"{place}.{part}"] for part in _PARTS)) for place in places}
            projector = {
                key.removeprefix("projector."): tensor.float()
                for key, tensor in tensors.items()
                if key.startswith("projector.")
            }
            return cls(changes, projector, facts["package"], facts["result"])
        except RunError as error:
            raise ModelError(f"base model {name!r}: {error}") from None
        except KeyError as error:
            raise ModelError(
                f"base model {name!r}: {path} is no delta: it lacks {error}; install fedmosaic again"
            ) from None

    @torch.no_grad()
    def apply(self, name: str, decoder: nn.Module, projector: nn.Module) -> None:
        """Add the changes to a decoder's linears and fill a projector, in place.

        Args:
            name: of the base model, for messages.
            decoder: float32.
            projector: float32.

        Raises:
            ModelError: a place or a shape does not fit; the decoder is as it was then.
        """
        weights = {}
        for place, change in self.changes.items():
            weight = getattr(dict(decoder.named_modules()).get(place), "weight", None)
            size = (len(change.up), change.down.shape[1])
            if weight is None or tuple(weight.shape) != size:
                found = "is not in the model" if weight is None else f"is {tuple(weight.shape)}"
                raise ModelError(
                    f"base model {name!r}: its delta does not fit the package's weights: {place} {found}, expected "
                    f"{size}; install the releases of fedmosaic and of the package that belong together"
                )
            weights[place] = weight
        try:
            projector.load_state_dict(dict(self.projector))
        except RuntimeError as error:
            raise ModelError(f"base model {name!r}: its delta does not fit: {' '.join(str(error).split())}") from None
        for place, change in self.changes.items():
            weights[place].add_(change.dense())


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of weights, whatever their order.

    Args:
        state: by name, on the CPU.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _rounded(matrix: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return 8-bit whole numbers, and what each row (or column) of them is multiplied with."""
    largest = matrix.float().abs().amax(dim, keepdim=True)
    scale = (largest / _LARGEST * (1 + 2**-8)).bfloat16().clamp(min=1e-30)  # rounded up at worst
    return (matrix / scale.float()).round().clamp(-_LARGEST, _LARGEST).to(torch.int8), scale.squeeze(dim)
