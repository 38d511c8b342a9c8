"""A checkpoint folder, as `save_pretrained` writes it -> exported model (needs the torch extra).

Nothing in the folder is executed: weights are read from safetensors only, `trust_remote_code` stays
off, and the chat template is rendered once, in transformers' sandbox, into a plain string.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from edgevlm.compiler.beside import Source
from edgevlm.compiler.cache import cached_folder
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import SCHEMA, ExportedModel, load_model, save_model
from edgevlm.compiler.extras import torch_extra
from edgevlm.models.hf import FAMILIES, OPSET
from edgevlm.models.hf.processor import read_config, read_processor

if TYPE_CHECKING:
    from edgevlm.models.hf.family import Family, Organs

__all__ = ["Capacity", "export_checkpoint"]


@dataclass(frozen=True)
class Capacity:
    """Static lengths a compile fixes. Units: tokens."""

    prompt: int = 64  # text tokens of a prompt, the template's included
    answer: int = 32  # tokens an answer to the longest prompt may have


def export_checkpoint(folder: Path, capacity: Capacity | None = None) -> ExportedModel:
    """HF folder -> five static parts at opset 23, memory-mapped from the cache.

    Parts are exported and written one by one, so that no two are in memory at once. The same
    checkpoint with the same capacity and versions is exported once. Raises EV103 (image processor),
    EV107 (unknown family), EV109 (broken checkpoint), EV190 (no torch extra).
    """
    capacity = capacity or Capacity()
    config = read_config(folder)
    family = _family(folder, str(config.get("model_type", "unnamed")))
    digest = _digest(folder)
    made_from = [
        digest,
        SCHEMA,
        OPSET,
        capacity,
        folder.resolve().name,
        *(version(name) for name in ("edgevlm", "torch", "transformers", "onnxscript")),
    ]
    key = hashlib.sha256(repr(made_from).encode()).hexdigest()[:32]
    return load_model(
        cached_folder(
            "exported", key, lambda draft: _export(folder, family, capacity, digest, draft)
        )
    )


def _export(folder: Path, family: Family, capacity: Capacity, digest: str, draft: Path) -> None:
    """Write the exported model of a checkpoint into an empty folder."""
    model = _load(folder, family)
    organs = family.organs(model)
    contract = _contract(family, organs, model, capacity)
    tokenizer, processor = read_processor(folder, family)
    source = Source(name=folder.resolve().name, digest=digest)
    save_model(
        ExportedModel(contract, _Parts(organs, contract), processor, tokenizer, source), draft
    )


def _family(folder: Path, model_type: str) -> Family:
    if model_type not in FAMILIES:
        raise UsageFault(
            "EV107",
            f"{folder.name} is of the family {model_type!r}",
            f"known families: {', '.join(sorted(FAMILIES))}",
            "see CONTRIBUTING.md, 'add a model family'",
        )
    module, name = FAMILIES[model_type]
    with torch_extra("a Hugging Face checkpoint needs torch and transformers"):
        return getattr(importlib.import_module(module), name)


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


class _Parts(Mapping[Role, ir.Model]):
    """The parts of a torch model, each exported when it is asked for and kept by nobody."""

    def __init__(self, organs: Organs, contract: Contract) -> None:
        from edgevlm.models.hf.parts import DecodePart, EmbedPart, PrefillPart

        self.contract = contract
        self.modules = {
            "vision": organs.vision,
            "connector": organs.connector,
            "embed": EmbedPart(organs.language.embed_tokens),
            "prefill": PrefillPart(organs.language, organs.head),
            "decode": DecodePart(organs.language, organs.head),
        }

    def __getitem__(self, role: Role) -> ir.Model:
        from edgevlm.models.hf.export import export_part

        contract = self.contract
        return export_part(role, self.modules[role], contract.inputs(role), contract.outputs(role))

    def __iter__(self) -> Iterator[Role]:
        return iter(self.modules)

    def __len__(self) -> int:
        return len(self.modules)


def _digest(folder: Path) -> str:
    """sha256 over names and contents of the files that matter, in name order."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja", ".model") and path.is_file():
            with path.open("rb") as file:
                total.update(f"{path.name}\0".encode())
                total.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()}"
