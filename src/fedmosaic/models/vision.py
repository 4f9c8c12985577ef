"""The frozen vision tower of the embedded models: EfficientNet-Lite0, reduced to 4 tokens of 256 numbers per image.

Architecture after Tan & Le (ICML 2019, arXiv 1905.11946) in its Lite form (ReLU6, no squeeze-and-excitation). Every
batch norm is folded into the convolution before it, so the tower has no state besides its weights. A 128 px image gives
a middle map (8x8x112) and a final map (4x4x1280); both are joined at 4x4, pooled to 2x2 and projected by a fixed
whitened PCA.

This file imports nothing of fedmosaic: it goes along with exported models, so that transformers alone can load them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

IMAGE_SIZE = 128
TOKENS_PER_IMAGE = 4
FEATURE_SIZE = 256
MIDDLE_CHANNELS = 112  # the last stage at stride 16
HEAD_CHANNELS = 1280
RAW_CHANNELS = HEAD_CHANNELS + 4 * MIDDLE_CHANNELS  # the middle map joins at stride 32, so 2x2 positions stack up
_GRID = 2


class Stage(NamedTuple):
    """Equal inverted-bottleneck blocks of EfficientNet-Lite0; only the first one strides.

    Attributes:
        repeats: number of blocks.
        kernel: side of the depthwise kernel.
        stride: of the first block.
        expand: factor on the channels inside a block.
        channels: output channels.
    """

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, MIDDLE_CHANNELS),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: stride 2 on even sizes pads one less before than after.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel.
        stride: in both directions.
        groups: groups of channels that are convolved separately.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups, bias=True, padding=0)
        excess = kernel - stride
        before = excess // 2
        self.edges = (before, excess - before, before, excess - before)
        if excess % 2 == 0:
            self.padding = (before, before)  # symmetric: the convolution pads by itself, which is faster

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, h/stride, w/stride).

        Args:
            x: (n, inputs, h, w).
        """
        return super().forward(x if self.edges[0] == self.edges[1] else F.pad(x, self.edges))


class InvertedBottleneck(nn.Module):
    """Expand (1x1), filter each channel (kxk), reduce (1x1); added to the input where the shapes allow it.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the depthwise kernel.
        stride: in both directions.
        expand: factor on the channels inside the block.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = inputs * expand
        self.expand = SameConv(inputs, inner, 1) if expand > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride=stride, groups=inner)
        self.reduce = SameConv(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, h/stride, w/stride).

        Args:
            x: (n, inputs, h, w).
        """
        wide = x if self.expand is None else F.relu6(self.expand(x))
        y: Tensor = self.reduce(F.relu6(self.depthwise(wide)))
        return y + x if self.residual else y


class VisionTowerConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Configuration of :class:`VisionTower`; the architecture is fixed, the sizes are for those who read them."""

    model_type = "fedmosaic_efflite"
    hidden_size: int = FEATURE_SIZE
    image_size: int = IMAGE_SIZE
    num_channels: int = 3


class VisionTower(PreTrainedModel):  # type: ignore[no-untyped-call]
    """The tower as a transformers model, so that it works inside ``LlavaForConditionalGeneration``.

    Args:
        config: its configuration.
    """

    config: VisionTowerConfig
    config_class = VisionTowerConfig
    main_input_name = "pixel_values"
    base_model_prefix = "vision_tower"
    input_modalities = "image"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True  # it has no attention that could mind

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__(config)
        self.stem = SameConv(3, STEM_CHANNELS, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = STEM_CHANNELS
        for stage in STAGES:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                self.blocks.append(
                    InvertedBottleneck(
                        channels, stage.channels, kernel=stage.kernel, stride=stride, expand=stage.expand
                    )
                )
                channels = stage.channels
        self.head = SameConv(channels, HEAD_CHANNELS, 1)
        self.projection = nn.Linear(RAW_CHANNELS, config.hidden_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Keep torch's initialisation: real weights always come from a file."""

    def raw(self, pixel_values: Tensor) -> Tensor:
        """Return the joined maps (n, 1728, 4, 4) before pooling and projection.

        Args:
            pixel_values: normalised images (n, 3, 128, 128), see ``pixels.normalise``.
        """
        x = pixel_values.to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(x))
        middle = x
        for block in self.blocks:
            x = block(x)
            if x.shape[1] == MIDDLE_CHANNELS:
                middle = x
        return torch.cat([F.relu6(self.head(x)), F.pixel_unshuffle(middle, 2)], dim=1)

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Return 4 tokens per image.

        Args:
            pixel_values: normalised images (n, 3, 128, 128), see ``pixels.normalise``.

        Returns:
            ``last_hidden_state`` and the only entry of ``hidden_states``: (n, 4, 256).
        """
        pooled = F.adaptive_avg_pool2d(self.raw(pixel_values), _GRID).flatten(2).transpose(1, 2)
        tokens = self.projection(pooled)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))


class EmbeddedConfig(LlavaConfig):  # type: ignore[no-untyped-call]
    """A LLaVA configuration under another name, by which transformers loads this file and so knows the tower."""


class EmbeddedModel(LlavaForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The model that belongs to it."""

    config_class = EmbeddedConfig


def register() -> None:
    """Let transformers read this tower; again, since the code of an exported model registers its own copy instead."""
    AutoConfig.register(VisionTowerConfig.model_type, VisionTowerConfig, exist_ok=True)
    AutoModel.register(VisionTowerConfig, VisionTower, exist_ok=True)


register()
