"""A checkpoint folder, as `save_pretrained` writes it -> exported model (needs the torch extra).

Nothing in the folder is executed: weights are read from safetensors only, `trust_remote_code` stays
off, and the chat template is rendered once, in transformers' sandbox, into a plain string.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel, Processor, Source
from edgevlm.compiler.validate import validate
from edgevlm.models.hf import FAMILIES
from edgevlm.models.processing.preprocess import ImageProcessor

if TYPE_CHECKING:
    from edgevlm.models.hf.family import Family, Organs

__all__ = ["Capacity", "export_checkpoint", "read_config"]

_QUESTION = "edgevlm question goes here"
MAX_CONFIG_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Capacity:
    """Static lengths a compile fixes. Units: tokens."""

    prompt: int = 64  # text tokens of a prompt, the template's included
    answer: int = 32  # tokens an answer to the longest prompt may have


def export_checkpoint(folder: Path, capacity: Capacity | None = None) -> ExportedModel:
    """HF folder -> five static parts at opset 23.

    Raises EV103 (image processor), EV107 (unknown family), EV109 (broken checkpoint), EV190 (no
    torch extra).
    """
    capacity = capacity or Capacity()
    config = read_config(folder)
    family = _family(folder, str(config.get("model_type")))
    model = _load(folder, family)
    organs = family.organs(model)
    contract = _contract(family, organs, model, capacity)
    tokenizer, processor = _processor(folder, family)
    exported = ExportedModel(
        contract=contract,
        parts=_parts(organs, contract),
        processor=processor,
        tokenizer=tokenizer,
        source=Source(name=folder.resolve().name, digest=_digest(folder)),
    )
    validate(exported)
    return exported


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON object of a checkpoint. Raises EV109."""
    path = folder / name
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("is larger than 16 MiB")
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError("is not a JSON object")
    except (OSError, ValueError) as error:
        raise JobFault(
            "EV109",
            f"{name} of {folder.name} cannot be read",
            str(error),
            "download or save the checkpoint again",
        ) from error
    return value


def _family(folder: Path, model_type: str) -> Family:
    if model_type not in FAMILIES:
        raise UsageFault(
            "EV107",
            f"{folder.name} is of the family {model_type!r}",
            f"known families: {', '.join(sorted(FAMILIES))}",
            "see CONTRIBUTING.md, 'add a model family'",
        )
    module, name = FAMILIES[model_type]
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise JobFault(
            "EV190",
            "a Hugging Face checkpoint needs torch and transformers",
            str(error),
            "pip install 'edgevlm[torch]'",
        ) from error


def _load(folder: Path, family: Family) -> Any:
    import torch
    import transformers
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from edgevlm.models.hf.parts import ATTENTION, grouped_attention

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, grouped_attention)
    transformers.utils.logging.disable_progress_bar()
    try:
        model = getattr(transformers, family.class_name).from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation={"": "sdpa", "text_config": ATTENTION},
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise JobFault(
            "EV109",
            f"checkpoint {folder.name} cannot be loaded",
            f"{type(error).__name__}: {reason[:300]}",
            "download or save the checkpoint again (safetensors)",
        ) from error
    return model.eval()


def _contract(family: Family, organs: Organs, model: Any, capacity: Capacity) -> Contract:
    text = model.config.get_text_config()
    tokens = organs.image_tokens
    heads = text.num_attention_heads
    return Contract(
        family=family.name,
        image_height=organs.image_size[0],
        image_width=organs.image_size[1],
        grid=organs.grid,
        vision_tokens=organs.vision_tokens,
        vision_width=organs.vision_width,
        image_tokens=tokens,
        kept_image_tokens=tokens,
        prompt_capacity=capacity.prompt,
        kv_capacity=tokens + capacity.prompt + capacity.answer,
        width=text.hidden_size,
        layers=text.num_hidden_layers,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        vocabulary=organs.head.out_features,
    )


def _parts(organs: Organs, contract: Contract) -> dict:
    from edgevlm.models.hf.export import export_part
    from edgevlm.models.hf.parts import DecodePart, EmbedPart, PrefillPart

    modules = {
        "vision": organs.vision,
        "connector": organs.connector,
        "embed": EmbedPart(organs.language.embed_tokens),
        "prefill": PrefillPart(organs.language, organs.head),
        "decode": DecodePart(organs.language, organs.head),
    }
    return {
        role: export_part(role, module, contract.inputs(role), contract.outputs(role))
        for role, module in modules.items()
    }


def _processor(folder: Path, family: Family) -> tuple[bytes, Processor]:
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


def _digest(folder: Path) -> str:
    """sha256 over names and contents of the files that matter, in name order."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja", ".model") and path.is_file():
            with path.open("rb") as file:
                total.update(f"{path.name}\0".encode())
                total.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()}"
