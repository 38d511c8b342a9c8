"""Hold the two shortcuts of this folder against the long way round, on a finished checkpoint.

    python -m edgevlm.models.zoo.easyvqa.check CHECKPOINT

1. Training packs all questions of an image into one row: its logits are compared with those of
   one ordinary forward a question.
2. Evaluation makes ids and pixels itself: its answers are compared with those of AutoProcessor,
   chat template, pictures in PIL form, and `generate`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration, ProcessorMixin

from edgevlm.models.zoo.easyvqa import config, data, evaluate, packing

__all__ = ["agreement", "packing_gap"]


@torch.no_grad()
def packing_gap(
    model: LlavaForConditionalGeneration,
    packer: packing.Packer,
    images: torch.Tensor,
    rows: list[evaluate.Pairs],
) -> float:
    """Largest difference of a logit between packed rows and separate prompts."""
    packed = packer.pack(rows)
    pixels = data.normalise(images)
    seen = model.model.vision_tower(pixels).last_hidden_state[:, 1:]
    fast = packing.answer_logits(model, seen, packed)
    slow = []
    for i, pairs in enumerate(rows):
        for question, answer in pairs:
            text = config.prompt(question) + f" {answer}"
            told = len(packer.tokenizer.encode(f" {answer}"))
            text = text.replace("<image>", "<image>" * config.IMAGE_TOKENS)
            ids = torch.tensor([packer.tokenizer.encode(text)])
            slow.append(model(input_ids=ids, pixel_values=pixels[i : i + 1]).logits[0, -told - 1 :])
    return (fast - torch.cat(slow)).abs().max().item()


@torch.no_grad()
def agreement(
    model: LlavaForConditionalGeneration,
    processor: ProcessorMixin,
    images: torch.Tensor,
    rows: list[evaluate.Pairs],
) -> tuple[int, int]:
    """How many answers the two ways agree on, and how many there are."""
    ours = evaluate.answers(model, processor.tokenizer, images, rows)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, help="default: the installed easy-vqa package")
    parser.add_argument("--images", type=int, default=21, help="of the test split")
    args = parser.parse_args()
    model = LlavaForConditionalGeneration.from_pretrained(args.checkpoint, dtype=torch.float32)
    model.eval()
    processor = AutoProcessor.from_pretrained(args.checkpoint)
    images, rows = data.read_split(args.data or data.installed_data(), "test")
    images, rows = images[: args.images], rows[: args.images]
    gap = packing_gap(model, packing.Packer(processor.tokenizer), images, rows)
    same, total = agreement(model, processor, images, rows)
    print(json.dumps({"packing_gap": gap, "same_answers": same, "questions": total}))


if __name__ == "__main__":
    main()
