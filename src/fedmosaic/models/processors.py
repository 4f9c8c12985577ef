"""The processor of a vision-language checkpoint; where torchvision is missing, without the part that reads videos.

transformers reads videos with torchvision alone, and makes no processor of a model that can read both without it. Runs
here have pictures, for which such a processor needs only its other parts.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from transformers import AutoProcessor, PreTrainedConfig, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name
from transformers.processing_utils import MODALITY_TO_AUTOPROCESSOR_MAPPING
from transformers.utils.hub import PushToHubMixin
from transformers.utils.import_utils import is_torchvision_available

from fedmosaic.errors import ModelError
from fedmosaic.models.files import read_table
from fedmosaic.models.library_errors import model_errors

_VIDEOS = "video_processor"
_TABLES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_OF_VIDEOS = "video_preprocessor_config.json"
_PACKAGES = ("torchvision", "num2words")
_EXTRA = "pip install 'fedmosaic[processors]'"


class NoVideos(PushToHubMixin):
    """Stands where a processor reads videos, keeps what the checkpoint says of that, and reads none.

    Args:
        table: the checkpoint's settings of it, which are saved again.
    """

    model_input_names = ("pixel_values_videos",)
    _auto_class = None

    def __init__(self, table: dict[str, Any]) -> None:
        self._table = table

    def __deepcopy__(self, memo: dict[int, Any]) -> NoVideos:
        return NoVideos(copy.deepcopy(self._table, memo))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._table.get(name)

    def to_dict(self) -> dict[str, Any]:
        """Return the checkpoint's settings, to be saved again."""
        return copy.deepcopy(self._table)


def read_processor(name: str, folder: Path, config: PreTrainedConfig) -> Any:
    """Return the processor in a checkpoint's folder.

    Args:
        name: how the user calls the model.
        folder: the checkpoint.
        config: its configuration.

    Raises:
        ModelError: files are missing or damaged, or packages that it needs are not installed.
    """
    what = f"base model {name!r}: its processor in {folder} cannot be used"
    files = "expected are preprocessor_config.json or processor_config.json, and tokenizer.json"
    try:
        kind = _class_of(name, folder, config)
        if kind is not None and _VIDEOS in kind.get_attributes() and not is_torchvision_available():
            processor = _without_videos(name, folder, kind)
        else:
            processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except Exception as error:
        lacks = any(package in str(error).lower() for package in _PACKAGES)
        with model_errors(what, advice=f"install what it needs: {_EXTRA}" if lacks else files):
            raise error
    if not isinstance(processor, ProcessorMixin):
        raise ModelError(
            f"base model {name!r} is a vision-language model, but {folder} has only a {type(processor).__name__}; "
            f"{files}"
        )
    return processor


def _class_of(name: str, folder: Path, config: PreTrainedConfig) -> Any:
    """Return the processor's class, by its name in the files or by the model's kind; None: none is known."""
    for file in _TABLES:
        if (folder / file).is_file() and (found := read_table(name, folder / file).get("processor_class")):
            return processor_class_from_name(found)
    return PROCESSOR_MAPPING.get(type(config), None)


def _without_videos(name: str, folder: Path, kind: Any) -> Any:
    table, _ = kind.get_processor_dict(folder)
    own = read_table(name, folder / _OF_VIDEOS) if (folder / _OF_VIDEOS).is_file() else table.get(_VIDEOS, {})
    parts = [
        NoVideos(own)
        if part == _VIDEOS
        else MODALITY_TO_AUTOPROCESSOR_MAPPING[part].from_pretrained(folder, trust_remote_code=False)
        for part in kind.get_attributes()
    ]
    return without_videos(kind).from_args_and_dict(parts, table)


def without_videos(kind: type[ProcessorMixin]) -> Any:
    """Return a processor's class as one that takes :class:`NoVideos` where it reads videos.

    Args:
        kind: transformers' class; ``save_pretrained`` names it, and not this one.
    """

    def check(self: Any, name: str, argument: Any) -> Any:
        if isinstance(argument, NoVideos):
            return NoVideos
        return kind.check_argument_for_proper_class(self, name, argument)  # type: ignore[no-untyped-call]

    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check, "__init__": kind.__init__})
