"""What files of data, and files and folders of splits, are called."""

from __future__ import annotations

import re

ENDINGS = frozenset({".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"})
"""Endings of the files in a folder that are data; what is in them is found by their content."""

SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "eval": "test",
}
"""Name, in small letters -> the split that is meant."""

SPLIT = re.compile(
    rf"(?:(?P<task>.+)[-_.])?(?P<split>{'|'.join(SPLITS)})(?:-\d+-of-(?P<parts>\d+))?", flags=re.IGNORECASE
)
"""A name without its ending: train, vqa_test, validation-00000-of-00004."""

PART = re.compile(r"(?:(?P<task>.+)-)?\d{3,}-of-(?P<parts>\d{3,})|(?:part-?)?\d+")
"""A name without its ending: vqa-00000-of-00002, 0001, part-0."""
