"""What half precision and 8 bits cost: each value's worst case, and bytes."""

import warnings
from math import prod

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.errors import WireError
from fedmosaic.federation import wire
from fedmosaic.federation.encodings import BLOCK, ENCODINGS

SHAPES = {"block.0.q.P": (16, 16), "layer.0.q.A": (3, 100), "proxy.layer.0.q.B": (7,), "sketch": (33,)}
SMALL = ("float16", "int8")


@st.composite
def values(draw):
    """Magnitudes over all of float32's range, alone and mixed within one block."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    exponents = sorted(draw(st.lists(st.integers(-149, 120), min_size=2, max_size=2)))
    tensors = {}
    for name, shape in SHAPES.items():
        numbers = random.normal(size=shape) * 2.0 ** random.integers(*exponents, shape, endpoint=True)
        numbers *= random.random(shape) < draw(st.sampled_from([1.0, 0.5, 0.0]))
        tensors[name] = torch.from_numpy(numbers.astype(np.float32))
    return tensors


def received(tensors, name, **kwargs):
    content = wire.pack({}, tensors, encoding=ENCODINGS[name], **kwargs)
    copy = recorddict_from_proto(recorddict_to_proto(content))
    return wire.unpack(copy, SHAPES, sender="client 0", complete=True, encoding=ENCODINGS[name])


def bound(name, sent):
    """The promise in the words of the module, worked out value by value in double precision."""
    flat = np.abs(sent.numpy().astype(np.float64).ravel())
    limits = np.empty_like(flat)
    for start in range(0, len(flat), BLOCK):
        block = flat[start : start + BLOCK]
        most = block.max()
        if most < 2.0**-100:
            limits[start : start + BLOCK] = block
        elif name == "int8":
            limits[start : start + BLOCK] = most / 254
        else:
            limits[start : start + BLOCK] = block * 2.0**-11 + most * 2.0**-39
    return (limits * (1 + 1e-5) + 2.0**-149).reshape(sent.shape)


@pytest.mark.parametrize("name", SMALL)
@given(tensors=values())
def test_no_value_is_further_off_than_promised_and_what_is_no_weight_is_exact(name, tensors):
    got = received(tensors, name)
    for key, sent in tensors.items():
        error = np.abs(got[key].numpy().astype(np.float64) - sent.numpy())
        assert (error <= bound(name, sent)).all(), key
    assert torch.equal(got["sketch"], tensors["sketch"])


@given(tensors=values())
def test_float32_is_equal_to_the_bit(tensors):
    got = received(tensors, "float32", agreed=SHAPES)
    assert all(torch.equal(got[key], sent) for key, sent in tensors.items())


@pytest.mark.parametrize("name", SMALL)
def test_zeros_and_what_was_received_once_come_out_as_they_are(name):
    tensors = {key: torch.zeros(shape) for key, shape in SHAPES.items()}
    assert all(torch.equal(got, tensors[key]) for key, got in received(tensors, name).items())
    tensors = {key: torch.randn(shape, generator=torch.Generator().manual_seed(1)) for key, shape in SHAPES.items()}
    once = received(tensors, name)
    for key, got in received(once, name).items():
        torch.testing.assert_close(got, once[key], rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "share"), [("float16", 0.5), ("int8", 0.25)])
def test_bytes_are_counted_as_sent(name, share):
    shapes = {f"layer.{i}.q.{letter}": (16, 256) for i in range(10) for letter in "AB"}
    tensors = {key: torch.randn(shape) for key, shape in shapes.items()}
    plain, small = (
        wire.size(wire.pack({}, tensors, agreed=shapes, encoding=ENCODINGS[each])) for each in ("float32", name)
    )
    assert plain == 4 * sum(map(prod, shapes.values())) + 128 + 32
    assert share < small / plain < share + 0.01


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["layer.0.q.A", "sketch"])
def test_what_has_diverged_is_refused_by_the_receiver_as_in_float32(name, value, key):
    tensors = {each: torch.ones(shape) for each, shape in SHAPES.items()}
    tensors[key].view(-1)[5] = value
    with warnings.catch_warnings(action="error"), pytest.raises(WireError, match=r"client 0 sent \d+ "):
        received(tensors, name)


def crafted(name, change):
    content = wire.pack({}, {key: torch.ones(shape) for key, shape in SHAPES.items()}, encoding=ENCODINGS[name])
    data = content["tensors"]["flat"].numpy().copy()
    content["tensors"] = ArrayRecord({"flat": Array(change(data))})
    return content


def with_scale(value):
    def change(data):
        data[33 * 4 : 34 * 4] = np.frombuffer(np.float32(value).tobytes(), np.uint8)
        return data

    return change


def with_last_codes(code):
    def change(data):
        data[-2:] = code
        return data

    return change


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("int8", with_scale(-1.0), "scale"),
        ("int8", with_scale(float("nan")), "scale"),
        ("float16", with_scale(float("inf")), "scale"),
        ("int8", with_scale(3e38), "not finite"),
        ("float16", with_scale(1e38), "not finite"),
        ("int8", with_last_codes([128, 128]), "-128"),
        ("float16", with_last_codes([0, 0x7C]), "not finite"),
        ("int8", lambda data: data[:-1], "expected uint8 of shape"),
        ("float16", lambda data: data.astype(np.float32), "expected uint8 of shape"),
        ("int8", lambda data: np.frombuffer(data.tobytes(), np.int8), "expected uint8 of shape"),
    ],
)
def test_crafted_codes_are_refused(name, change, told):
    with pytest.raises(WireError, match=rf"client 7 sent .*{told}"):
        wire.unpack(crafted(name, change), SHAPES, sender="client 7", encoding=ENCODINGS[name])


def test_another_encoding_than_the_run_s_is_refused():
    tensors = {key: torch.ones(shape) for key, shape in SHAPES.items()}
    for sent in ENCODINGS:
        for expected in set(ENCODINGS) - {sent}:
            with pytest.raises(WireError, match="client 7"):
                content = wire.pack({}, tensors, encoding=ENCODINGS[sent])
                wire.unpack(content, SHAPES, sender="client 7", encoding=ENCODINGS[expected])
