"""The adapter of one client: all its trainable weights, attached to a frozen base model in place."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedmosaic.adapters.build import Adapted, AdapterShape, build, check_free
from fedmosaic.adapters.forward_context import ForwardContext, Prompt, SlotWeights
from fedmosaic.adapters.gate import gated_pair
from fedmosaic.adapters.layer import CoLoraLinear
from fedmosaic.adapters.recompute import recomputed
from fedmosaic.adapters.slots import Slot, checked_slots
from fedmosaic.adapters.tensors import TensorShapes, copies, load_strictly
from fedmosaic.adapters.tower import TowerLinear, TowerSite
from fedmosaic.errors import SettingsError
from fedmosaic.models.base import Batch
from fedmosaic.models.interface import Interface
from fedmosaic.models.stack import decoder_layers


class Adapter:
    """Slots, gates and frozen Co-LoRA bases in every adapted linear of one model.

    Made by :meth:`attach`. Several adapters can take turns on one base model with :meth:`detach` and :meth:`reattach`.

    Args:
        model: the whole base model.
        decoder: its decoder stack (or ``model`` itself).
        slots: the branches of every adapted linear.
        shape: everything else that fixes the tensors.

    Attributes:
        slots: the slots, in the order in which they are computed.
        shape: rank, alpha, gate, seed and whatever else the adapter was made with.
        placement: layers, block ends and targets.
        attached: whether the model currently computes with this adapter.
        training: whether dropout is on (see :meth:`train`).
        opened: the slots (and ``gate``) that :meth:`train_only` last let require gradients, and ``-LETTER`` of those of
            their tensors that it did not.
        recompute: whether decoder layers are computed again in the backward pass instead of keeping their activations.
        folds: whether :func:`~fedmosaic.adapters.folded_in` may put folded weights in place of its linears.
        on_changed_base: whether the base weights are this client's own for now, see
            :func:`~fedmosaic.adapters.base_changed`.
        proxy: the adapter of the proxy model that clients with this adapter train beside their own; None without one.
    """

    proxy: Adapter | None = None
    recompute: bool = False
    folds: bool = True
    on_changed_base: bool = False

    def __init__(self, model: nn.Module, decoder: nn.Module, slots: Sequence[Slot], shape: AdapterShape) -> None:
        self.slots = tuple(slots)
        self.shape = shape
        self.attached = False
        self.training = model.training
        self.opened: tuple[str, ...] = (*shape.slots, "gate")
        self._model = model
        self._decoder = decoder
        self._context = ForwardContext()
        self._required_grad: list[nn.Parameter] = []
        self.placement, self._adapted = build(model, decoder, shape, self._context)

    @classmethod
    def attach(
        cls,
        model: nn.Module,
        decoder: nn.Module,
        *,
        slots: Sequence[Slot],
        rank: int,
        alpha: float,
        blocks: int = 0,
        dropout: float = 0.0,
        gate: str = "none",
        gated: tuple[str, str] | None = None,
        seed: int,
        architecture: str,
        modules: Collection[str] | None = None,
        dtype: torch.dtype = torch.float32,
        tower: TowerSite | None = None,
    ) -> Adapter:
        """Put adapters into a model's decoder, in place, and freeze everything else.

        Right after, the model computes what it did before; in use is the gate if there is one, else the first slot.

        Args:
            model: the whole model; all its own parameters are frozen until :meth:`detach`.
            decoder: its decoder stack (or ``model`` itself).
            slots: the branches of every adapted linear.
            rank: r of every branch.
            alpha: output scale times r.
            blocks: number of blocks N_B, the last layer of each carrying Co-LoRA; 0 for none.
            dropout: on the adapters' input, in training mode (see :meth:`train`).
            gate: ``none``, ``scalar``, ``sample``, ``token`` or (with one slot) ``step``.
            gated: names of the slots that get 1 - g and g; by default the only two slots, in their order.
            seed: of the initial draws, which depend on it, on ``architecture`` and on the place only.
            architecture: equal on two clients exactly if ``layer.*`` tensors can be exchanged between them.
            modules: names of the projections to adapt, e.g. ``{"q_proj", "v_proj"}``; None adapts all.
            dtype: of the adapters' weights, whatever the model's is.
            tower: the model's vision-language interface, if it gets a tower adapter, and its basis.

        Returns:
            The adapter, attached.

        Raises:
            ModelError: the decoder is not part of the model, has no usable structure, or carries an adapter already.
            SettingsError: a setting is out of range or does not fit the decoder.
        """
        names = tuple(slot.name for slot in checked_slots(slots))
        pair = gated_pair(gate, gated, names)
        shape = AdapterShape(
            slots=names, rank=rank, alpha=alpha, blocks=blocks, dropout=dropout, gate=gate, gated=pair, seed=seed,
            architecture=architecture, modules=modules, dtype=dtype, tower=tower,
        )  # fmt: skip
        adapter = cls(model, decoder, slots, shape)
        adapter.mix("gate" if pair else {names[0]: 1.0})
        adapter.reattach()
        return adapter

    # ---- attaching and detaching

    def reattach(self) -> None:
        """Put this adapter's linears (back) into the model and freeze the model's own parameters.

        Raises:
            ModelError: another adapter is attached.
        """
        if self.attached:
            return
        check_free(self._model)
        self._required_grad = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        for parameter in self._required_grad:
            parameter.requires_grad_(False)
        for adapted in self._adapted:
            adapted.put(adapted.linear)
        self.attached = True

    def detach(self) -> None:
        """Restore the model exactly: its own linears, and which of its parameters require gradients."""
        if not self.attached:
            return
        for adapted in self._adapted:
            adapted.put(adapted.linear.base)
        for parameter in self._required_grad:
            parameter.requires_grad_(True)
        self.attached = False

    def beside(self) -> Adapter:
        """Return an adapter for the same model with weights of its own, equal to these; it is not attached.

        Frozen bases and the model's linears are shared. Only one of them is attached at a time: see
        :meth:`take_place_of`.
        """
        other = copy.copy(self)
        other._context = ForwardContext()
        other._adapted = tuple(
            replace(adapted, linear=adapted.linear.beside(other._context)) for adapted in self._adapted
        )
        other.attached, other.proxy = False, None
        other.mix(self._context.chosen)
        return other

    def take_place_of(self, former: Adapter) -> None:
        """Put this adapter's linears where those of another one are that was made beside it.

        Args:
            former: attached; afterwards it is not.
        """
        if former is self:
            return
        for adapted in self._adapted:
            adapted.put(adapted.linear)
        self._required_grad, self.attached, former.attached = former._required_grad, True, False

    def linears(self) -> tuple[Adapted, ...]:
        """Return all adapted linears with their places, in the order of the placement."""
        return self._adapted

    @property
    def interface(self) -> Interface | None:
        """The vision-language interface that carries a tower adapter, if one does."""
        return None if self.shape.tower is None else self.shape.tower.interface

    def train(self, mode: bool = True) -> None:
        """Switch the adapters' dropout on or off; the base model's mode is not touched.

        Args:
            mode: True for training, False for evaluation.
        """
        self.training = mode
        for adapted in self._adapted:
            adapted.linear.training = mode

    # ---- what a pass depends on: which slots enter, and what is known of the batch

    def mix(self, weights: SlotWeights) -> None:
        """Choose which slots enter the output, and how.

        With gradient checkpointing a backward pass must run under the same mix as its forward pass.

        Args:
            weights: fixed weights by slot, e.g. ``{"local": 0.5, "shared": 0.5}``, the name of one slot, or ``"gate"``.

        Raises:
            SettingsError: an unknown slot, a weight that is not finite, or ``"gate"`` without a gate.
        """
        context, gated = self._context, self.shape.gated
        if weights == "gate":
            if gated is None:
                raise SettingsError("mix('gate'): expected slot weights, or 'gate' on an adapter that has one")
            context.active, context.weights, context.gated = gated, (), True
            return
        given = {weights: 1.0} if isinstance(weights, str) else weights
        for name, weight in given.items():
            self._check_slot(name)
            if not math.isfinite(weight):
                raise SettingsError(f"mix: weight {weight} of slot {name!r} is not a finite number")
        used = {name: float(given[name]) for name in self.shape.slots if given.get(name)}
        context.active, context.weights, context.gated = tuple(used), tuple(used.values()), False

    @property
    def chosen(self) -> SlotWeights | None:
        """The weights of :meth:`mix` that are in use; None where each sample has its own."""
        return None if self._context.by_sample is not None else self._context.chosen

    @contextmanager
    def mixed(self, weights: SlotWeights) -> Iterator[None]:
        """Compute with other weights inside the block, then restore the former mix.

        Args:
            weights: as :meth:`mix` takes them; weights of single samples do not count inside.

        Raises:
            SettingsError: as :meth:`mix`.
        """
        context = self._context
        former = context.active, context.weights, context.gated, context.by_sample
        context.by_sample = None
        self.mix(weights)
        try:
            yield
        finally:
            context.active, context.weights, context.gated, context.by_sample = former

    def disabled(self) -> AbstractContextManager[None]:
        """Return a block inside which the base model computes, bit for bit."""
        return self.mixed({})

    @contextmanager
    def mixed_by_sample(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Compute with weights that differ between samples inside the block, then restore the former mix.

        Args:
            weights: (B,) by slot; slots left out do not enter.
        """
        with self.mixed(dict.fromkeys(weights, 1.0)):
            self._context.by_sample = torch.stack([weights[name] for name in self._context.active], -1)
            yield

    @contextmanager
    def prompt(self, mask: Tensor, known: dict[int, Tensor] | None = None) -> Iterator[None]:
        """Tell a sample gate where the prompts of the batch inside the block are; other gates do not need it.

        The first computation inside must cover the prompts; decoding steps (without gradients) then reuse its gate
        values: open a new block for every batch.

        Args:
            mask: (B, T), true at positions that are neither answer nor padding.
            known: gate values of the same prompts from an earlier block; those that are taken now join them.
        """
        prompt = Prompt(mask.bool()) if known is None else Prompt(mask.bool(), known)
        former, self._context.prompt = self._context.prompt, prompt
        try:
            yield
        finally:
            self._context.prompt = former

    @contextmanager
    def reading(self, batch: Batch) -> Iterator[None]:
        """Take from a batch what the slots' weights depend on, inside the block: its prompts, and its slot weights.

        :meth:`BaseModel.hidden_states <fedmosaic.models.base.BaseModel.hidden_states>` opens it for the adapter that
        the model carries.

        Args:
            batch: what is computed inside; with ``slot_weights`` these count instead of the mix.
        """
        weights, context = batch.slot_weights, self._context
        former = context.image_rows
        if weights is not None and self.interface is not None:
            context.image_rows = self.interface.sequences(batch.input_ids)
        try:
            with (
                self.prompt(batch.prompt, None if batch.past is None else batch.past.gates),
                nullcontext() if weights is None else self.mixed_by_sample(weights),
                nullcontext() if not self.recompute else recomputed(decoder_layers(self._decoder), context),
            ):
                yield
        finally:
            context.image_rows = former

    # ---- tensors out and in

    def parameters(self, slot: str) -> dict[str, nn.Parameter]:
        """Return a slot's live parameters, e.g. to penalise them.

        Args:
            slot: its name.

        Returns:
            By the names of :meth:`slot_tensors`.

        Raises:
            SettingsError: there is no such slot.
        """
        self._check_slot(slot)
        return {
            f"{adapted.target.prefix}.{letter}": parameter
            for adapted in self._adapted
            for letter, parameter in adapted.linear.slot(slot).items()
        }

    def schema(self, slot: str) -> TensorShapes:
        """Return names and shapes of a slot's tensors, in their fixed order.

        Args:
            slot: its name.

        Raises:
            SettingsError: there is no such slot.
        """
        return {name: tuple(tensor.shape) for name, tensor in self.parameters(slot).items()}

    def slot_tensors(self, slot: str) -> dict[str, Tensor]:
        """Return copies of a slot's tensors.

        Co-LoRA tensors are named ``block.{k}.{module}.P`` (r, r) and ``.Q`` (r,), the same in every architecture, and
        a tower adapter's ``tower.{name}.P`` and ``.Q``, the same in all that have the tower; the others
        ``layer.{i}.{module}.A`` (r, in) and ``.B`` (out, r). See :func:`~fedmosaic.adapters.is_shared`.

        Args:
            slot: its name.

        Raises:
            SettingsError: there is no such slot.
        """
        return copies(self.parameters(slot))

    def load_slot(self, slot: str, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite a slot in place.

        Args:
            slot: its name.
            tensors: named and shaped as :meth:`schema` says.

        Raises:
            ModelError: a name is missing or unknown, or a shape differs; nothing has been written then.
        """
        load_strictly(f"slot {slot!r} of {self.shape.architecture}", self.parameters(slot), tensors)

    def copy_slot(self, source: str, target: str) -> None:
        """Overwrite one slot in place with another's values.

        Args:
            source: name of the slot that is copied.
            target: name of the slot that is overwritten.

        Raises:
            SettingsError: there is no such slot.
        """
        self.load_slot(target, self.parameters(source))

    def gate_tensors(self) -> dict[str, Tensor]:
        """Return copies of the gates' parameters: ``layer.{i}.{module}.beta`` (), ``.s`` () or ``.w`` (in,).

        A tower adapter's is ``tower.{name}.beta`` or ``.s``.
        """
        return copies(self._gates())

    def load_gate(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the gates' parameters in place.

        Args:
            tensors: as :meth:`gate_tensors` returns them.

        Raises:
            ModelError: a name is missing or unknown, or a shape differs; nothing has been written then.
        """
        load_strictly(f"the {self.shape.gate} gate of {self.shape.architecture}", self._gates(), tensors)

    def colora_shared(self) -> dict[str, Tensor]:
        """Return copies of Co-LoRA's frozen bases: ``block.{k}.{module}.A`` (r, in) and ``.B`` (out, r)."""
        return copies(self._bases())

    def load_basis(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite Co-LoRA's frozen bases in place, e.g. with aligned ones.

        Args:
            tensors: as :meth:`colora_shared` returns them.

        Raises:
            ModelError: a name is missing or unknown, or a shape differs; nothing has been written then.
        """
        load_strictly(f"the Co-LoRA bases of {self.shape.architecture}", self._bases(), tensors)

    # ---- training

    def train_only(
        self, *slots: str, gate: bool = False, frozen: Collection[str] = ()
    ) -> dict[str, list[nn.Parameter]]:
        """Let exactly these slots (and the gates) require gradients, and drop the gradients of all others.

        Args:
            slots: names of those that train.
            gate: whether the gates train.
            frozen: letters of tensors of these slots that do not, e.g. ``A``.

        Returns:
            The trainable parameters as ``lora``, ``colora``, ``gate`` and, where there is a tower adapter, ``tower``,
            so that each can have its own learning rate; a group may be empty.

        Raises:
            SettingsError: there is no such slot.
        """
        groups: dict[str, list[nn.Parameter]] = {}
        for slot in slots:
            self._check_slot(slot)
        self.opened = (*slots, *(["gate"] if gate else []), *(f"-{letter}" for letter in frozen))
        for group, members in self.named_groups().items():
            groups[group] = []
            for name, parameter in members.items():
                owner, letter = name.partition("/")[0], name.rpartition(".")[2]
                trained = gate if group == "gate" else owner in slots and letter not in frozen
                parameter.requires_grad_(trained)
                if parameter.requires_grad:
                    groups[group].append(parameter)
                else:
                    parameter.grad = None
        return groups

    def named_groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Return everything that could be trained, in the groups of :meth:`train_only`, by unique names.

        The names are ``{slot}/{name}`` with the names of :meth:`slot_tensors`, and ``gate/{name}``; an optimiser's
        state can be kept under them.
        """
        groups: dict[str, dict[str, nn.Parameter]] = {"lora": {}, "colora": {}, "gate": {}}
        if self.interface is not None:
            groups["tower"] = {}
        for adapted in self._adapted:
            for slot in self.shape.slots:
                for letter, parameter in adapted.linear.trainable(slot).items():
                    groups[adapted.linear.kind][f"{slot}/{adapted.target.prefix}.{letter}"] = parameter
        groups["gate"] = {f"gate/{name}": parameter for name, parameter in self._gates().items()}
        return groups

    # ---- inside

    def _gates(self) -> dict[str, nn.Parameter]:
        return {
            f"{adapted.target.by_layer}.{name}": parameter
            for adapted in self._adapted
            if adapted.linear.gate is not None
            for name, parameter in adapted.linear.gate.named_parameters()
        }

    def _bases(self) -> dict[str, Tensor]:
        return {
            f"{adapted.target.prefix}.{letter}": basis
            for adapted in self._adapted
            if isinstance(adapted.linear, CoLoraLinear) and not isinstance(adapted.linear, TowerLinear)
            for letter, basis in (("A", adapted.linear.A), ("B", adapted.linear.B))
        }

    def _check_slot(self, slot: str) -> None:
        if slot not in self.shape.slots:
            raise SettingsError(f"the adapter has no slot {slot!r}; its slots are {', '.join(self.shape.slots)}")
