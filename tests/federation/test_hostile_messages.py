"""Hostile or broken messages: each is refused with its sender and the reason, by the server and by clients alike.

docs/wire.md shows this table; a test compares them.
"""

import io
import json
import math
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

from fedmosaic.config import Scenario, resolve
from fedmosaic.errors import WireError
from fedmosaic.federation import request_checks, wire
from fedmosaic.federation.peers import Peer, introduction
from fedmosaic.federation.reply_checks import ReplyChecks
from fedmosaic.methods.registry import make_method

DOCS = Path(__file__).parents[2] / "docs" / "wire.md"
SHAPES = {"layer.0.q.A": (2, 3), "block.0.q.Q": (4,), "sketch": (8,)}
SETTINGS = resolve(
    Scenario(
        name="two",
        clients=[
            {"id": 7, "model": "tiny-llama", "tasks": ["bars"]},
            {"id": 8, "model": "tiny-llama", "tasks": ["lines"]},
        ],
    ),
    method="fedmosaic",
    rounds=5,
)
ROUND = 3
PEER = Peer(7, 2, "llama", "", SHAPES, downloads=SHAPES)
CHECKS = ReplyChecks(SETTINGS, make_method("fedmosaic", {}))
DONE = {"loss": 1.0, "steps": 2, "samples": 8, "flops": 1e9, "seconds": 0.5, "evaluation_seconds": 0.5}
DONE["privacy.epsilon"] = 1.0
DONE["privacy.delta"] = 1e-5


def tensors():
    return {name: torch.linspace(-1, 1, math.prod(shape)).reshape(shape) for name, shape in SHAPES.items()}


@dataclass
class Parts:
    """What an attack may change before, and after, a message is packed."""

    tensors: dict
    meta: dict
    metrics: dict
    scores: dict
    content: RecordDict | None = None


def reply(parts):
    parts.content = wire.add_metrics(wire.pack(parts.meta, parts.tensors, agreed=SHAPES), parts.metrics)
    wire.add_scores(parts.content, parts.scores)
    return parts


def request(parts):
    about = {"round": parts.meta["round"], "run": parts.meta["run"], "known": ROUND - 1, "others": False, "count": 2}
    parts.content = wire.pack(about, parts.tensors, agreed=SHAPES)
    return parts


def parts():
    return Parts(tensors(), {"client": 7, "round": ROUND, "run": SETTINGS.digest}, dict(DONE), {"bars": [0.0, 1.0]})


class Attack(NamedTuple):
    """One row of the table."""

    title: str
    before: object = None
    """Changes the parts."""
    after: object = None
    """Changes the packed content."""
    reply_only: bool = False


def npy(values, **kwargs):
    stream = io.BytesIO()
    np.save(stream, values, **kwargs)
    return stream.getvalue()


