"""The message format: named tensors as one flat array and a schema, validated in full before any use.

One array per message, because Flower's cost is per array, not per byte. The schema is agreed in the hello, so that a
message names it by a hash; one that holds other tensors (fewer, or smaller ones) carries its own. What a peer declares
is never trusted: the npy header, the byte length, the names, the shapes and the values are all checked, and memory is
bounded by what the receiver expects, not by what the sender claims.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from torch import Tensor

from fedmosaic.adapters import TensorShapes, rank_dimension
from fedmosaic.errors import WireError
from fedmosaic.federation.encodings import FLOAT32, Encoding

PRIVACY = "privacy."
"""Prefix of the names of metrics that describe the privacy of an upload."""

_STYPE = "numpy.ndarray"
_HEADER_SLACK = 256
_NPY = re.escape(b"\x93NUMPY\x01\x00")


def pack(
    meta: Mapping[str, int | float | str],
    tensors: Mapping[str, Tensor] | None = None,
    *,
    agreed: TensorShapes | None = None,
    encoding: Encoding = FLOAT32,
) -> RecordDict:
    """Return a message's content.

    Args:
        meta: what the message is about (round, client, ...).
        tensors: floating-point tensors; they are sent in the order of their names.
        agreed: names and shapes that the receiver knows; tensors of exactly these are sent with their hash only.
        encoding: how their values are written.
    """
    content = RecordDict({"meta": ConfigRecord(dict(meta))})
    if tensors:
        shapes = {name: tuple(tensors[name].shape) for name in sorted(tensors)}
        flat = torch.cat([tensors[name].detach().reshape(-1).to("cpu", torch.float32) for name in shapes])
        known = agreed is not None and shapes == {name: tuple(shape) for name, shape in agreed.items()}
        schema = {"hash": schema_hash(shapes)} if known else {"tensors": _as_json(shapes)}
        content["schema"] = ConfigRecord(dict(schema))
        content["tensors"] = ArrayRecord({"flat": Array(encoding.encode(flat.numpy(), shapes))})
    return content


def schema_hash(shapes: TensorShapes) -> str:
    """Return 32 hex digits that stand for names and shapes.

    Args:
        shapes: by name, in any order.
    """
    return hashlib.blake2b(_as_json(shapes).encode(), digest_size=16).hexdigest()


def _as_json(shapes: TensorShapes) -> str:
    return json.dumps({name: list(shapes[name]) for name in sorted(shapes)}, separators=(",", ":"))


def size(content: RecordDict) -> int:
    """Return the bytes of the tensors and their schema in a message's content.

    Args:
        content: of the message.
    """
    arrays = sum(len(array.data) for record in content.array_records.values() for array in record.values())
    schema: Mapping[str, object] = content.config_records.get("schema") or {}
    return arrays + sum(len(str(value)) for value in schema.values())


def check_records(content: RecordDict, expected: Collection[str], *, sender: str) -> None:
    """Make sure that a message holds nothing but the expected records; one that is left out is missed when it is read.

    Args:
        content: of the message.
        expected: names of records.
        sender: for the error text.

    Raises:
        WireError: there is another record.
    """
    if unknown := sorted(set(content) - set(expected)):
        raise WireError(f"{sender} sent the record {quoted(unknown[0])}, which is not expected; {len(unknown)} are not")


def meta(content: RecordDict, expected: Mapping[str, type], *, sender: str) -> dict[str, Any]:
    """Return the message's ``meta`` table after checking that it has the expected keys and types.

    Args:
        content: of the message.
        expected: type by key.
        sender: for the error text.

    Raises:
        WireError: a key is missing or of another type.
    """
    record = content.config_records.get("meta")
    if record is None:
        raise WireError(f"{sender} sent a message without a 'meta' record")
    table: dict[str, Any] = {}
    for key, kind in expected.items():
        value = record.get(key)
        if type(value) is not kind:
            raise WireError(f"{sender} sent {key} = {quoted(value)}; expected {kind.__name__}")
        table[key] = value
    return table


def unpack(
    content: RecordDict,
    allowed: TensorShapes,
    *,
    sender: str,
    complete: bool = False,
    elastic: bool = False,
    encoding: Encoding = FLOAT32,
    max_rms: float = math.inf,
) -> dict[str, Tensor]:
    """Return the tensors of a message.

    Args:
        content: the message's content.
        allowed: every name that may occur, with its shape.
        sender: for the error text.
        complete: whether every allowed name must occur.
        elastic: whether the allowed ranks are upper limits: those of LoRA pairs may be smaller, but not 0.
        encoding: how the values must be written.
        max_rms: the largest root mean square that a tensor may have.

    Raises:
        WireError: an unknown name, a wrong shape, dtype, header or size, or a value that is not finite or too large.
            Nothing of the message is used then.
    """
    shapes = _schema(content, allowed, sender, elastic=elastic)
    if complete and (missing := sorted(set(allowed) - set(shapes))):
        raise WireError(f"{sender} left out {len(missing)} tensor(s), first {missing[0]!r}")
    record = content.array_records.get("tensors")
    if not shapes:
        if record is not None:
            raise WireError(f"{sender} sent arrays without a schema")
        return {}
    if record is None or list(record) != ["flat"]:
        raise WireError(f"{sender} sent a schema but not exactly one array 'flat'")
    data = _checked(record["flat"], encoding.dtype, encoding.length(shapes), sender)
    try:
        values = encoding.decode(data, shapes)
    except ValueError as error:
        raise WireError(f"{sender} sent {error}") from None
    if not np.isfinite(values).all():
        raise WireError(f"{sender} sent {int((~np.isfinite(values)).sum())} value(s) that are not finite")
    parts = torch.split(torch.from_numpy(values), [math.prod(shape) for shape in shapes.values()])
    for name, part in zip(shapes, parts, strict=True):
        rms = float(part.double().square().mean().sqrt()) if len(part) else 0.0
        if rms > max_rms:
            raise WireError(
                f"{sender} sent {name!r} with a root mean square of {rms:.3g}; at most {max_rms:g} is accepted "
                "(wire.max_rms)"
            )
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def metrics(content: RecordDict, *, sender: str) -> dict[str, float]:
    """Return the metrics of a message: finite numbers by name.

    Args:
        content: of the message.
        sender: for the error text.

    Raises:
        WireError: the record is missing, or holds a list or a value that is not finite.
    """
    record = content.metric_records.get("metrics")
    if record is None:
        raise WireError(f"{sender} sent a message without metrics")
    for key, value in record.items():
        if isinstance(value, list) or not math.isfinite(value):
            raise WireError(f"{sender} sent the metric {quoted(key)} = {quoted(value)}; expected a finite number")
    return {key: float(value) for key, value in record.items() if not isinstance(value, list)}


def scores(content: RecordDict, *, sender: str) -> dict[str, tuple[float, ...]]:
    """Return the scores of single samples by task, each in [0, 1].

    Args:
        content: of the message.
        sender: for the error text.

    Raises:
        WireError: the record is missing, empty, or holds anything else.
    """
    record = content.metric_records.get("scores")
    if not record:
        raise WireError(f"{sender} sent a message without scores")
    for task, values in record.items():
        if not isinstance(values, list) or not values or not all(0 <= value <= 1 for value in values):
            raise WireError(f"{sender} sent scores of {quoted(task)} that are not numbers in [0, 1]")
    return {task: tuple(map(float, values)) for task, values in record.items() if isinstance(values, list)}


def add_metrics(content: RecordDict, values: Mapping[str, float]) -> RecordDict:
    """Add a record of numbers to a message's content and return the content.

    Args:
        content: of the message.
        values: by name.
    """
    content["metrics"] = MetricRecord(dict(values))
    return content


def add_scores(content: RecordDict, values: Mapping[str, Sequence[float]]) -> RecordDict:
    """Add the scores of single samples by task to a message's content and return the content.

    Args:
        content: of the message.
        values: each sample's score, by task.
    """
    content["scores"] = MetricRecord({task: list(each) for task, each in values.items()})
    return content


def shapes_from_json(text: str, *, sender: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes in a JSON text ``{name: [int, ...]}``.

    Args:
        text: JSON.
        sender: for the error text.

    Raises:
        WireError: the text is anything else.
    """
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):  # of JSON, and of numbers too long to be any
        raise WireError(f"{sender} sent a schema that is not JSON") from None
    if not isinstance(table, dict):
        raise WireError(f"{sender} sent a schema that is not a table of shapes")
    for name, shape in table.items():
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**31 for n in shape) or len(shape) > 8:
            raise WireError(f"{sender} sent {quoted(name)} with the shape {quoted(shape)}; expected a list of sizes")
    return {name: tuple(shape) for name, shape in table.items()}


