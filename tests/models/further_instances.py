"""More vision-language architectures of instances.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers as tf
from tests.models.making import SMALL, VISION, Instance, pil, reading, video

EDGE = {"height": 28, "width": 28}


def aya(ids: Mapping[str, int]) -> Any:
    return tf.AyaVisionConfig(
        vision_config=tf.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=tf.Cohere2Config(**SMALL, sliding_window=64),
        image_token_index=ids["img_patch_token"],
        vision_feature_layer=-1,
        downsample_factor=2,
    )


def aya_processor(tokenizer: Any, template: str) -> Any:
    images = pil("GotOcr2ImageProcessor", size=EDGE, crop_to_patches=True, max_patches=4)
    return reading(
        "AyaVisionProcessor", images, tokenizer, patch_size=14, img_size=28, downsample_factor=2, chat_template=template
    )


def glm4v(ids: Mapping[str, int]) -> Any:
    sub = tf.Glm4vConfig.sub_configs
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    return tf.Glm4vConfig(
        text_config=sub["text_config"](**SMALL, rope_parameters=rope).to_dict(),
        vision_config=sub["vision_config"](**vision, image_size=56, patch_size=14).to_dict(),
        **{f"{name}_id": number for name, number in ids.items()},
    )


def glm4v_processor(tokenizer: Any, template: str) -> Any:
    images = pil("Glm4vImageProcessor", size={"shortest_edge": 56 * 28, "longest_edge": 56 * 112})
    return reading("Glm4vProcessor", images, tokenizer, video("Glm4vVideoProcessor"), chat_template=template)


def lfm2_vl(ids: Mapping[str, int]) -> Any:
    vision = {name: VISION[name] for name in VISION if name != "image_size"}
    return tf.Lfm2VlConfig(
        text_config=tf.Lfm2Config(**SMALL, layer_types=["conv", "full_attention"], block_multiple_of=8).to_dict(),
        vision_config=tf.Siglip2VisionConfig(**vision, num_patches=16, vision_use_head=False).to_dict(),
        image_token_id=ids["image_token"],
        projector_hidden_size=48,
    )


def lfm2_vl_processor(tokenizer: Any, template: str) -> Any:
    images = tf.Lfm2VlImageProcessor(
        size={"height": 56, "width": 56}, tile_size=56, encoder_patch_size=14, min_image_tokens=1, max_image_tokens=4
    )
    return reading("Lfm2VlProcessor", images, tokenizer, chat_template=template)


def phi4(ids: Mapping[str, int]) -> Any:
    """Read as a text model: transformers has it among these (docs/models.md)."""
    vision = {**VISION, "image_size": 448, "crop_size": 448, "image_token_id": ids["image_token"]}
    audio = {"hidden_size": 32, "intermediate_size": 48, "num_blocks": 1, "num_attention_heads": 2}
    audio |= {"ext_pw_out_channel": 32, "depthwise_separable_out_channel": 32, "nemo_conv_channels": 8}
    sub = tf.Phi4MultimodalConfig.sub_configs
    return tf.Phi4MultimodalConfig(
        **SMALL,
        vision_config=sub["vision_config"](**vision).to_dict(),
        audio_config=sub["audio_config"](**audio, audio_token_id=ids["audio_token"]).to_dict(),
    )


GLM_MARKS = {
    "image_token": "<|image|>",
    "video_token": "<|video|>",
    "image_start_token": "<|begin_of_image|>",
    "image_end_token": "<|end_of_image|>",
    "video_start_token": "<|begin_of_video|>",
    "video_end_token": "<|end_of_video|>",
}
AYA_MARKS = {
    "image_token": "<image>",
    "img_patch_token": "<|IMG_PATCH|>",
    "start_of_img_token": "<|START_OF_IMG|>",
    "end_of_img_token": "<|END_OF_IMG|>",
}
LFM_MARKS = {
    "image_token": "<image>",
    "image_start_token": "<|image_start|>",
    "image_end_token": "<|image_end|>",
    "image_thumbnail": "<|img_thumbnail|>",
}
FURTHER = {
    "aya_vision": Instance("Aya Vision", aya, aya_processor, AYA_MARKS, tiles=True),
    "glm4v": Instance(
        "GLM-4.1V", glm4v, glm4v_processor, GLM_MARKS, "<|begin_of_image|><|image|><|end_of_image|>", tiles=True
    ),
    "lfm2_vl": Instance("LFM2-VL", lfm2_vl, lfm2_vl_processor, LFM_MARKS, needs=("torchvision",), tiles=True),
    "phi4_multimodal": Instance(
        "Phi-4-multimodal (text)", phi4, marks={"image_token": "<|image|>", "audio_token": "<|audio|>"}
    ),
}  # fmt: skip
