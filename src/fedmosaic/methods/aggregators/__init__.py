"""Rules by which the server combines uploads: one file each, found by name (docs/robust.md)."""
