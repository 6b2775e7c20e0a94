"""Tiny multimodal models with random weights, in the formats that transformers writes for each family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SIDE, PATCH = 28, 14

Made = tuple[Any, Any]


def tokenizer_with(*special: str, named: dict[str, str] | None = None) -> Any:
    """Return a byte-level tokenizer of a few words, with further special tokens from id 3 on."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(
        ["Which of these is in the picture: a cat or a dog?"],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<pad>", "<s>", "</s>", *special],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=named or {},
    )


def decoder(vocabulary: int) -> Any:
    return transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def tower(kind: str, **more: Any) -> Any:
    return getattr(transformers, f"{kind}VisionConfig")(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        **more,
    )


def llava() -> Made:
    """LLaVA 1.5: a class token that is left out again."""
    tokenizer = tokenizer_with("<image>")
    config = transformers.LlavaConfig(
        vision_config=tower("CLIP"), text_config=decoder(len(tokenizer)), image_token_index=3
    )
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    processor = transformers.LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return transformers.LlavaForConditionalGeneration(config), processor


def llava_next() -> Made:
    """LLaVA NeXT: several tiles a picture."""
    tokenizer = tokenizer_with("<image>")
    grid = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = transformers.LlavaNextConfig(
        vision_config=tower("CLIP"),
        text_config=decoder(len(tokenizer)),
        image_token_index=3,
        image_grid_pinpoints=grid,
    )
    images = transformers.LlavaNextImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_grid_pinpoints=grid,
    )
    processor = transformers.LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return transformers.LlavaNextForConditionalGeneration(config), processor


def llava_onevision() -> Made:
    tokenizer = tokenizer_with("<image>", "<video>")
    grid = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE]]
    config = transformers.LlavaOnevisionConfig(
        vision_config=tower("Siglip"),
        text_config=decoder(len(tokenizer)),
        image_token_index=3,
        video_token_index=4,
        image_grid_pinpoints=grid,
    )
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(
            size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=grid
        ),
        tokenizer,
        transformers.LlavaOnevisionVideoProcessor(),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config), processor


CHAT = (
    "{% for m in messages %}User: {% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def idefics3(kind: str = "Idefics3", **more: Any) -> Made:
    tokenizer = tokenizer_with(
        "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"
    )
    config = getattr(transformers, f"{kind}Config")(
        vision_config=tower(kind).to_dict(),
        text_config=decoder(len(tokenizer)).to_dict(),
        image_token_id=3,
        scale_factor=2,
        pad_token_id=0,
    )
    images = getattr(transformers, f"{kind}ImageProcessor")(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    processor = getattr(transformers, f"{kind}Processor")(
        images,
        tokenizer,
        image_seq_len=1,
        chat_template=CHAT.replace("IMAGE", "<image>"),
        **more,
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor


def smolvlm() -> Made:
    return idefics3("SmolVLM", video_processor=transformers.SmolVLMVideoProcessor())


def paligemma() -> Made:
    """PaliGemma: the prompt is read in both directions."""
    images = transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    images.image_seq_length = 4
    processor = transformers.PaliGemmaProcessor(images, tokenizer_with("<image>"))
    text = transformers.GemmaConfig(
        vocab_size=len(processor.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config = transformers.PaliGemmaConfig(
        vision_config=tower("Siglip", projection_dim=32, vision_use_head=False).to_dict(),
        text_config=text.to_dict(),
        image_token_index=processor.image_token_id,
        projection_dim=32,
        hidden_size=32,
    )
    return transformers.PaliGemmaForConditionalGeneration(config), processor


def internvl() -> Made:
    tokenizer = tokenizer_with(
        "<IMG_CONTEXT>",
        "<img>",
        "</img>",
        "<video>",
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    vision = transformers.InternVLVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=[SIDE, SIDE],
        patch_size=[PATCH, PATCH],
    )
    config = transformers.InternVLConfig(
        vision_config=vision.to_dict(),
        text_config=decoder(len(tokenizer)).to_dict(),
        image_token_id=3,
        downsample_ratio=0.5,
    )
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(
            size={"height": SIDE, "width": SIDE}, crop_to_patches=False
        ),
        tokenizer,
        transformers.InternVLVideoProcessor(),
        image_seq_length=1,
        chat_template=CHAT.replace("IMAGE", "<IMG_CONTEXT>"),
    )
    return transformers.InternVLForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[], Made]] = {
    make.__name__: make
    for make in (llava, llava_next, llava_onevision, idefics3, smolvlm, paligemma, internvl)
}


def write(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a tiny model of a family, and return its folder."""
    torch.manual_seed(seed)
    model, processor = FAMILIES[family]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
