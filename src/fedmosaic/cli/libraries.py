"""What libraries print by themselves: progress bars never, as the verbs have their own; warnings unless quiet."""

from __future__ import annotations

import logging
import os
import sys
import warnings

_SWITCHES = {
    "huggingface_hub.utils.tqdm": "disable_progress_bars",
    "transformers.utils.logging": "disable_progress_bar",
}


def silence_bars() -> None:
    """Switch off the progress bars of libraries, in this process and in those it starts."""
    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    for module, switch in _SWITCHES.items():
        if module in sys.modules:  # else it reads the environment when it is imported
            getattr(sys.modules[module], switch)()


def silence_warnings() -> None:
    """Switch off the warnings and messages of libraries, too; errors are not among them."""
    os.environ |= {"PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_VERBOSITY": "error"}
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
