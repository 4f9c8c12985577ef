"""The modes of alignment: names that win over folders, which may stand in their place."""

ALIGNMENTS = ("none", "a", "published", "pivot", "joint")
