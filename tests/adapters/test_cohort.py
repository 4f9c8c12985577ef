"""Adapters of several clients in one pass compute, and are given, what each alone does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedmosaic.adapters import Adapter, Slot
from fedmosaic.adapters.batched import Rows
from fedmosaic.adapters.cohort import CohortAdapter
from fedmosaic.adapters.dropout import Draws
from fedmosaic.models.base import IGNORED, Batch

CLIENTS, ROWS, LENGTHS = 3, 2, (7, 5, 6)
MIXES = {
    "one": "local",
    "halves": {"local": 0.5, "given": 0.5},
    "unequal": {"local": 0.3, "given": 0.9},
    "gate": "gate",
}


def attached(model, mix, family="llama"):
    slots = [Slot("local", communicated=True), Slot("given", communicated=False)]
    gate = "scalar" if mix == "gate" else "none"
    return Adapter.attach(
        model, model.model, slots=slots, rank=4, alpha=8, blocks=2, dropout=0.2, gate=gate, seed=1, architecture=family
    )


def clients_of(origin):
    """Adapters with random weights, whose slot ``local`` and gates are trained, and their random draws."""
    found = []
    for seed in range(CLIENTS):
        own, random = origin.beside(), torch.Generator().manual_seed(seed)
        for slot in ("local", "given"):
            shapes = own.schema(slot).items()
            own.load_slot(slot, {name: 0.2 * torch.randn(shape, generator=random) for name, shape in shapes})
        own.load_gate({name: torch.randn(each.shape, generator=random) for name, each in own.gate_tensors().items()})
        own.train()
        own.train_only("local", gate=True)
        draws = Draws()
        draws.generators["cpu"].manual_seed(10 + seed)
        found.append((own, draws))
    return found


def batch_of(client, length):
    ids = torch.randint(1, 48, (ROWS, LENGTHS[client]), generator=torch.Generator().manual_seed(client))
    wide = nn.functional.pad(ids, (0, length - ids.shape[1]))
    return Batch(wide, (wide > 0).long(), torch.full_like(wide, IGNORED))


def objective(model, adapter, batch, length):
    """A loss of the positions that all lengths have."""
    with adapter.reading(batch):
        hidden = model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)[0]
    return hidden[:, :length].sin().sum()


@pytest.mark.parametrize("mix", list(MIXES))
def test_losses_and_gradients_are_those_of_each_client_alone(make_model, mix):
    model, chosen = make_model("llama"), MIXES[mix]
    origin = attached(model, mix)
    alone, expected = clients_of(origin), []
    for client, (own, draws) in enumerate(alone):
        own.take_place_of(origin if not client else alone[client - 1][0])
        draws.give()
        with own.mixed(chosen):
            loss = objective(model, own, batch_of(client, LENGTHS[client]), LENGTHS[client])
        loss.backward()
        draws.keep()
        expected.append(loss.item())
    members, longest = clients_of(origin), max(LENGTHS)
    carrier, instead = CohortAdapter(origin), alone[-1][0]
    batches = [batch_of(client, longest) for client in range(CLIENTS)]
    batch = Batch(
        *(torch.cat([getattr(each, name) for each in batches]) for name in ("input_ids", "attention_mask", "labels"))
    )
    adapters, draws = [own for own, _ in members], [each for _, each in members]
    with carrier.holding(adapters, instead=instead, mix=chosen, draws=draws, lengths=LENGTHS):
        with carrier.reading(batch):
            hidden = model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)[0]
        groups = zip(hidden.split(ROWS), LENGTHS, strict=True)
        losses = torch.stack([group[:, :length].sin().sum() for group, length in groups])
        losses.sum().backward()
        carrier.hand_out()
    torch.testing.assert_close(losses, torch.tensor(expected), atol=1e-4, rtol=1e-5)
    trained = 0
    for (own, after), (other, after_alone) in zip(members, alone, strict=True):
        assert torch.equal(after.states()[0], after_alone.states()[0])
        parameters = {name: each for group in own.named_groups().values() for name, each in group.items()}
        for group in other.named_groups().values():
            for name, parameter in group.items():
                found = parameters[name].grad
                assert (found is None) == (parameter.grad is None), name
                if found is not None:
                    trained += 1
                    torch.testing.assert_close(found, parameter.grad, atol=1e-4, rtol=1e-4)
    assert trained
    assert instead.attached and not any(
        isinstance(each, nn.Module) and "Cohort" in type(each).__name__ for each in model.modules()
    )


def test_an_adapter_beside_another_is_equal_and_its_own(make_model, ids):
    model = make_model("llama")
    origin = attached(model, "gate")
    other = origin.beside()
    with torch.no_grad():
        before = model(ids).logits
        other.take_place_of(origin)
        assert other.attached and not origin.attached
        assert torch.equal(model(ids).logits, before)
        for parameter in other.parameters("local").values():
            parameter.add_(0.1)
        assert not torch.equal(model(ids).logits, before)
        origin.take_place_of(other)
        assert torch.equal(model(ids).logits, before)
    assert not any(
        parameter.eq(0).all() for name, parameter in other.parameters("local").items() if name.endswith(".B")
    )
    origin.detach()


def test_rows_of_unequal_numbers_go_into_groups_and_back():
    rows = torch.arange(10.0).view(5, 2)
    layout = Rows.of([2, 0, 3], torch.device("cpu"))
    groups = layout.grouped(rows)
    assert groups.shape == (3, 3, 2)
    assert torch.equal(groups[0, 2], torch.zeros(2)) and not groups[1].any()
    assert torch.equal(layout.flat(groups), rows)