def _schema(content: RecordDict, allowed: TensorShapes, sender: str, *, elastic: bool) -> dict[str, tuple[int, ...]]:
    record = content.config_records.get("schema")
    if record is None:
        return {}
    if list(record) == ["hash"]:
        if record["hash"] != schema_hash(allowed):
            raise WireError(
                f"{sender} sent tensors by the schema {quoted(record['hash'])}, which was not agreed; "
                f"expected {schema_hash(allowed)}"
            )
        return {name: tuple(allowed[name]) for name in sorted(allowed)}
    text = record.get("tensors")
    if list(record) != ["tensors"] or not isinstance(text, str):
        raise WireError(f"{sender} sent a schema that is neither a hash nor a text of names and shapes")
    shapes = shapes_from_json(text, sender=sender)
    for name, shape in shapes.items():
        if name not in allowed:
            raise WireError(f"{sender} sent the tensor {quoted(name)}, which is not expected from it")
        wanted, rank = tuple(allowed[name]), rank_dimension(name) if elastic else None
        if shape != wanted and not (rank is not None and _has_less(shape, wanted, rank)):
            limit = "" if rank is None else f", or fewer in dimension {rank}"
            raise WireError(f"{sender} sent {quoted(name)} with shape {shape}; expected {wanted}{limit}")
    return shapes


