"""Errors that a user can act on. Each says what was found, what was expected and what to do."""

from __future__ import annotations


class FedMosaicError(Exception):
    """Base of all errors that fedmosaic raises on purpose; the command line prints them without a traceback."""


class SettingsError(FedMosaicError):
    """A command, scenario, method or setting that cannot be used (exit status 2)."""


class DataError(FedMosaicError):
    """A sample, image or data file that cannot be used (exit status 2)."""


class ModelError(FedMosaicError):
    """A base model that cannot be found, or whose structure does not allow what was asked (exit status 2)."""


class WireError(FedMosaicError):
    """A message that fails validation: it is never used, not even in part (exit status 1)."""


class RunError(FedMosaicError):
    """A run that had to stop; what was finished before is on disk (exit status 1)."""


class ResidentError(FedMosaicError):
    """A node's resident process that does not start, does not stay, or cannot read what it is given (exit status 1)."""
