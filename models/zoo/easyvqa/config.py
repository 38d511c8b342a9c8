"""Say once what easyvqa-tiny is made of: sizes, tokenizer, prompt and image processing.

The trainer builds from here; everybody else reads the checkpoint folder that results.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

__all__ = [
    "CHAT_TEMPLATE",
    "IMAGE_TOKENS",
    "PREFIX",
    "build_model",
    "build_processor",
    "build_tokenizer",
    "prompt",
    "suffix",
]

SPECIALS = ("<pad>", "<s>", "</s>", "<image>")  # ids 0 to 3
PAD, BOS, EOS, IMAGE = range(4)
VOCABULARY = 448  # at most; the merges run out before
SIDE, PATCH = 64, 8  # px
IMAGE_TOKENS = (SIDE // PATCH) ** 2  # CLS is dropped before the projector
MEAN_STD = [0.5, 0.5, 0.5]

PREFIX = "<s>USER: <image>\n"  # the same for every question, so an image's questions share it
# Nothing is added when a text is encoded: every special token of a prompt is written here.
CHAT_TEMPLATE = """\
{{ bos_token }}\
{% for message in messages %}\
{% if message['role'] == 'assistant' %}{{ ' ASSISTANT: ' }}{% else %}{{ 'USER: ' }}{% endif %}\
{% if message['content'] is string %}{{ message['content'] }}\
{% else %}\
{% for item in message['content'] if item['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}\
{% for item in message['content'] if item['type'] == 'text' %}{{ item['text'] }}{% endfor %}\
{% endif %}\
{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}\
"""


def suffix(question: str) -> str:
    """What follows PREFIX, up to and without the answer."""
    return f"{question} ASSISTANT:"


def prompt(question: str) -> str:
    """The whole prompt, with one <image> that the processor repeats IMAGE_TOKENS times."""
    return PREFIX + suffix(question)


def build_tokenizer(questions: Iterable[str], answers: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the prompts; all 256 bytes are in, so any text can be encoded."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tails = [suffix(q[0].upper() + q[1:]) for q in questions] + [suffix(q) for q in questions]
    core.train_from_iterator(["USER: ", "\n", *tails, *(f" {a}" for a in answers)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """RGB, bicubic resize to 64x64 (the crop is then idle), x/255, then (x - 0.5) / 0.5."""
    side = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessorPil(
        size=side, crop_size=side, image_mean=MEAN_STD, image_std=MEAN_STD, do_convert_rgb=True
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLS: added here, then dropped by the strategy above
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokens: int) -> LlavaForConditionalGeneration:
    """The untrained model, from the current torch seed; ids from `tokens` on are idle padding."""
    ids = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    vision = CLIPVisionConfig(
        image_size=SIDE,
        patch_size=PATCH,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        hidden_act="gelu",
        projection_dim=128,
    )
    text = LlamaConfig(
        vocab_size=-(-tokens // 8) * 8,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=True,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        **ids,
    )
    whole = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        projector_hidden_act="gelu",
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=True,
        **ids,
    )
    model = LlavaForConditionalGeneration(whole)
    model.generation_config = GenerationConfig(**ids, do_sample=False, max_new_tokens=8)
    return model
