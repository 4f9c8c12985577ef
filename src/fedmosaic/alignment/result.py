"""Aligned bases of several architectures, and the folder that holds them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fedmosaic.alignment.algebra import nearest_orthonormal
from fedmosaic.alignment.measure import Correlation
from fedmosaic.errors import ModelError, SettingsError

TENSORS, RECORD = "bases.safetensors", "alignment.json"


@dataclass(frozen=True)
class Alignment:
    """The frozen bases of every Co-LoRA module in several architectures.

    Attributes:
        mode: how they were chosen.
        rank: r.
        blocks: number of blocks N_B.
        seed: of the random parts.
        samples: how many public samples were used.
        form: of the bases: ``orthonormal``, ``scaled`` (orthonormal up to one factor each) or ``free``.
        architectures: model name -> architecture (:attr:`BaseModel.architecture`).
        bases: model name -> ``block.{k}.{module}.A`` (r, in) and ``.B`` (out, r), as ``Adapter.load_basis`` takes them.
        correlations: by ``block.{k}.{module}``, of the modules that at least two architectures have.
        identity: 16 hex digits drawn from the bases as they were made; kept whatever precision they are stored in, so
            that sites can tell whether they use the same ones.
    """

    mode: str
    rank: int
    blocks: int
    seed: int
    samples: int
    form: str
    architectures: Mapping[str, str]
    bases: Mapping[str, dict[str, Tensor]]
    correlations: Mapping[str, Correlation]
    identity: str

    def basis(self, architecture: str) -> dict[str, Tensor]:
        """Return the bases of an architecture, whatever its model is called.

        Args:
            architecture: as :attr:`BaseModel.architecture`.

        Returns:
            ``block.{k}.{module}.A`` (r, in) and ``.B`` (out, r).

        Raises:
            SettingsError: it is not among the aligned ones.
        """
        for name, known in self.architectures.items():
            if known == architecture:
                return self.bases[name]
        raise SettingsError(
            f"the alignment is not for {architecture}; it was made for "
            f"{', '.join(sorted(set(self.architectures.values())))}. Architecture names change with a model's weights: "
            "make another with fedmosaic align SCENARIO --out DIR"
        )

    def mean(self) -> Correlation:
        """Return the mean correlations over all modules."""
        every = list(self.correlations.values())
        return Correlation(
            inputs=sum(one.inputs for one in every) / len(every),
            effects=sum(one.effects for one in every) / len(every),
            updates=sum(one.updates for one in every) / len(every),
        )

    def check(self, *, rank: int, blocks: int) -> None:
        """Make sure that these bases have the shape that a run needs.

        Args:
            rank: the run's r.
            blocks: the run's number of blocks N_B.

        Raises:
            SettingsError: they are for another rank or another number of blocks.
        """
        for what, own, asked in (("rank", self.rank, rank), ("blocks", self.blocks, blocks)):
            if own != asked:
                raise SettingsError(
                    f"the alignment was made for {what}={own} but {what}={asked} is asked; "
                    f"set adapter.{what}={own}, or make another: fedmosaic align SCENARIO --{what} {asked} --out DIR"
                )

    def save(self, folder: Path, *, half: bool = False) -> None:
        """Write the bases and a JSON record of what they are.

        Args:
            folder: made if needed; an alignment that is in it is replaced.
            half: store in half precision; bases are given their exact form again when they are loaded.
        """
        folder.mkdir(parents=True, exist_ok=True)
        own = {self.architectures[name]: _modules(basis) for name, basis in self.bases.items()}
        stored = {
            f"{self.architectures[name]}/{key}": tensor.to(torch.float16 if half else torch.float32).contiguous()
            for name, basis in self.bases.items()
            for key, tensor in basis.items()
        }
        record = {
            "mode": self.mode,
            "rank": self.rank,
            "blocks": self.blocks,
            "seed": self.seed,
            "samples": self.samples,
            "form": self.form,
            "identity": self.identity,
            "architectures": dict(self.architectures),
            "modules": {name: each for name, each in own.items() if each != sorted(self.correlations)},
            "correlations": {
                name: {what: round(value, 4) for what, value in asdict(one).items()}
                for name, one in self.correlations.items()
            },
        }
        draft = folder / f"{TENSORS}.part"
        save_file(stored, draft)
        _into_place(draft)
        draft = folder / f"{RECORD}.part"
        draft.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        _into_place(draft)

    @classmethod
    def load(cls, folder: Path) -> Alignment:
        """Read what :meth:`save` wrote; bases in half precision are given their exact form again.

        Args:
            folder: holds what :meth:`save` wrote.

        Returns:
            The alignment with bases in float32.

        Raises:
            ModelError: a file is missing or damaged.
        """
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            stored = load_file(folder / TENSORS)
            return cls(
                **{key: record[key] for key in ("mode", "rank", "blocks", "seed", "samples", "form", "identity")},
                architectures=record["architectures"],
                bases={
                    name: _bases_of(stored, architecture, record)
                    for name, architecture in record["architectures"].items()
                },
                correlations={name: Correlation(**one) for name, one in record["correlations"].items()},
            )
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"{folder} holds no usable alignment ({error}); make one: fedmosaic align SCENARIO --out {folder}"
            ) from error


def identity_of(bases: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Return 16 hexadecimal digits that name these bases bit by bit.

    Args:
        bases: architecture -> name -> tensor.

    Returns:
        The digits; equal for equal bases.
    """
    digest = hashlib.blake2b(digest_size=8)
    for architecture, tensors in sorted(bases.items()):
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{architecture}/{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def is_alignment(folder: Path) -> bool:
    """Return whether :meth:`Alignment.save` has written a folder to its end.

    Args:
        folder: may be missing.
    """
    return (folder / RECORD).is_file()


def _modules(basis: Mapping[str, Tensor]) -> list[str]:
    return sorted({name.rpartition(".")[0] for name in basis})


def _bases_of(stored: Mapping[str, Tensor], architecture: str, record: Mapping[str, Any]) -> dict[str, Tensor]:
    start = f"{architecture}/"
    bases = {key.removeprefix(start): tensor for key, tensor in stored.items() if key.startswith(start)}
    modules = record.get("modules", {}).get(architecture, record["correlations"])
    expected = {f"{module}.{letter}" for module in modules for letter in "AB"}
    if set(bases) != expected:
        raise ValueError(f"bases of {architecture} are missing or too many: {sorted(set(bases) ^ expected)[0]}")
    for key, tensor in bases.items():
        side = 0 if key.endswith(".A") else 1
        if tensor.dim() != 2 or tensor.shape[side] != record["rank"] or not bool(tensor.isfinite().all()):
            raise ValueError(f"{architecture} {key} is not a finite matrix of rank {record['rank']}")
    return {key: _reformed(tensor, record["form"]) for key, tensor in bases.items()}


def _reformed(stored: Tensor, form: str) -> Tensor:
    """Undo what storing in half precision has done to the form; what was stored whole is given back bit by bit."""
    basis = stored.float()
    if stored.dtype == torch.float32 or form == "free":
        return basis
    factor = basis.norm() / min(basis.shape) ** 0.5 if form == "scaled" else 1.0
    return nearest_orthonormal(basis) * factor


def _into_place(draft: Path) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.rename(draft.with_suffix(""))
