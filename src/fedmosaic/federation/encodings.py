"""How the values of an upload are written: as float32, or adapter weights in half precision or 8 bits.

``float16`` and ``int8`` cut each adapter tensor into blocks of 256 values, in row-major order, and send one scale for
each (block-wise quantisation, Dettmers et al., ICLR 2022, arXiv 2110.02861; linear here). With m the largest
magnitude in its block, a value x comes out as

    float16   x (1 + d) + e,  |d| <= 2^-11, |e| <= 2^-39 m      any range: the scale is a power of two near m
    int8      x + e,          |e| <= m / 254                    half a step of m / 127

up to the rounding of float32; a block whose m is below 2^-100 comes out as zeros. Whatever is no adapter weight stays
float32: sketches, which relevance is made of, and token ids, losses or counts, which would mean something else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any

import numpy as np

from fedmosaic.adapters import TensorShapes, is_slot_tensor

Values = np.ndarray[Any, np.dtype[np.float32]]
"""(n,) values of all tensors of a message, one after another."""

BLOCK = 256
"""Values that share a scale."""

_FLOAT = np.dtype("<f4")
_SMALLEST = 2.0**-100


class Encoding(ABC):
    """Writes values as one flat array, and reads them again.

    Attributes:
        dtype: of the flat array.
    """

    dtype: np.dtype[Any]

    @abstractmethod
    def length(self, shapes: TensorShapes) -> int:
        """Return the length of the flat array.

        Args:
            shapes: of the tensors, in the order in which they are sent.
        """

    @abstractmethod
    def encode(self, values: Values, shapes: TensorShapes) -> np.ndarray[Any, Any]:
        """Return the flat array of some values.

        Args:
            values: of all tensors.
            shapes: of the tensors.
        """

    @abstractmethod
    def decode(self, flat: np.ndarray[Any, Any], shapes: TensorShapes) -> Values:
        """Return a copy of the values in a flat array of the right length and dtype.

        Args:
            flat: from a peer.
            shapes: of the tensors.

        Raises:
            ValueError: it holds what no :meth:`encode` writes.
        """


class Exact(Encoding):
    """The values themselves."""

    dtype = _FLOAT

    def length(self, shapes: TensorShapes) -> int:
        """Return the number of values. See :meth:`Encoding.length`."""
        return sum(map(prod, shapes.values()))

    def encode(self, values: Values, shapes: TensorShapes) -> np.ndarray[Any, Any]:
        """Return the values. See :meth:`Encoding.encode`."""
        return values.astype(_FLOAT, copy=False)

    def decode(self, flat: np.ndarray[Any, Any], shapes: TensorShapes) -> Values:
        """Return the values. See :meth:`Encoding.decode`."""
        return flat.astype(np.float32)


class Blocks(Encoding):
    """Bytes: values that stay float32, a float32 scale for each block, and a small code for each other value."""

    dtype = np.dtype("u1")
    code: np.dtype[Any]

    @abstractmethod
    def scales(self, largest: Values) -> Values:
        """Return each block's scale.

        Args:
            largest: its largest magnitude, at least 2^-100.
        """

    @abstractmethod
    def codes(self, scaled: Values) -> np.ndarray[Any, Any]:
        """Return the codes of values.

        Args:
            scaled: divided by their scales.
        """

    @abstractmethod
    def check(self, codes: np.ndarray[Any, Any]) -> None:
        """Refuse codes that :meth:`codes` does not return.

        Args:
            codes: from a peer.

        Raises:
            ValueError: there is one.
        """

    def length(self, shapes: TensorShapes) -> int:
        """Return the number of bytes. See :meth:`Encoding.length`."""
        return sum(self._parts(shapes))

    def encode(self, values: Values, shapes: TensorShapes) -> np.ndarray[Any, Any]:
        """Return the bytes. See :meth:`Encoding.encode`."""
        coarse, lengths = _coarse(shapes), _blocks(shapes)
        weights = values[coarse]
        starts = np.cumsum(lengths) - lengths
        largest = np.maximum.reduceat(np.abs(weights), starts) if len(starts) else weights
        zero = largest < _SMALLEST
        scales = np.where(zero, 0, self.scales(np.where(zero, 1, largest))).astype(_FLOAT)
        with np.errstate(invalid="ignore"):  # NaN and infinity: the receiver refuses their scales
            codes = self.codes(weights / np.repeat(np.where(zero, np.inf, scales), lengths))
        parts = (values[~coarse].astype(_FLOAT), scales, codes.astype(self.code))
        return np.frombuffer(b"".join(part.tobytes() for part in parts), np.uint8)

    def decode(self, flat: np.ndarray[Any, Any], shapes: TensorShapes) -> Values:
        """Return the values. See :meth:`Encoding.decode`."""
        coarse, lengths = _coarse(shapes), _blocks(shapes)
        data, (fine, scaled, _) = flat.tobytes(), self._parts(shapes)
        scales = np.frombuffer(data[fine : fine + scaled], _FLOAT)
        if not np.isfinite(scales).all() or (scales < 0).any():
            raise ValueError(f"{int((~(np.isfinite(scales) & (scales >= 0))).sum())} scale(s) that are not >= 0")
        codes = np.frombuffer(data[fine + scaled :], self.code)
        self.check(codes)
        values = np.empty(len(coarse), np.float32)
        values[~coarse] = np.frombuffer(data[:fine], _FLOAT)
        with np.errstate(over="ignore"):  # what comes out is checked
            values[coarse] = codes.astype(np.float32) * np.repeat(scales, lengths)
        return values

    def _parts(self, shapes: TensorShapes) -> tuple[int, int, int]:
        """Bytes of the values that stay float32, of the scales, and of the codes."""
        coarse = sum(prod(shape) for name, shape in shapes.items() if is_slot_tensor(name))
        fine = sum(map(prod, shapes.values())) - coarse
        return fine * _FLOAT.itemsize, len(_blocks(shapes)) * _FLOAT.itemsize, coarse * self.code.itemsize


class Float16(Blocks):
    """Half precision; a block's largest value lies in the upper range of float16, whatever it is."""

    code = np.dtype("<f2")

    def scales(self, largest: Values) -> Values:
        """Return powers of two with which the largest value is in [2^14, 2^15). See :meth:`Blocks.scales`."""
        found: Values = np.ldexp(np.float32(1), np.frexp(largest)[1] - 15)
        return found

    def codes(self, scaled: Values) -> np.ndarray[Any, Any]:
        """Return the nearest halves. See :meth:`Blocks.codes`."""
        return scaled.astype(self.code)

    def check(self, codes: np.ndarray[Any, Any]) -> None:
        """Refuse codes that are not finite. See :meth:`Blocks.check`."""
        if not np.isfinite(codes).all():
            raise ValueError(f"{int((~np.isfinite(codes)).sum())} value(s) that are not finite")


