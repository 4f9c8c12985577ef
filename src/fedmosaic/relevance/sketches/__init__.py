"""Kinds of sketches, a file each."""
