"""A checkpoint's processor as plain data: image settings, prompt, end tokens, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevlm.compiler.beside import Processor
from edgevlm.compiler.errors import JobFault
from edgevlm.models.processing.preprocess import ImageProcessor

if TYPE_CHECKING:
    from edgevlm.models.hf.family import Family

__all__ = ["read_config", "read_processor"]

_QUESTION = "edgevlm question goes here"
MAX_CONFIG_BYTES = 16 * 2**20


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON object of a checkpoint. Raises EV109."""
    path = folder / name
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("is larger than 16 MiB")
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError("is not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise JobFault(
            "EV109",
            f"{name} of {folder.name} cannot be read",
            str(error),
            "download or save the checkpoint again",
        ) from error
    return value


def read_processor(folder: Path, family: Family) -> tuple[bytes, Processor]:
    """tokenizer.json and the rest. Raises EV103 (image processor), EV109 (tokenizer)."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        data = (folder / "tokenizer.json").read_bytes()
    except Exception as error:
        raise JobFault(
            "EV109",
            f"the tokenizer of {folder.name} cannot be read",
            str(error)[:300],
            "the folder must hold tokenizer.json and tokenizer_config.json",
        ) from error
    image = ImageProcessor.from_hf(family.image_config(_image_config(folder)))
    return data, Processor(
        image=image.model_dump(mode="json"),
        template=_template(folder, tokenizer, family),
        image_token=family.image_token,
        eos_ids=_eos(folder, tokenizer),
    )


def _image_config(folder: Path) -> dict[str, Any]:
    """transformers 5 nests the image processor; older checkpoints have a file of its own."""
    if (folder / "preprocessor_config.json").is_file():
        return read_config(folder, "preprocessor_config.json")
    return read_config(folder, "processor_config.json").get("image_processor", {})


def _template(folder: Path, tokenizer: Any, family: Family) -> str:
    """The chat template, rendered for one image and one question."""
    path = folder / "chat_template.jinja"
    source = path.read_text() if path.is_file() else tokenizer.chat_template
    if not source:
        return f"{family.image_token}\n{{question}}"
    content = [{"type": "image"}, {"type": "text", "text": _QUESTION}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=source,
        add_generation_prompt=True,
        tokenize=False,
    )
    if family.image_text:
        text = text.replace(family.image_token, family.image_text)
    return text.replace(_QUESTION, "{question}")


def _eos(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    path = folder / "generation_config.json"
    found = read_config(folder, path.name).get("eos_token_id") if path.is_file() else None
    found = tokenizer.eos_token_id if found is None else found
    return tuple(found) if isinstance(found, list) else (int(found),)