class Int8(Blocks):
    """Whole numbers from -127 to 127."""

    code = np.dtype("i1")
    _MOST = 127

    def scales(self, largest: Values) -> Values:
        """Return the steps. See :meth:`Blocks.scales`."""
        return largest / np.float32(self._MOST)

    def codes(self, scaled: Values) -> np.ndarray[Any, Any]:
        """Return the nearest whole numbers. See :meth:`Blocks.codes`."""
        return np.rint(scaled).clip(-self._MOST, self._MOST).astype(self.code)

    def check(self, codes: np.ndarray[Any, Any]) -> None:
        """Refuse -128. See :meth:`Blocks.check`."""
        if (codes < -self._MOST).any():
            raise ValueError(f"{int((codes < -self._MOST).sum())} code(s) of -128")


FLOAT32 = Exact()
ENCODINGS: dict[str, Encoding] = {"float32": FLOAT32, "float16": Float16(), "int8": Int8()}
"""By the value of the setting ``wire.uploads``."""


def _coarse(shapes: TensorShapes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(n,) whether a value is an adapter weight."""
    sizes = [prod(shape) for shape in shapes.values()]
    return np.repeat([is_slot_tensor(name) for name in shapes] or np.zeros(0, np.bool_), sizes).astype(np.bool_)


def _blocks(shapes: TensorShapes) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The lengths of all blocks: each tensor begins a new one."""
    sizes = [prod(shape) for name, shape in shapes.items() if is_slot_tensor(name)]
    lengths = [[BLOCK] * (size // BLOCK) + [size % BLOCK] * (size % BLOCK > 0) for size in sizes]
    return np.asarray([length for each in lengths for length in each], np.int64)
