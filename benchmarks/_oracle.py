"""Methods that are told who does what, for relevance_structure.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from _domains import Seen, same_family, same_skill
from torch import Tensor

from fedmosaic.methods.base import Method
from fedmosaic.methods.fedmosaic import FedMosaic
from fedmosaic.methods.fedmosaic_proxy import FedMosaicProxy
from fedmosaic.methods.proxy_mixture import SimilarityOf
from fedmosaic.methods.uploads import Uploads


class Told(Method[Any]):
    """Knows who does what."""

    plan: ClassVar[Mapping[tuple[int, int], Seen]] = {}
    """What each client does in each round."""

    def told(self, uploads: Uploads) -> Tensor:
        """1, 0.5 or 0, (N, N): when they were made, both clients practised one skill, one family, or neither."""
        then = [Told.plan[upload.client, upload.round] for upload in uploads.values()]
        rows = [[1.0 if same_skill(a, b) else 0.5 if same_family(a, b) else 0.0 for b in then] for a in then]
        return torch.tensor(rows)


class Oracle(Told, FedMosaic):
    """FedMosaic that is told who does what."""

    name = "fedmosaic-oracle"
    title = "FedMosaic, oracle weights"

    def similarity(self, uploads: Uploads) -> Tensor:
        """What it is told."""
        return self.told(uploads)


class OracleProxy(Told, FedMosaicProxy):
    """FedMosaic with a proxy model that is told who does what."""

    name = "fedmosaic-proxy-oracle"
    title = "FedMosaic-Proxy, oracle weights"

    def similar(self, uploads: Uploads) -> SimilarityOf:
        """What it is told."""
        told = self.told(uploads)
        return lambda rows: told[rows]
