"""The exported model: parts, contract, processor and probes. The only thing passes see.

On disk it is a folder that any ONNX tool can open:

    model.json          schema, source, contract, file names
    vision.onnx ...     one file a part
    weights.bin         every large tensor of all parts, once
    tokenizer.json      as the tokenizers library reads it
    probes/             images and questions every pass is checked on, with the answer where known
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.weights import WeightWriter, load_graph, save_graph

__all__ = ["SCHEMA", "ExportedModel", "Probe", "Processor", "Source", "load_model", "save_model"]

SCHEMA = 1
MAX_JSON_BYTES = 16 * 2**20


class Source(BaseModel):
    """Where a model came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=200)
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")  # of what the user handed over
    licence: str | None = None


class Processor(BaseModel):
    """How pictures and words become tensors; read by `models/processing`, opaque to passes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: dict[str, Any]  # fields of models.processing.preprocess.ImageProcessor
    template: str = Field(max_length=65536)  # the prompt, with the image token and {question}
    image_token: str = Field(min_length=1, max_length=64)
    bos_id: int | None = None
    eos_ids: tuple[int, ...]
    class_names: tuple[str, ...] = ()


class Probe(BaseModel):
    """One image and question that every pass is checked on."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    image: np.ndarray  # uint8 [H,W,3]
    question: str = Field(max_length=4096)
    answer: str | None = None  # the label, where there is one


@dataclass(frozen=True)
class ExportedModel:
    """Parts by role, and what a caller must know to use them. Passes return a new one."""

    contract: Contract
    parts: dict[Role, ir.Model]
    processor: Processor
    tokenizer: bytes  # tokenizer.json
    source: Source
    probes: tuple[Probe, ...] = field(default=())

    def with_parts(self, contract: Contract | None = None, **parts: ir.Model) -> ExportedModel:
        """A copy with some parts (and the contract) exchanged."""
        return replace(self, contract=contract or self.contract, parts={**self.parts, **parts})

    def clone(self) -> ExportedModel:
        """A copy whose graphs may be edited; tensors are shared, not copied."""
        return replace(self, parts={role: part.clone() for role, part in self.parts.items()})


def save_model(model: ExportedModel, folder: Path) -> None:
    """Write an exported model into an existing empty folder."""
    from PIL import Image

    with WeightWriter(folder) as writer:
        for role, part in model.parts.items():
            save_graph(part, folder / f"{role}.onnx", writer)
    (folder / "tokenizer.json").write_bytes(model.tokenizer)
    rows = []
    if model.probes:
        (folder / "probes").mkdir()
    for i, probe in enumerate(model.probes):
        name = f"{i:03d}.png"
        Image.fromarray(probe.image).save(folder / "probes" / name)
        rows.append({"image": name, "question": probe.question, "answer": probe.answer})
    record = {
        "schema": SCHEMA,
        "source": model.source.model_dump(),
        "contract": model.contract.model_dump(),
        "processor": model.processor.model_dump(),
        "parts": {role: f"{role}.onnx" for role in model.parts},
        "probes": rows,
    }
    (folder / "model.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def load_model(folder: Path) -> ExportedModel:
    """Read and check an exported model. Raises EV100, EV101, EV102 or EV105 naming what is wrong."""
    from edgevlm.compiler.validate import validate

    record = _read_record(folder)
    try:
        contract = Contract.model_validate_json(json.dumps(record["contract"]))
        processor = Processor.model_validate(record["processor"])
        source = Source.model_validate(record["source"])
        parts = {role: load_graph(folder / f"{role}.onnx") for role in contract.roles}
        probes = tuple(_probe(folder, row) for row in record.get("probes", ()))
        tokenizer = (folder / "tokenizer.json").read_bytes()
    except (KeyError, TypeError, ValidationError, OSError) as error:
        raise JobFault(
            "EV102",
            f"model.json of {folder.name} does not describe a model",
            _first_problem(error),
            "export the model again",
        ) from error
    model = ExportedModel(contract, parts, processor, tokenizer, source, probes)
    validate(model)
    return model


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    if not path.is_file():
        raise JobFault(
            "EV100",
            f"{folder} is not a model",
            "it has no model.json",
            "edgevlm compile --help  lists the kinds of source a model can come from",
        )
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"larger than {MAX_JSON_BYTES} bytes")
        record = json.loads(path.read_text())
        schema = record["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise JobFault(
            "EV102",
            f"model.json of {folder.name} is broken",
            _first_problem(error),
            "export the model again",
        ) from error
    if schema != SCHEMA:
        raise JobFault(
            "EV105",
            f"{folder.name} has model schema {schema}",
            f"this edgevlm reads schema {SCHEMA}",
            "pip install --upgrade edgevlm",
        )
    return record


def _probe(folder: Path, row: dict[str, Any]) -> Probe:
    from PIL import Image

    name = str(row["image"])
    if Path(name).name != name:
        raise KeyError(f"probe image {name!r} lies outside the model")
    with Image.open(folder / "probes" / name, formats=["PNG"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Probe(image=pixels, question=row["question"], answer=row.get("answer"))


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}"
    return f"{type(error).__name__}: {error}"
