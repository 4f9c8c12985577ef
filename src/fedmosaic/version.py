"""The version, alone in a file that imports nothing: any part of the package may ask for it."""

__version__ = "0.1.0"
