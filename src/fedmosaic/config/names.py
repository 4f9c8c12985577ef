"""Names that settings may give where the path of a folder may stand, too; such a name wins over a folder."""

MODELS = ("tiny-llama", "tiny-qwen2", "tiny-gemma", "tiny-llama-small")
"""The embedded base models."""

ALIGNMENTS = ("none", "a", "published", "pivot", "joint")
"""The modes of alignment."""
