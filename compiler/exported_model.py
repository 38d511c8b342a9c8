"""The exported model: parts, contract, processor and probes. The only thing passes see.

On disk it is a folder that any ONNX tool can open:

    model.json          schema, source, contract, file names
    vision.onnx ...     one file a part
    weights.bin         every large tensor of all parts, once
    tokenizer.json      as the tokenizers library reads it
    probes/             images and questions every pass is checked on, with the answer where known
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from pydantic import ValidationError

from edgevlm.compiler.beside import Probe, Processor, Source
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.weights import WeightWriter, load_graph, save_graph

__all__ = ["SCHEMA", "ExportedModel", "load_model", "save_model"]

SCHEMA = 1
MAX_JSON_BYTES = 16 * 2**20
MAX_TOKENIZER_BYTES = 64 * 2**20
MAX_PROBE_BYTES = 16 * 2**20
MAX_PROBE_PIXELS = 64_000_000


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
    text = json.dumps(record, indent=1, sort_keys=True)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


def load_model(folder: Path) -> ExportedModel:
    """Read and check an exported model. Raises EV100, EV101, EV102, EV105 or EV106."""
    from edgevlm.compiler.validate import validate

    record = _read_record(folder)
    try:
        contract = Contract.model_validate_json(json.dumps(record["contract"]))
        processor = Processor.model_validate(record["processor"])
        source = Source.model_validate(record["source"])
        parts = {role: load_graph(folder / f"{role}.onnx") for role in contract.roles}
        probes = tuple(_probe(folder, row) for row in record.get("probes", ()))
        tokenizer = _read_bytes(folder / "tokenizer.json", MAX_TOKENIZER_BYTES)
    except (KeyError, TypeError, ValueError, OSError) as error:  # pydantic's is a ValueError
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
        record = json.loads(_read_bytes(path, MAX_JSON_BYTES).decode())
        schema = record["schema"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise JobFault(
            "EV102",
            f"model.json of {folder.name} is broken",
            _first_problem(error),
            "export the model again",
        ) from error
    if type(schema) is not int or schema != SCHEMA:  # in Python, True == 1.0 == 1
        raise JobFault(
            "EV105",
            f"{folder.name} has model schema {schema}",
            f"this edgevlm reads schema {SCHEMA}",
            "pip install --upgrade edgevlm",
        )
    return record


def _probe(folder: Path, row: dict[str, Any]) -> Probe:
    name = str(row["image"])
    path = folder / "probes" / name
    if Path(name).name != name or path.is_symlink():
        raise ValueError(f"probe image {name!r} lies outside the model")
    pixels = _pixels(name, _read_bytes(path, MAX_PROBE_BYTES))
    return Probe(image=pixels, question=row["question"], answer=row.get("answer"))


def _pixels(name: str, data: bytes) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PROBE_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # a damaged PNG raises a dozen unrelated types
        raise ValueError(f"probe image {name!r}: {error}") from error


def _read_bytes(path: Path, limit: int) -> bytes:
    """A whole file; a pipe, which would block, or a device, which would never end, is none."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing")
    if path.stat().st_size > limit:
        raise ValueError(f"{path.name} is larger than {limit} bytes")
    return path.read_bytes()


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}"
    return f"{type(error).__name__}: {error}"
