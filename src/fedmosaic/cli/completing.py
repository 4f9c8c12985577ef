"""What a shell offers when the tab key is pressed; nothing heavy is loaded for it."""

from __future__ import annotations

from fedmosaic.registry import ENGINES, METHODS, TRACKERS


def scenarios(incomplete: str) -> list[str]:
    """Return the built-in and published scenarios that begin like this."""
    from fedmosaic.config.published import published_scenarios
    from fedmosaic.config.scenarios import builtin_names

    return [name for name in (*builtin_names(), *published_scenarios()) if name.startswith(incomplete)]


def methods(incomplete: str) -> list[str]:
    """Return the methods that begin like this."""
    return [name for name in METHODS if name.startswith(incomplete)]


def listed_methods(incomplete: str) -> list[str]:
    """Return lists of methods, separated by commas, whose last one begins like this."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in methods(last) if name not in before.split(",")]


def engines(incomplete: str) -> list[str]:
    """Return the engines that begin like this."""
    return [name for name in ENGINES if name.startswith(incomplete)]


def trackers(incomplete: str) -> list[str]:
    """Return the trackers that begin like this."""
    return [name for name in TRACKERS if name.startswith(incomplete)]