def _has_less(shape: Sequence[int], wanted: Sequence[int], dimension: int) -> bool:
    """Whether a shape is what is wanted but for one dimension, which is smaller and not 0."""
    alike = [n == most or place == dimension for place, (n, most) in enumerate(zip(shape, wanted, strict=False))]
    return len(shape) == len(wanted) and all(alike) and 0 < shape[dimension] < wanted[dimension]


def _checked(array: Array, dtype: np.dtype[Any], count: int, sender: str) -> np.ndarray[Any, Any]:
    """Read an npy payload of which all but the values is known; no parser sees the header, and nothing is allocated."""
    if array.stype != _STYPE or tuple(array.shape) != (count,) or array.dtype != dtype.name:
        raise WireError(
            f"{sender} sent a {quoted(array.dtype)} array of shape {quoted(tuple(array.shape))}; "
            f"expected {dtype.name} of shape ({count},)"
        )
    want, data = count * dtype.itemsize, array.data
    if not want < len(data) <= want + _HEADER_SLACK:
        raise WireError(f"{sender} sent {len(data)} bytes for an array of {want}")
    head = data[: len(data) - want]
    length, text = head[8:10], re.escape(dtype.str)
    told = rf"\{{'descr': '{text}', 'fortran_order': False, 'shape': \({count},\), \}} *\n"
    right = re.fullmatch(_NPY + re.escape(length) + told.encode(), head)
    if right is None or int.from_bytes(length, "little") != len(head) - 10:
        raise WireError(f"{sender} sent an array whose npy header {quoted(head[10:].strip())} belies its declaration")
    return np.frombuffer(data, dtype, offset=len(head))


def quoted(value: object) -> str:
    """Return a short, printable form of something that a peer sent.

    Args:
        value: whatever it is.
    """
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
