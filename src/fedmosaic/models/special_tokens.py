"""The special tokens of the embedded models' tokenizers, and the tokenizers' kinds."""

from __future__ import annotations

from typing import Literal

TokenizerKind = Literal["word", "bpe", "unigram"]

PAD, BOS, EOS, IMAGE, UNKNOWN = "<pad>", "<bos>", "<eos>", "<image>", "<unk>"
SPECIAL = (PAD, BOS, EOS, IMAGE, UNKNOWN)  # their ids are 0 to 4
IMAGE_ID = SPECIAL.index(IMAGE)