def header(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def set_tensor(name, value):
    return lambda p: p.tensors.__setitem__(name, value)


def set_value(value):
    def change(p):
        p.tensors["layer.0.q.A"][1, 2] = value

    return change


def renamed(old, new):
    return lambda p: p.tensors.__setitem__(new, p.tensors.pop(old))


def data(found, *, dtype="float32", shape=(18,)):
    def change(content):
        content["tensors"] = ArrayRecord({"flat": Array(dtype=dtype, shape=shape, stype="numpy.ndarray", data=found)})

    return change


def schema(**record):
    return lambda content: content.__setitem__("schema", ConfigRecord(record))


def many(content):
    content["tensors"] = ArrayRecord({f"{i:05d}": Array(np.ones(18, np.float32)) for i in range(1000)})


def meta(key, value):
    return lambda content: content["meta"].__setitem__(key, value)


def metric(key, value):
    return lambda p: p.metrics.__setitem__(key, value)


FLAT = np.ones(18, np.float32)
LONG = f'{{"sketch":[{"1" * 5000}]}}'
ATTACKS = [
    Attack("a value that is no number", set_value(math.nan)),
    Attack("an infinite value", set_value(math.inf)),
    Attack("a shape that would broadcast", set_tensor("layer.0.q.A", torch.ones(1, 3))),
    Attack("another rank", set_tensor("layer.0.q.A", torch.ones(6))),
    Attack("a tensor is missing", lambda p: p.tensors.pop("sketch"), reply_only=True),
    Attack("nothing at all", lambda p: p.tensors.clear(), reply_only=True),
    Attack("a tensor too many", set_tensor("gate.0", torch.ones(1))),
    Attack("a tensor under another name", renamed("sketch", "sketches")),
    Attack("a name like a path", renamed("sketch", "../../.ssh/authorized_keys")),
    Attack("a sketch of another length", set_tensor("sketch", torch.ones(9))),
    Attack("values that explode", lambda p: p.tensors["layer.0.q.A"].mul_(1e12)),
    Attack("another dtype", after=data(npy(FLAT.astype(np.float64)), dtype="float64")),
    Attack("a declared dtype that the data belie", after=data(npy(FLAT.astype(np.float64))[:200])),
    Attack("a declared shape that does not fit", after=data(npy(FLAT), shape=(2**31 - 1,))),
    Attack("data that do not fit the declared shape", after=data(npy(FLAT[:17]))),
    Attack("a header that claims terabytes", after=data(header((2**40,)) + FLAT.tobytes())),
    Attack("an archive in place of an array", after=data(b"PK\x03\x04" + bytes(196))),
    Attack("pickled bytes", after=data(pickle.dumps([1] * 100, protocol=0)[:150])),
    Attack("an array of pickled objects", after=data(npy(np.array([None] * 18), allow_pickle=True)[:200])),
    Attack("a payload that is too large", after=data(npy(FLAT) + bytes(10**6))),
    Attack("too many arrays", after=many),
    Attack("arrays without a schema", after=lambda content: content.__delitem__("schema")),
    Attack("a schema without arrays", after=lambda content: content.__delitem__("tensors")),
    Attack("a schema that was not agreed", after=schema(hash="0" * 32)),
    Attack("two schemas", after=schema(hash=wire.schema_hash(SHAPES), tensors="{}")),
    Attack("a schema that is no JSON", after=schema(tensors="[" * 10**5)),
    Attack("a schema with a size of 5000 digits", after=schema(tensors=LONG)),
    Attack("a record that nobody asked for", after=lambda content: content.__setitem__("more", ConfigRecord({"a": 1}))),
    Attack("a round that is over, or a replay of it", after=meta("round", 0)),
    Attack("a future round", after=meta("round", 6)),
    Attack("a round that is no number", after=meta("round", "3")),
    Attack("another client's id", after=meta("client", 8), reply_only=True),
    Attack("another run", after=meta("run", "0123456789abcdef"), reply_only=True),
    Attack("a negative number of samples", metric("samples", -8), reply_only=True),
    Attack("infinitely many samples", metric("samples", math.inf), reply_only=True),
    Attack("10^12 samples", metric("samples", 10**12), reply_only=True),
    Attack("samples in a list", metric("samples", [8, 8]), reply_only=True),
    Attack("no number of samples", lambda p: p.metrics.pop("samples"), reply_only=True),
    Attack("a metric that nobody knows", metric("reward", 1.0), reply_only=True),
    Attack("negative FLOPs", metric("flops", -1.0), reply_only=True),
    Attack("more FLOPs than add up", metric("flops", 1.7e308), reply_only=True),
    Attack("more seconds than add up", metric("seconds", 1.7e308), reply_only=True),
    Attack("a loss that no float32 is", metric("loss", -1.7e308), reply_only=True),
    Attack("a negative epsilon", metric("privacy.epsilon", -1.0), reply_only=True),
    Attack("a score above 1", lambda p: p.scores.update(bars=[1.5]), reply_only=True),
    Attack("scores of a task that nobody asked for", lambda p: p.scores.update(lines=[1.0]), reply_only=True),
    Attack("an account of privacy without epsilon", lambda p: p.metrics.pop("privacy.epsilon"), reply_only=True),
]


def attacked(attack, packed):
    """The message as it comes out of the wire."""
    made = parts()
    if attack.before:
        attack.before(made)
    content = packed(made).content
    if attack.after:
        attack.after(content)
    return recorddict_from_proto(recorddict_to_proto(content))


def refused(sender, read):
    with pytest.raises(WireError) as error:
        read()
    told = str(error.value)
    assert told.startswith(f"{sender} ")
    assert "\n" not in told
    assert len(told) < 300
    assert told.isascii()
    return told


def train_reply(content):
    return CHECKS.train_reply(PEER, content, ROUND, others=False)


def download(content):
    method = SimpleNamespace(elastic=False, download_shapes=lambda adapter: SHAPES)
    assets = SimpleNamespace(method=method, settings=SETTINGS)
    return request_checks.training(content, SimpleNamespace(runtime=SimpleNamespace(assets=assets), adapter=None))


def test_without_a_fault_both_sides_read_what_was_sent():
    got = train_reply(attacked(Attack("none"), reply))
    assert all(torch.equal(got.tensors[name], sent) for name, sent in tensors().items())
    assert got.samples == 8
    asked, received = download(attacked(Attack("none"), request))
    assert asked == {"round": ROUND, "run": SETTINGS.digest, "known": ROUND - 1, "others": False, "count": 2}
    assert all(torch.equal(received[name], sent) for name, sent in tensors().items())


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.title)
def test_the_server_refuses_the_reply(attack):
    refused("client 7", lambda: train_reply(attacked(attack, reply)))


