"""FedSA-LoRA (Guo et al., ICLR 2025, arXiv 2410.01463): A is shared, B is the client's own.

    (A, B_k) <- (A, B_k) - lr * grad F_k(B_k A),     A = sum_k p_k A_k     both are trained; only A is sent and averaged

The paper finds that A learns what clients have in common and B what is their own.

Original: q and v of RoBERTa large, r = 8, alpha = 16, 3 clients, 1000 rounds of 10 local SGD steps at 0.02, batches of
128; the classifier's head stays local. Adapted: uniform p_k, averages within an architecture, AdamW with moments that
are kept; a client that joins late starts with the mean of A and an own B of zeros.
"""

from __future__ import annotations

from fedmosaic.methods.base import MethodSettings
from fedmosaic.methods.partial_exchange import PartialExchange


class FedSaLora(PartialExchange[MethodSettings]):
    """One LoRA whose B stays."""

    name = "fedsa-lora"
    title = "FedSA-LoRA"
    kept = "B"
    heterogeneity = "tasks"
