"""Slab by slab from disk, against the same in memory."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmosaic.relevance import column_store as module
from fedmosaic.relevance import cosine_similarity, relevance_weights, weighted_sums
from fedmosaic.relevance.column_store import ColumnStore, all_weights, gather_columns, mix_columns, nearest

SIZES = (st.integers(2, 12), st.integers(1, 40), st.integers(1, 50), st.integers(0, 100))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stored(path, values, width):
    store = ColumnStore(path, *values.shape, width=width)
    for client, row in enumerate(values):
        store.write_client(client, row)
    return store


@given(*SIZES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_spool_holds_what_clients_wrote_in_rows_as_slabs_of_columns(tmp_path, clients, columns, width, seed):
    values = random(clients, columns, seed=seed)
    store = stored(tmp_path / "values", values, width)
    assert torch.equal(torch.cat([store.read(slab) for slab in range(len(store))], 1), values)
    copy = ColumnStore(tmp_path / "copy", clients, columns, width=width)
    for slab in range(len(store)):
        copy.write(slab, store.read(slab))
    assert all(torch.equal(copy.read_client(client), row) for client, row in enumerate(values))


@pytest.mark.slow
@given(*SIZES, st.integers(1, 11))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_streamed_mixing_equals_mixing_in_memory(tmp_path, clients, columns, width, seed, most):
    values, sketches = random(clients, columns, seed=seed), random(clients, 8, seed=seed + 1)
    store, most = stored(tmp_path / "values", values, width), min(most, clients - 1)
    similarity = cosine_similarity(sketches)
    for count in (0, most):
        out = ColumnStore(tmp_path / "mixed", clients, columns, width=width)
        weights = relevance_weights(similarity, temperature=0.5, most=count)
        if count:
            gather_columns(*nearest(sketches, temperature=0.5, most=most), store, out.write)
        else:
            mix_columns(all_weights(sketches, temperature=0.5), store, out.write)
        mixed = torch.stack([out.read_client(client) for client in range(clients)])
        torch.testing.assert_close(mixed, weights @ values, atol=1e-6, rtol=0)
        torch.testing.assert_close(weighted_sums(weights, values, most=count), weights @ values, atol=1e-6, rtol=0)


def test_weights_of_many_blocks_are_those_of_one_matrix(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_VALUES", 70)
    sketches = random(20, 16)
    sketches[3], sketches[11] = 0.0, torch.nan
    similarity = cosine_similarity(sketches)
    torch.testing.assert_close(all_weights(sketches, temperature=0.5), relevance_weights(similarity, temperature=0.5))
    weights, clients = nearest(sketches, temperature=0.5, most=4)
    dense = torch.zeros(20, 20).scatter_(1, clients, weights)
    torch.testing.assert_close(dense, relevance_weights(similarity, temperature=0.5, most=4))


def test_an_empty_spool_is_refused(tmp_path):
    with pytest.raises(ValueError, match="0 x 5"):
        ColumnStore(tmp_path / "nothing", 0, 5)