@pytest.mark.parametrize(
    "attack", [attack for attack in ATTACKS if not attack.reply_only], ids=lambda attack: attack.title
)
def test_the_client_refuses_the_download(attack):
    refused("the server", lambda: download(attacked(attack, request)))


def test_the_documentation_shows_what_the_server_says_of_each():
    contents = {each.title: attacked(each, reply) for each in ATTACKS}
    told = {title: refused("client 7", lambda sent=sent: train_reply(sent)) for title, sent in contents.items()}
    wanted = {title: said.replace(SETTINGS.digest, "RUN").replace("|", r"\|") for title, said in told.items()}
    rows = [line.strip("| \n").split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    shown = {row[0]: row[1].strip("`") for row in rows if len(row) == 2}
    missing = [f"| {title} | `{said}` |" for title, said in wanted.items() if shown.get(title) != said]
    assert not missing, "docs/wire.md lacks these rows:\n" + "\n".join(missing)


def test_a_norm_that_explodes_a_thousandfold_is_refused_by_a_tighter_bound():
    content = attacked(Attack("", lambda p: p.tensors["layer.0.q.A"].mul_(1e3)), reply)
    assert train_reply(content)
    tight = SETTINGS.model_copy(update={"wire": SETTINGS.wire.model_copy(update={"max_rms": 10.0})})
    moved = replace(parts())
    moved.meta["run"] = tight.digest
    moved.tensors["layer.0.q.A"].mul_(1e3)
    checks = ReplyChecks(tight, make_method("fedmosaic", {}))
    told = refused("client 7", lambda: checks.train_reply(PEER, reply(moved).content, ROUND, others=False))
    assert "root mean square" in told


# ---- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({"bars": [0.5, 1.5]}, "in [0, 1]"),
        ({"bars": [-0.1]}, "in [0, 1]"),
        ({"bars": [math.nan]}, "in [0, 1]"),
        ({"bars": []}, "in [0, 1]"),
        ({"bars": 0.5}, "in [0, 1]"),
        ({}, "without scores"),
        ({"lines": [0.5]}, "left out the scores of 'bars'"),
        ({"bars": [0.5], "lines": [0.5]}, "sent scores of 'lines'"),
        ({"bars": [0.5], "../../results.json": [0.5]}, "sent scores of '../../results.json'"),
        ({"bars": [0.5] * (2**20 + 1)}, "the limit is"),
    ],
    ids=range(10),
)
def test_scores_that_are_none_are_refused(scores, told):
    content = wire.add_metrics(wire.pack(parts().meta), {"seconds": 1.0})
    wire.add_scores(content, {})
    content["scores"] = MetricRecord(scores)
    assert told in refused("client 7", lambda: CHECKS.scores_reply(PEER, content, ROUND, others=False))


