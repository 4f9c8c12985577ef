"""The state of one client between two messages, and the names under which its tensors are written to a file.

slot.SLOT|NAME    the adapter's slots: their weights, by the names that an upload has
gate|NAME         the gates' parameters
moment|NAME       the optimiser's moments and step counts
memory|NAME       tensors that the method keeps
missed|rounds     rounds that the client should have trained in and has not; only if there are any
proxy.PART|NAME   the same parts of the client's proxy model, if it has one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fedmosaic.adapters import Adapter
from fedmosaic.errors import RunError

Tensors = Mapping[str, Tensor]

_SLOT = "slot."
_PROXY = "proxy."
_MISSED = "missed|rounds"


@dataclass(frozen=True)
class ClientState:
    """One client between two messages.

    Attributes:
        slots: each slot's tensors by name, as :meth:`Adapter.slot_tensors` names them.
        gate: the gates' parameters by name; empty without gates.
        moments: of the optimiser, as :meth:`SlotOptimiser.moments` names them; empty before any training.
        memory: what the method keeps of the client between rounds, by names of the method's own.
        proxy: the state of its proxy model; None if it has none.
        missed: rounds before this state in which the client should have trained, and has not, ascending.
    """

    slots: Mapping[str, Tensors]
    gate: Tensors
    moments: Tensors = field(default_factory=dict)
    memory: Tensors = field(default_factory=dict)
    proxy: ClientState | None = None
    missed: tuple[int, ...] = ()

    @classmethod
    def of_adapter(cls, adapter: Adapter) -> ClientState:
        """Return copies of all slots and gates of an adapter, without moments and memory.

        Args:
            adapter: in any state.
        """
        return cls({slot.name: adapter.slot_tensors(slot.name) for slot in adapter.slots}, adapter.gate_tensors())

    @property
    def weights(self) -> ClientState:
        """The same slots and gates, without moments and memory."""
        return replace(self, moments={}, memory={}, proxy=None if self.proxy is None else self.proxy.weights)

    def load_into(self, adapter: Adapter) -> None:
        """Overwrite all slots and gates of an adapter.

        Args:
            adapter: of the same slots and shape.

        Raises:
            ModelError: a name or a shape differs.
        """
        for slot in adapter.slots:
            adapter.load_slot(slot.name, self.slots.get(slot.name, {}))
        adapter.load_gate(self.gate)

    def with_slots(self, slots: Mapping[str, Tensors]) -> ClientState:
        """Return the state with some slots replaced.

        Args:
            slots: the new tensors, by slot.
        """
        return replace(self, slots={**self.slots, **slots})

    def tensors(self) -> dict[str, Tensor]:
        """Return everything as one table, e.g. for a safetensors file; the module says how its keys are made."""
        tables = {f"{_SLOT}{name}": table for name, table in self.slots.items()}
        tables |= {"gate": self.gate, "moment": self.moments, "memory": self.memory}
        own = {f"{part}|{name}": tensor for part, table in tables.items() for name, tensor in table.items()}
        proxy = {} if self.proxy is None else self.proxy.tensors()
        missed = {_MISSED: torch.tensor(self.missed)} if self.missed else {}
        return own | {f"{_PROXY}{key}": tensor for key, tensor in proxy.items()} | missed

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> ClientState:
        """Return the state that :meth:`tensors` has written.

        Args:
            tensors: of one state, by key.

        Raises:
            RunError: a key is not one of a client's state.
        """
        slots: dict[str, dict[str, Tensor]] = {}
        others: dict[str, dict[str, Tensor]] = {"gate": {}, "moment": {}, "memory": {}}
        proxy: dict[str, Tensor] = {}
        missed: tuple[int, ...] = ()
        for key, tensor in tensors.items():
            part, _, name = key.partition("|")
            if key == _MISSED:
                if tensor.dtype != torch.int64 or tensor.ndim != 1:
                    raise RunError(f"a client's state has the tensor {key!r} that is no list of whole numbers")
                missed = tuple(tensor.tolist())
            elif part.startswith(_PROXY) and not part.startswith(2 * _PROXY):  # a proxy model has none of its own
                proxy[key.removeprefix(_PROXY)] = tensor
            elif part.startswith(_SLOT):
                slots.setdefault(part.removeprefix(_SLOT), {})[name] = tensor
            elif part in others:
                others[part][name] = tensor
            else:
                raise RunError(
                    f"a client's state has the tensor {key!r}; expected slot.SLOT|NAME, gate|NAME, moment|NAME or "
                    "memory|NAME, or one of them after proxy.: the file is not a client's state, or of a newer version"
                )
        rest = cls.from_tensors(proxy) if proxy else None
        return cls(slots, others["gate"], others["moment"], others["memory"], rest, missed)


def averaged(states: Sequence[ClientState]) -> ClientState:
    """Return the last of a client's states with the mean of all of them as its weights: slots and gate, of both models.

    (Averaging weights along the path of training, Izmailov et al., UAI 2018, arXiv 1803.05407.)

    Args:
        states: at least one, of equal names and shapes.
    """
    if len(states) == 1:
        return states[0]

    def means(tables: Sequence[Tensors]) -> dict[str, Tensor]:
        return {
            name: torch.stack([table[name] for table in tables]).double().mean(0).to(last)
            for name, last in tables[-1].items()
        }

    slots = {slot: means([state.slots[slot] for state in states]) for slot in states[-1].slots}
    proxies = [state.proxy for state in states if state.proxy is not None]
    return replace(
        states[-1],
        slots=slots,
        gate=means([state.gate for state in states]),
        proxy=averaged(proxies) if proxies else None,
    )
