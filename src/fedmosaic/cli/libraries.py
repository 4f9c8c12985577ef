"""What libraries print by themselves: progress bars never, as the verbs have their own; warnings unless quiet."""

from __future__ import annotations

import logging
import os
import warnings

from huggingface_hub.utils.tqdm import disable_progress_bars
from transformers.utils.logging import disable_progress_bar


def silence_bars() -> None:
    """Switch off the progress bars of libraries, in this process and in those it starts."""
    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    disable_progress_bars()
    disable_progress_bar()  # type: ignore[no-untyped-call]


def silence_warnings() -> None:
    """Switch off the warnings and messages of libraries, too; errors are not among them."""
    os.environ |= {"PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_VERBOSITY": "error"}
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
