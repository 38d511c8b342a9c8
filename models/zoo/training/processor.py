"""Make the tokenizer, the chat template and the image processor of a bundled model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from edgevlm.models.zoo.training.spec import MEAN_STD, SPECIALS, Spec, suffix

__all__ = ["CHAT_TEMPLATE", "build_processor", "build_tokenizer", "vary"]

FLAW_RATE = 0.12  # of the questions start with a capital, and as many lack the question mark

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


def build_tokenizer(
    spec: Spec, questions: Iterable[str], answers: Iterable[str]
) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the prompts; all 256 bytes are in, so any text can be encoded."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    questions = list(questions)
    tails = [suffix(q[0].upper() + q[1:]) for q in questions] + [suffix(q) for q in questions]
    core.train_from_iterator(["USER: ", "\n", *tails, *(f" {a}" for a in answers)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=spec.positions,
        clean_up_tokenization_spaces=False,
    )


def build_processor(spec: Spec, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """RGB, bicubic resize to the model's side (the crop is then idle), x/255, (x - 0.5) / 0.5."""
    side = {"height": spec.side, "width": spec.side}
    images = CLIPImageProcessorPil(
        size=side, crop_size=side, image_mean=MEAN_STD, image_std=MEAN_STD, do_convert_rgb=True
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=spec.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLS: added here, then dropped by the strategy above
        chat_template=CHAT_TEMPLATE,
    )


def vary(rng: np.random.Generator, question: str) -> str:
    """Now and then the question as a person types it: a capital first, no question mark."""
    if rng.random() < FLAW_RATE:
        question = question[0].upper() + question[1:]
    return question.removesuffix("?") if rng.random() < FLAW_RATE else question
