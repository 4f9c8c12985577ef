"""What half precision and 8 bits do to the last uploads of a run: bytes, and relative errors of A and B and of B A.

python benchmarks/wire_error.py runs/a
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from fedmosaic.adapters import is_slot_tensor
from fedmosaic.federation import wire
from fedmosaic.federation.encodings import ENCODINGS
from fedmosaic.io import load_tensors


def products(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensors[f"{name[:-1]}B"] @ tensors[name] for name in tensors if name.endswith(".A")}


def error(sent: list[dict[str, Tensor]], received: list[dict[str, Tensor]]) -> float:
    pairs = [(a[name], b[name]) for a, b in zip(sent, received, strict=True) for name in a]
    off = sum(float((a - b).double().square().sum()) for a, b in pairs)
    return (off / sum(float(a.double().square().sum()) for a, _ in pairs)) ** 0.5


def main(run: Path) -> None:
    paths = [sorted(folder.iterdir())[-1] for folder in sorted((run / "uploads").iterdir())]
    uploads = [load_tensors(path) for path in paths]
    weights = [{name: tensor for name, tensor in each.items() if is_slot_tensor(name)} for each in uploads]
    for name, encoding in ENCODINGS.items():
        size, received = 0, []
        for upload, kept in zip(uploads, weights, strict=True):
            shapes = {key: tuple(tensor.shape) for key, tensor in upload.items()}
            content = wire.pack({}, upload, agreed=shapes, encoding=encoding)
            size += wire.size(content)
            got = wire.unpack(content, shapes, sender="a client", encoding=encoding)
            received.append({key: got[key] for key in kept})
        off = error(weights, received), error(list(map(products, weights)), list(map(products, received)))
        print(f"{name:8} {size / len(uploads):9.0f} bytes   A, B {off[0]:.2%}   B A {off[1]:.2%}")


if __name__ == "__main__":
    with torch.no_grad():
        main(Path(sys.argv[1]))