def test_no_more_scores_are_taken_than_were_asked_for():
    def sent(count):
        made = parts()
        made.scores = {"bars": [1.0] * count}
        return reply(made).content

    def scores_of(count):
        content = wire.add_metrics(wire.pack(parts().meta), {"seconds": 1.0})
        return wire.add_scores(content, {"bars": [1.0] * count})

    asked = {"round_": ROUND, "others": False, "count": 2}
    for count in (1, 2):
        assert len(CHECKS.train_reply(PEER, sent(count), **asked).scores.scores["bars"]) == count
        assert len(CHECKS.scores_reply(PEER, scores_of(count), **asked).scores["bars"]) == count
    told = refused("client 7", lambda: CHECKS.train_reply(PEER, sent(3), **asked))
    assert told == "client 7 sent 3 scores of 'bars'; asked were at most 2"
    assert refused("client 7", lambda: CHECKS.scores_reply(PEER, scores_of(3), **asked)) == told


@pytest.mark.parametrize(
    "metrics", [{}, {"seconds": -1.0}, {"seconds": math.inf}, {"seconds": 1e308}, {"seconds": 1.0, "more": 1.0}]
)
def test_scores_come_with_seconds_and_nothing_else(metrics):
    content = wire.add_scores(wire.add_metrics(wire.pack(parts().meta), metrics), {"bars": [1.0]})
    refused("client 7", lambda: CHECKS.scores_reply(PEER, content, ROUND, others=False))
    wire.add_metrics(content, {"seconds": 1.0})
    assert CHECKS.scores_reply(PEER, content, ROUND, others=False).scores == {"bars": (1.0,)}


# ---- hello ---------------------------------------------------------------------------------------------------------

HELLO = {"client": 7, "architecture": "llama", "model": "m", "alignment": "", "proxy": "", "own-tasks-only": False}


@pytest.mark.parametrize(
    "change",
    [
        {"client": "7"},
        {"architecture": "x" * 201},
        {"model": "a\nb"},
        {"upload": "{"},
        {"upload": json.dumps({"../x": [1]})},
        {"upload": json.dumps({"a/b": [1]})},
        {"upload": json.dumps({"a" * 201: [1]})},
        {"upload": json.dumps({"": [1]})},
        {"upload": json.dumps({"a": [2**30, 4]})},
        {"download": json.dumps({"a": [2**30, 4]})},
        {"upload": json.dumps({"a": [-1]})},
        {"upload": json.dumps({"a": [1] * 9})},
        {"upload": json.dumps({"a": [True]})},
        {"upload": json.dumps({str(i): [1] for i in range(2**16 + 1)})},
        {"upload": LONG},
        {"download": LONG},
    ],
    ids=range(16),
)
def test_a_hello_that_promises_what_nobody_can_take_is_refused(change):
    good = {**HELLO, "upload": json.dumps(SHAPES), "download": json.dumps(SHAPES)}
    assert introduction(2, wire.pack(good)) == replace(PEER, downloads=SHAPES)
    refused("node 2", lambda: introduction(2, wire.pack({**good, **change})))


# ---- what the wire cannot see, and the method does -----------------------------------------------------------------


def test_a_method_s_own_check_names_the_client():
    shapes = {"classes": (2,), "counts": (2,), "prototypes": (2, 3)}
    peer = replace(PEER, shapes=shapes)
    checks = ReplyChecks(SETTINGS, make_method("fedproto", {}))
    for counts in ([-1.0, 2.0], [0.5, 1.0], [8.0, 1.0]):
        made = parts()
        made.tensors = {"classes": torch.ones(2), "counts": torch.tensor(counts), "prototypes": torch.ones(2, 3)}
        content = wire.add_metrics(wire.pack(made.meta, made.tensors, agreed=shapes), made.metrics)
        wire.add_scores(content, made.scores)
        assert "counts" in refused(
            "client 7", lambda content=content: checks.train_reply(peer, content, ROUND, others=False)
        )


def test_an_upload_that_a_method_s_own_check_cannot_read_is_refused():
    """Its client has announced too little, so that the wire misses nothing."""
    shapes = {"counts": (2,), "prototypes": (2, 3)}
    made = parts()
    made.tensors = {name: torch.ones(shape) for name, shape in shapes.items()}
    content = wire.add_metrics(wire.pack(made.meta, made.tensors, agreed=shapes), made.metrics)
    wire.add_scores(content, made.scores)
    checks = ReplyChecks(SETTINGS, make_method("fedproto", {}))
    peer = replace(PEER, shapes=shapes)
    told = refused("client 7", lambda: checks.train_reply(peer, content, ROUND, others=False))
    assert "fedproto" in told
    assert "classes" in told
