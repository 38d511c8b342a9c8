"""Write a checkpoint folder: fp16 safetensors and every file that transformers' loaders want."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from edgevlm.models.zoo.training.processor import build_processor
from edgevlm.models.zoo.training.spec import Spec

__all__ = ["rounded", "write"]


def rounded(model: LlavaForConditionalGeneration) -> LlavaForConditionalGeneration:
    """A float32 copy whose weights are exactly those that `write` stores."""
    return copy.deepcopy(model).to(torch.float16).to(torch.float32).eval()


def write(
    spec: Spec,
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
) -> None:
    """Save into a neighbour folder, then move file by file: a reader never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as name:
        made = Path(name)
        copy.deepcopy(model).to(torch.float16).save_pretrained(made)
        processor = build_processor(spec, tokenizer)
        processor.save_pretrained(made)
        processor.image_processor.save_pretrained(made)  # the name that older loaders look for
        settings = json.loads((made / "tokenizer_config.json").read_text())
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # known to transformers 4 and 5
        (made / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
        for path in made.iterdir():
            path.chmod(0o644)
            path.replace(folder / path.name)
