"""Fed-SB (Singhal et al., 2025, arXiv 2502.15436): a small square matrix between frozen bases (LoRA-SB, LoRA-XS).

    h = W x + s B R A x,   A (r, in) and B (out, r) frozen and common,   R (r, r) trained
    R = sum_k p_k R_k                                    exact: sum_k p_k B R_k A = B (sum_k p_k R_k) A

It is Co-LoRA's P in every layer, within an architecture, without Q and without alignment.

Original: A and B are the singular vectors of the first gradient of full fine-tuning, estimated on a thousandth of the
data, which the server has or gathers, and R starts with its singular values; s = 1; r up to 200, more than LoRA can
afford, at 1e-4. Adapted: no data are gathered, so A and B are a common random draw with orthonormal rows and columns,
and R starts at 0, where its gradient is not; s is that of the adapters; uniform p_k, averages within an architecture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fedmosaic.adapters import EVERY_LAYER
from fedmosaic.config import AdapterSettings
from fedmosaic.methods.base import MethodSettings
from fedmosaic.methods.partial_exchange import PartialExchange


@dataclass(frozen=True, kw_only=True)
class FedSbSettings(MethodSettings):
    """Values of the paper (docs/method-facts.md#fed-sb)."""

    rank: Annotated[int, Field(ge=1)] | None = None
    """r, at most the smallest width of an adapted linear; by default that of the adapters (paper: up to 200)."""


class FedSb(PartialExchange[FedSbSettings]):
    """One shared R per linear between frozen bases."""

    name = "fed-sb"
    title = "Fed-SB"
    colora = True
    kept = "Q"
    frozen = "Q"
    Settings = FedSbSettings

    def adapter_settings(self, settings: AdapterSettings) -> AdapterSettings:
        """Co-LoRA in every layer, with bases of its own and the scale of the run's adapters.

        See :meth:`Method.adapter_settings`.
        """
        rank = self.settings.rank or settings.rank
        alpha = settings.alpha * rank / settings.rank
        changes = {"blocks": EVERY_LAYER, "alignment": "none", "rank": rank, "alpha": alpha}
        return super().adapter_settings(settings).model_copy(update=changes)
