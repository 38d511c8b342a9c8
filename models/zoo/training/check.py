"""Hold the two shortcuts of the trainers against the long way round, on a finished checkpoint.

1. Training packs all questions of an image into one row: its logits are compared with those of
   one ordinary forward a question.
2. Evaluation makes ids and pixels itself: its answers are compared with those of AutoProcessor,
   chat template, pictures in PIL form, and `generate`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration, ProcessorMixin

from edgevlm.models.zoo.training.evaluate import Pairs, answers
from edgevlm.models.zoo.training.packing import Packer, answer_logits
from edgevlm.models.zoo.training.spec import normalise, prompt

__all__ = ["agreement", "both", "packing_gap"]


def both(checkpoint: Path, images: torch.Tensor, rows: list[Pairs]) -> dict[str, float | int]:
    """The two comparisons on images [N, 3, side, side] uint8 and their questions."""
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(checkpoint)
    packer = Packer(processor.tokenizer, model.config.image_seq_length)
    gap = packing_gap(model, packer, images, rows)
    same, total = agreement(model, processor, images, rows)
    return {"packing_gap": gap, "same_answers": same, "questions": total}


@torch.no_grad()
def packing_gap(
    model: LlavaForConditionalGeneration,
    packer: Packer,
    images: torch.Tensor,
    rows: list[Pairs],
) -> float:
    """Largest difference of a logit between packed rows and separate prompts."""
    packed = packer.pack(rows)
    pixels = normalise(images)
    seen = model.model.vision_tower(pixels).last_hidden_state[:, 1:]
    fast = answer_logits(model, seen, packed)
    repeated = "<image>" * model.config.image_seq_length
    slow = []
    for i, pairs in enumerate(rows):
        for question, answer in pairs:
            text = prompt(question) + f" {answer}"
            told = len(packer.tokenizer.encode(f" {answer}"))
            ids = torch.tensor([packer.tokenizer.encode(text.replace("<image>", repeated))])
            slow.append(model(input_ids=ids, pixel_values=pixels[i : i + 1]).logits[0, -told - 1 :])
    return (fast - torch.cat(slow)).abs().max().item()


@torch.no_grad()
def agreement(
    model: LlavaForConditionalGeneration,
    processor: ProcessorMixin,
    images: torch.Tensor,
    rows: list[Pairs],
) -> tuple[int, int]:
    """How many answers the two ways agree on, and how many there are."""
    ours = answers(model, processor.tokenizer, images, rows)
    same = total = 0
    for image, pairs, found in zip(images, rows, ours, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        for (question, _), answer in zip(pairs, found, strict=True):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            text = processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
            inputs = processor(images=picture, text=text, return_tensors="pt")
            made = model.generate(**inputs, do_sample=False)[0, inputs["input_ids"].shape[1] :]
            same += processor.decode(made, skip_special_tokens=True).strip() == answer
            total += 1
    return same, total
