"""A shared slot of which some tensors never leave the client. Not a method by itself.

The letter at the end of their names says which they are. All others are sent, and averaged within an architecture.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

from torch import Tensor

from fedmosaic.adapters import Adapter, Slot, TensorShapes
from fedmosaic.methods.base import Aggregation, Method, MethodSettings, ServerState, mean_within_architecture
from fedmosaic.methods.uploads import Tensors, Uploads
from fedmosaic.training import Budget, Client

P = TypeVar("P", bound=MethodSettings)


class PartialExchange(Method[P]):
    """One LoRA of which one letter's tensors stay.

    Class attributes:
        kept: the letter of the tensors that never leave the client.
        frozen: the letters of tensors that are not trained.
    """

    slots = (Slot("shared", communicated=True),)
    answers_with = "shared"
    robust = True
    kept: ClassVar[str]
    frozen: ClassVar[str] = ""

    def receive(self, client: Client, download: Tensors) -> None:
        """Take up what was received beside what was kept. See :meth:`Method.receive`."""
        if download:
            client.adapter.load_slot("shared", {**client.snapshot("shared"), **download})

    def train(self, client: Client, budget: Budget) -> None:
        """Train what is not frozen. See :meth:`Method.train`."""
        for batch in client.batches(budget):
            client.step(batch, slots=("shared",), mix="shared", frozen=self.frozen)

    def upload(self, client: Client) -> dict[str, Tensor]:
        """The slot without what is kept. See :meth:`Method.upload`."""
        return {name: tensor for name, tensor in client.snapshot("shared").items() if self._leaves(name)}

    def upload_shapes(self, adapter: Adapter) -> TensorShapes:
        """Names and shapes of the same. See :meth:`Method.upload_shapes`."""
        return {name: shape for name, shape in adapter.schema("shared").items() if self._leaves(name)}

    def download_shapes(self, adapter: Adapter) -> TensorShapes:
        """As for the upload. See :meth:`Method.download_shapes`."""
        return self.upload_shapes(adapter)

    def aggregate(self, uploads: Uploads, state: ServerState) -> Aggregation:
        """Average within each architecture. See :meth:`Method.aggregate`."""
        return Aggregation(downloads=mean_within_architecture(uploads))

    def _leaves(self, name: str) -> bool:
        return name.rpartition(".")[2] != self.kept
