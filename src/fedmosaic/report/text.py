"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping

from fedmosaic.config.settings import EvaluationSettings

MISSING = "\u2013"
_MINUS = "\u2212"
_T_OF_TWO = 12.706204736432095
"""Half width of the 95 % t interval of two values, over half their distance."""


def scored(evaluation: EvaluationSettings) -> str:
    """Return what a run's first, last and exchanged scores are of: ``every test question``.

    Args:
        evaluation: settings of the run.
    """
    if few := evaluation.final_samples_per_task:
        return f"the first {few} {evaluation.split} questions of each task"
    return f"every {evaluation.split} question"


def percent(fraction: float | None) -> str:
    """Return a fraction as percent with one decimal, without the sign: 0.7123 -> ``71.2``.

    Args:
        fraction: in [0, 1]; None: not known.
    """
    return MISSING if fraction is None else f"{fraction * 100:.1f}".replace("-", _MINUS)


def points(difference: float | None) -> str:
    """Return a difference of fractions in percentage points, signed: 0.031 -> ``+3.1``.

    Args:
        difference: in [-1, 1]; None: not known.
    """
    if difference is None:
        return MISSING
    rounded = round(difference * 100, 1)
    return f"{rounded:+.1f}".replace("-", _MINUS) if rounded else "0.0"


def between(low: float, high: float) -> str:
    """Return an interval of differences in percentage points: ``-1.2 to +2.3``.

    Args:
        low: its lower end, in [-1, 1].
        high: its upper end.
    """
    return f"{points(low)} to {points(high)}"


def spread(found: Mapping[str, float | None], runs: int) -> str:
    """Return how far a mean over seeds may be off: ``± 3.3``, of two seeds both values; nothing of one.

    With two seeds the half width of a 95 % interval is 12.7 standard errors: it says nothing, and looks as if it did.

    Args:
        found: ``mean``, and ``ci95``, the half width.
        runs: how many seeds.
    """
    mean, half = found["mean"], found["ci95"]
    if mean is None or half is None:
        return ""
    if runs > 2:
        return f"± {percent(half)}"
    off = half / _T_OF_TWO
    return f"({percent(mean - off)}, {percent(mean + off)})"


def direction(difference: float | None) -> str:
    """Return ``up``, ``down`` or ``same``, of the difference as shown.

    Args:
        difference: in [-1, 1]; None: not known.
    """
    rounded = round((difference or 0.0) * 100, 1)
    return "up" if rounded > 0 else "down" if rounded < 0 else "same"


def size(count: float | None) -> str:
    """Return bytes with a decimal unit: 1536000 -> ``1.54 MB``.

    Args:
        count: of bytes; None: not known.
    """
    return _scaled(count, ("B", "kB", "MB", "GB", "TB", "PB"))


def flops(count: float | None) -> str:
    """Return floating-point operations with a unit: 3.2e12 -> ``3.20 TFLOP``.

    Args:
        count: of operations; None: not known.
    """
    return _scaled(count, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"))


def duration(seconds: float | None) -> str:
    """Return time in the two largest units that matter: 3725 -> ``1 h 2 min``.

    Args:
        seconds: how many; None: not known.
    """
    if seconds is None:
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def loss(value: float | None) -> str:
    """Return a training loss with three decimals: 0.51234 -> ``0.512``.

    Args:
        value: in nats; None: not known.
    """
    return MISSING if value is None else f"{value:.3f}"


def plural(count: int, word: str) -> str:
    """Return ``1 client`` or ``2 clients``.

    Args:
        count: how many.
        word: for one of them.
    """
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _scaled(count: float | None, units: tuple[str, ...]) -> str:
    if count is None:
        return MISSING
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count /= 1000
        power += 1
    whole = power == 0 and float(count).is_integer()
    digits = 0 if whole or count >= 99.95 else 1 if count >= 9.995 else 2
    return f"{count:.{digits}f} {units[power]}"
