"""FFA-LoRA (Sun et al., ICLR 2024, arXiv 2403.12313): A is frozen at its random draw, which all clients share.

    B <- B - lr * grad_B F_k(B A_0),     B = sum_k p_k B_k     only B is trained, sent and averaged

So the mean of the products is the product of the means, sum_k p_k B_k A_0 = (sum_k p_k B_k) A_0, at half the bytes of
FedAvg (FedIT), and noise that is added to B for privacy is not squared.

Original: A_0 Kaiming-uniform, r = 8, DP-SGD as one of the cases, rates searched for each task. Adapted: uniform p_k,
averages within an architecture, AdamW, no noise. A_0 is the common draw of an architecture, so clients of one model may
bring their own LoRAs only if these are the same.
"""

from __future__ import annotations

from fedmosaic.config import RunSettings
from fedmosaic.errors import SettingsError
from fedmosaic.methods.base import MethodSettings
from fedmosaic.methods.partial_exchange import PartialExchange


class FfaLora(PartialExchange[MethodSettings]):
    """One shared LoRA whose A is frozen."""

    name = "ffa-lora"
    title = "FFA-LoRA"
    kept = "A"
    frozen = "A"

    def check(self, settings: RunSettings) -> None:
        """Refuse clients that start with different A. See :meth:`Method.check`."""
        starts: dict[str, tuple[int, str]] = {}
        for client in settings.scenario.clients:
            first, known = starts.setdefault(client.model, (client.id, client.start))
            if known != client.start:
                raise SettingsError(
                    f"method ffa-lora: clients {first} and {client.id} have the model {client.model!r} and start from "
                    f"{known or 'nothing'} and {client.start or 'nothing'}; their A must be the same, as B alone is "
                    "averaged"
                )
