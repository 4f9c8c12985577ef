"""The vision-language architectures of instances.py: a configuration and a processor of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import transformers as tf
from tests.models.making import SMALL, VISION, Instance, pil, reading, video


def clip() -> Any:
    return tf.CLIPVisionConfig(**VISION, projection_dim=32)


def siglip(**more: Any) -> Any:
    return tf.SiglipVisionConfig(**VISION | {"vision_use_head": False} | more)


EDGE = {"height": 28, "width": 28}
PINPOINTS = [[28, 56], [56, 28], [56, 56]]


def llava_next(ids: Mapping[str, int]) -> Any:
    return tf.LlavaNextConfig(
        vision_config=clip(),
        text_config=tf.MistralConfig(**SMALL),
        image_token_index=ids["image_token"],
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-2,
    )


def llava_next_processor(tokenizer: Any, template: str) -> Any:
    images = pil("LlavaNextImageProcessor", size={"shortest_edge": 28}, crop_size=EDGE, image_grid_pinpoints=PINPOINTS)
    return reading(
        "LlavaNextProcessor",
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )


def onevision(ids: Mapping[str, int]) -> Any:
    return tf.LlavaOnevisionConfig(
        vision_config=siglip(),
        text_config=tf.Qwen2Config(**SMALL),
        image_token_index=ids["image_token"],
        video_token_index=ids["video_token"],
        image_grid_pinpoints=PINPOINTS,
    )


def onevision_processor(tokenizer: Any, template: str) -> Any:
    images = pil("LlavaOnevisionImageProcessor", size=EDGE, image_grid_pinpoints=PINPOINTS)
    return reading(
        "LlavaOnevisionProcessor",
        images,
        tokenizer,
        video("LlavaOnevisionVideoProcessor", size=EDGE),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template,
    )


def llava(ids: Mapping[str, int]) -> Any:
    return tf.LlavaConfig(
        vision_config=clip(),
        text_config=tf.LlamaConfig(**SMALL),
        image_token_index=ids["image_token"],
        image_seq_length=4,
    )


def llava_processor(tokenizer: Any, template: str) -> Any:
    images = pil("CLIPImageProcessor", size={"shortest_edge": 28}, crop_size=EDGE)
    return reading(
        "LlavaProcessor",
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )


def idefics3(ids: Mapping[str, int]) -> Any:
    return tf.Idefics3Config(
        vision_config={**VISION, "image_size": 56},
        text_config=tf.LlamaConfig(**SMALL),
        image_token_id=ids["image_token"],
        scale_factor=2,
        pad_token_id=0,
    )


def smolvlm(ids: Mapping[str, int]) -> Any:
    return tf.SmolVLMConfig(
        vision_config={**VISION, "image_size": 56},
        text_config=tf.LlamaConfig(**SMALL),
        image_token_id=ids["image_token"],
        scale_factor=2,
        pad_token_id=0,
    )


def splitting(kind: str) -> Callable[[Any, str], Any]:
    """Return what makes the processor of Idefics 3 or SmolVLM: a global view and tiles, in rows and columns."""

    def make(tokenizer: Any, template: str) -> Any:
        images = pil(f"{kind}ImageProcessor", size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
        videos = [video("SmolVLMVideoProcessor")] if kind == "SmolVLM" else []
        return reading(f"{kind}Processor", images, tokenizer, *videos, image_seq_len=4, chat_template=template)

    return make


IDEFICS_MARKS = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
    **{f"_row_{row}_col_{column}": f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)},
}
QWEN_MARKS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
QWEN_MARK = "<|vision_start|><|image_pad|><|vision_end|>"
MROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}


def qwen(kind: str, *, text: Mapping[str, Any], vision: Mapping[str, Any]) -> Callable[[Mapping[str, int]], Any]:
    """Return what makes the configuration of a Qwen-VL."""

    def make(ids: Mapping[str, int]) -> Any:
        config = getattr(tf, f"{kind}Config")
        sub = config.sub_configs
        return config(
            text_config=sub["text_config"](**SMALL | {"rope_parameters": MROPE} | dict(text)).to_dict(),
            vision_config=sub["vision_config"](**vision).to_dict(),
            **{f"{name}_id": ids[name] for name in QWEN_MARKS},
        )

    return make


def qwen_processor(kind: str, patch: int) -> Callable[[Any, str], Any]:
    def make(tokenizer: Any, template: str) -> Any:
        size = {"shortest_edge": 56 * 28, "longest_edge": 56 * 112}
        images = pil("Qwen2VLImageProcessor", size=size, patch_size=patch)
        videos = video("Qwen3VLVideoProcessor" if kind == "Qwen3VL" else "Qwen2VLVideoProcessor", patch_size=patch)
        return reading(f"{kind}Processor", images, tokenizer, videos, chat_template=template)

    return make


def gemma3(ids: Mapping[str, int]) -> Any:
    return tf.Gemma3Config(
        text_config=tf.Gemma3TextConfig(**SMALL, head_dim=16, sliding_window=64).to_dict(),
        vision_config=siglip().to_dict(),
        mm_tokens_per_image=4,
        image_token_index=ids["image_token"],
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
    )


def gemma3_processor(tokenizer: Any, template: str) -> Any:
    images = pil("Gemma3ImageProcessor", size=EDGE, do_pan_and_scan=False)
    return reading("Gemma3Processor", images, tokenizer, chat_template=template, image_seq_length=4)


def paligemma2(ids: Mapping[str, int]) -> Any:
    return tf.PaliGemmaConfig(
        text_config=tf.Gemma2Config(**SMALL, head_dim=16, sliding_window=64).to_dict(),
        vision_config=siglip(num_image_tokens=4, projection_dim=32).to_dict(),
        projection_dim=32,
        hidden_size=32,
        image_token_index=ids["image_token"],
        vocab_size=600,
    )


def paligemma_processor(tokenizer: Any, template: str) -> Any:
    return reading("PaliGemmaProcessor", pil("SiglipImageProcessor", size=EDGE, image_seq_length=4), tokenizer)


def internvl(ids: Mapping[str, int]) -> Any:
    vision = tf.InternVLVisionConfig(**VISION | {"image_size": [28, 28], "patch_size": [14, 14]})
    return tf.InternVLConfig(
        vision_config=vision,
        text_config=tf.Qwen2Config(**SMALL),
        image_token_id=ids["context_image_token"],
        image_seq_length=1,
    )


def internvl_processor(tokenizer: Any, template: str) -> Any:
    images = pil("GotOcr2ImageProcessor", size=EDGE, crop_to_patches=True, max_patches=4)
    videos = video("InternVLVideoProcessor", size=EDGE)
    return reading("InternVLProcessor", images, tokenizer, videos, image_seq_length=1, chat_template=template)


def pixtral_vision() -> Any:
    sizes = {name: VISION[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    return tf.PixtralVisionConfig(**sizes, num_attention_heads=2, image_size=56, patch_size=14, head_dim=16)


def pixtral(ids: Mapping[str, int]) -> Any:
    return tf.LlavaConfig(
        vision_config=pixtral_vision(),
        text_config=tf.MistralConfig(**SMALL),
        image_token_index=ids["image_token"],
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )


def mistral3(ids: Mapping[str, int]) -> Any:
    return tf.Mistral3Config(
        vision_config=pixtral_vision(),
        text_config=tf.MistralConfig(**SMALL),
        image_token_index=ids["image_token"],
        spatial_merge_size=2,
    )


def pixtral_processor(merge: int) -> Callable[[Any, str], Any]:
    def make(tokenizer: Any, template: str) -> Any:
        images = pil("PixtralImageProcessor", size={"longest_edge": 56}, patch_size=14 * merge)
        return reading(
            "PixtralProcessor", images, tokenizer, patch_size=14, spatial_merge_size=merge, chat_template=template
        )

    return make


PIXTRAL_MARKS = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
QWEN2_EYES = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2, "patch_size": 14}
QWEN25_EYES = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 32,
    "fullatt_block_indexes": [1],
    "window_size": 56,
}
QWEN3_EYES = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 14,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0],
}

IMAGE = {"image_token": "<image>"}
EYES = {
    "llava": Instance("LLaVA 1.5", llava, llava_processor, IMAGE),
    "llava_next": Instance("LLaVA 1.6", llava_next, llava_next_processor, IMAGE, tiles=True),
    "llava_onevision": Instance(
        "LLaVA-OneVision", onevision, onevision_processor, {**IMAGE, "video_token": "<video>"}, tiles=True
    ),
    "idefics3": Instance("Idefics 3, SmolVLM", idefics3, splitting("Idefics3"), IDEFICS_MARKS, tiles=True),
    "smolvlm": Instance(
        "SmolVLM 2",
        smolvlm,
        splitting("SmolVLM"),
        {**IDEFICS_MARKS, "video_token": "<video>"},
        needs=("num2words",),
        tiles=True,
    ),
    "qwen2_vl": Instance(
        "Qwen2-VL",
        qwen("Qwen2VL", text={}, vision=QWEN2_EYES),
        qwen_processor("Qwen2VL", 14),
        QWEN_MARKS,
        QWEN_MARK,
        tiles=True,
    ),
    "qwen2_5_vl": Instance(
        "Qwen2.5-VL",
        qwen("Qwen2_5_VL", text={}, vision=QWEN25_EYES),
        qwen_processor("Qwen2_5_VL", 14),
        QWEN_MARKS,
        QWEN_MARK,
        tiles=True,
    ),
    "qwen3_vl": Instance(
        "Qwen3-VL",
        qwen("Qwen3VL", text={"head_dim": 16}, vision=QWEN3_EYES),
        qwen_processor("Qwen3VL", 14),
        QWEN_MARKS,
        QWEN_MARK,
        tiles=True,
    ),
    "gemma3": Instance(
        "Gemma 3",
        gemma3,
        gemma3_processor,
        {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
        "<start_of_image>",
    ),
    "paligemma2": Instance("PaliGemma 2", paligemma2, paligemma_processor, IMAGE),
    "internvl": Instance(
        "InternVL 2.5, 3",
        internvl,
        internvl_processor,
        {
            "context_image_token": "<IMG_CONTEXT>",
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "video_token": "<video>",
        },
        "<IMG_CONTEXT>",
        tiles=True,
    ),
    "pixtral": Instance(
        "Pixtral", pixtral, pixtral_processor(1), PIXTRAL_MARKS, "[IMG]", needs=("torchvision",), tiles=True
    ),
    "mistral3": Instance(
        "Mistral Small 3", mistral3, pixtral_processor(2), PIXTRAL_MARKS, "[IMG]", needs=("torchvision",), tiles=True
    ),
}
