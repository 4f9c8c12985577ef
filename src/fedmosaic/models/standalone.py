"""Files with which transformers alone loads an embedded model: the tower's code, and an image processor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from transformers import LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from fedmosaic.models import vision
from fedmosaic.models.vision import IMAGE_SIZE, EmbeddedConfig, EmbeddedModel

_CODE = "modeling_fedmosaic.py"
_GRID = 2  # 2 x 2 tokens per image
_MEAN, _STD = 127 / 255, 128 / 255


def save_standalone(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Complete a folder that holds an embedded model's configuration and weights.

    ``AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)`` and ``AutoProcessor`` then load it.
    The processor gives ``pixels.normalise``'s pixels (images of odd oblong sizes may be padded one pixel off) and 4
    tokens per image; a prompt must begin with the ``<bos>`` token.

    Args:
        tokenizer: the model's tokenizer.
        folder: receives processor, tokenizer and code; its ``config.json`` is completed.
    """
    pixels = LlavaImageProcessorPil(
        do_pad=True,
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        resample=2,  # bilinear
        image_mean=[_MEAN] * 3,
        image_std=[_STD] * 3,
    )
    LlavaProcessor(  # type: ignore[no-untyped-call]
        pixels, tokenizer, patch_size=IMAGE_SIZE // _GRID, vision_feature_select_strategy="full"
    ).save_pretrained(folder)
    shutil.copyfile(str(vision.__file__), folder / _CODE)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    module = _CODE.removesuffix(".py")
    config["auto_map"] = {
        "AutoConfig": f"{module}.{EmbeddedConfig.__name__}",
        "AutoModelForImageTextToText": f"{module}.{EmbeddedModel.__name__}",
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
