import io
import math
import pickle

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.serde import message_to_proto, recorddict_from_proto, recorddict_to_proto
from hypothesis import given
from hypothesis import strategies as st

from fedmosaic.errors import WireError
from fedmosaic.federation import wire
from fedmosaic.federation.encodings import ENCODINGS
from fedmosaic.federation.grid import InProcessGrid

SHAPES = {"layer.0.q.A": (2, 3), "block.0.q.Q": (4,)}


def tensors():
    return {name: torch.arange(torch.Size(shape).numel()).float().reshape(shape) for name, shape in SHAPES.items()}


def npy(values, **kwargs):
    stream = io.BytesIO()
    np.save(stream, values, **kwargs)
    return stream.getvalue()


def npy_header(shape, descr="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=5), st.lists(st.integers(0, 3), max_size=3).map(tuple), max_size=5
    ),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_tensors_survive_the_wire(shapes, dtype):
    sent = {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}
    content = recorddict_from_proto(recorddict_to_proto(wire.pack({"round": 1}, sent)))
    got = wire.unpack(content, shapes, sender="client 0", complete=True)
    assert got.keys() == sent.keys()
    for name, tensor in sent.items():
        assert torch.equal(got[name], tensor.float())


def test_one_array_per_message():
    content = wire.pack({"round": 1}, tensors())
    assert [len(record) for record in content.array_records.values()] == [1]
    assert wire.size(content) < 4 * 10 + 256 + 200


def adapter(rank):
    """Names and shapes of an embedded model's upload: four layers of width 128, two of which end a block."""
    widths = {"q": (128, 128), "k": (128, 128), "v": (128, 128), "o": (128, 128)}
    widths |= {"gate": (128, 384), "up": (128, 384), "down": (384, 128)}
    shapes = {}
    for name, (inside, outside) in widths.items():
        for layer in (0, 2):
            shapes[f"layer.{layer}.{name}_proj.A"] = (rank, inside)
            shapes[f"layer.{layer}.{name}_proj.B"] = (outside, rank)
        for block in (0, 1):
            shapes |= {f"block.{block}.{name}_proj.P": (rank, rank), f"block.{block}.{name}_proj.Q": (rank,)}
    return {**shapes, "sketch": (1024,)}


DONE = {"loss": 1.0, "steps": 25, "samples": 200, "flops": 1e12, "seconds": 3.14, "evaluation_seconds": 1.41}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("rank", "agreed"), [(16, 16), (2, 16)], ids=["agreed", "elastic"])
def test_bytes_on_the_wire_are_at_most_eight_percent_above_the_payload(encoding, rank, agreed):
    """The whole message of Flower's, serialised: metadata, metrics, names."""
    InProcessGrid(None, node_configs=[], run_config={})  # says who is speaking
    shapes = adapter(rank)
    random = torch.Generator().manual_seed(0)
    sent = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    about = {"client": 3, "round": 7, "run": "0123456789abcdef"}
    content = wire.pack(about, sent, agreed=adapter(agreed), encoding=ENCODINGS[encoding])
    wire.add_metrics(content, {**DONE, "privacy.epsilon": 9.9, "privacy.delta": 1e-5})
    message = Message(content, 2, "train", group_id="7")
    bytes_ = len(message_to_proto(message).SerializeToString())
    width = {"float32": 4, "float16": 2, "int8": 1}[encoding]
    payload = sum(math.prod(shape) * (4 if name == "sketch" else width) for name, shape in shapes.items())
    assert payload < wire.size(content) < bytes_ <= 1.08 * payload + 2000 * (rank < agreed)


def test_what_was_agreed_is_sent_by_its_hash_and_what_is_smaller_says_so():
    assert list(wire.pack({}, tensors(), agreed=SHAPES)["schema"]) == ["hash"]
    assert list(wire.pack({}, tensors(), agreed={**SHAPES, "more": (1,)})["schema"]) == ["tensors"]
    assert list(wire.pack({}, tensors(), agreed={**SHAPES, "block.0.q.Q": (5,)})["schema"]) == ["tensors"]
    swapped = dict(reversed(SHAPES.items()))
    got = wire.unpack(wire.pack({}, tensors(), agreed=swapped), SHAPES, sender="x", complete=True)
    assert all(torch.equal(got[name], tensor) for name, tensor in tensors().items())
    with pytest.raises(WireError, match="which was not agreed"):
        wire.unpack(wire.pack({}, tensors(), agreed=SHAPES), {**SHAPES, "block.0.q.Q": (2, 2)}, sender="x")


def test_elastic_ranks_are_upper_limits_and_nothing_else_gives():
    smaller = {"layer.0.q.A": torch.ones(1, 3)}
    content = wire.pack({"round": 1}, smaller)
    with pytest.raises(WireError, match=r"shape \(1, 3\); expected \(2, 3\)$"):
        wire.unpack(content, SHAPES, sender="x")
    assert torch.equal(wire.unpack(content, SHAPES, sender="x", elastic=True)["layer.0.q.A"], torch.ones(1, 3))
    for shape in ((3, 3), (2,), (0, 3), (1, 3, 1), (1, 2), (2, 2)):
        with pytest.raises(WireError, match=r"expected \(2, 3\), or fewer in dimension 0"):
            wire.unpack(wire.pack({}, {"layer.0.q.A": torch.ones(shape)}), SHAPES, sender="x", elastic=True)
    allowed = {"layer.0.q.B": (3, 2), "layer.0.q.P": (2, 2), "tower.x.P": (2, 2), "gate": (2,)}
    content = wire.pack({}, {"layer.0.q.B": torch.ones(3, 1)})
    assert wire.unpack(content, allowed, sender="x", elastic=True)["layer.0.q.B"].shape == (3, 1)
    for name, shape in {"layer.0.q.B": (2, 2), "layer.0.q.P": (1, 2), "tower.x.P": (1, 1), "gate": (1,)}.items():
        with pytest.raises(WireError, match=f"sent '{name}' with shape"):
            wire.unpack(wire.pack({}, {name: torch.ones(shape)}), allowed, sender="x", elastic=True)


def test_what_is_received_is_not_what_was_sent_but_a_copy():
    sent = tensors()
    got = wire.unpack(wire.pack({"round": 1}, sent), SHAPES, sender="x")
    got["block.0.q.Q"] += 1
    assert torch.equal(sent["block.0.q.Q"], tensors()["block.0.q.Q"])


def tampered(data, *, dtype="float32", shape=(10,), stype="numpy.ndarray"):
    content = wire.pack({"round": 1}, tensors())
    content["tensors"] = ArrayRecord({"flat": Array(dtype=dtype, shape=shape, stype=stype, data=data)})
    return content


GOOD = npy(np.ones(10, np.float32))


@pytest.mark.parametrize(
    "content",
    [
        tampered(npy(np.array([object()] * 10, dtype=object), allow_pickle=True)),
        tampered(pickle.dumps(np.ones(10, np.float32))),
        tampered(npy(np.ones(1000, np.float32))),
        tampered(npy(np.ones(10, np.float64))),
        tampered(npy(np.ones((2, 5), np.float32))),
        tampered(npy(np.array(["x"] * 10))),
        tampered(npy_header((10**12,)) + b"\0" * 40),
        tampered(npy_header((10,)) + b"\0" * 39),
        tampered(npy_header((-10,)) + b"\0" * 40),
        tampered(npy_header((10,), ">f4") + b"\0" * 40),
        tampered(b""),
        tampered(GOOD, stype="torch.tensor"),
        tampered(GOOD, dtype="float64"),
        tampered(GOOD, shape=(11,)),
        tampered(npy(np.array([np.nan] * 10, np.float32))),
        tampered(npy(np.array([np.inf] * 10, np.float32))),
    ],
)
def test_a_lying_array_is_refused(content):
    with pytest.raises(WireError, match="client 7"):
        wire.unpack(content, SHAPES, sender="client 7")


def with_schema(text):
    content = wire.pack({"round": 1}, tensors())
    content["schema"] = ConfigRecord({"tensors": text})
    return content


@pytest.mark.parametrize(
    "text",
    [
        '{"layer.0.q.A": [2, 3], "other": [4]}',
        '{"layer.0.q.A": [3, 2], "block.0.q.Q": [4]}',
        '{"layer.0.q.A": [2, 3], "block.0.q.Q": [5]}',
        '{"layer.0.q.A": [2, -3], "block.0.q.Q": [4]}',
        '{"layer.0.q.A": "all", "block.0.q.Q": [4]}',
        '{"layer.0.q.A": [2.0, 3], "block.0.q.Q": [4]}',
        "[]",
        "not json",
        "[" * 100_000,
    ],
)
def test_a_lying_schema_is_refused(text):
    with pytest.raises(WireError, match="client 7"):
        wire.unpack(with_schema(text), SHAPES, sender="client 7")


def test_a_missing_tensor_is_refused_only_where_all_are_needed():
    part = {"block.0.q.Q": torch.ones(4)}
    assert wire.unpack(wire.pack({"round": 1}, part), SHAPES, sender="x").keys() == part.keys()
    with pytest.raises(WireError, match=r"layer\.0\.q\.A"):
        wire.unpack(wire.pack({"round": 1}, part), SHAPES, sender="x", complete=True)


@pytest.mark.parametrize("value", [True, "1", 1.0])
def test_meta_types_are_exact(value):
    with pytest.raises(WireError, match="round"):
        wire.meta(wire.pack({"round": value}), {"round": int}, sender="x")


@pytest.mark.parametrize("value", [[], [2.0], [float("nan")], [-0.5], 1.0])
def test_scores_are_lists_of_fractions(value):
    content = RecordDict({"scores": MetricRecord({"task": value})})
    with pytest.raises(WireError, match="task"):
        wire.scores(content, sender="x")
    good = wire.add_scores(RecordDict(), {"task": (0.0, 1.0)})
    assert wire.scores(good, sender="x") == {"task": (0.0, 1.0)}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0]])
def test_metrics_are_finite_numbers(value):
    content = RecordDict({"metrics": MetricRecord({"loss": value})})
    with pytest.raises(WireError, match="loss"):
        wire.metrics(content, sender="x")
