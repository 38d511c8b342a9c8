"""A bare ONNX file of an image model -> exported model, and the proof that it computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir as ir
from pydantic import ValidationError

from edgevlm.compiler.beside import Processor, Source
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.validate import validate
from edgevlm.compiler.verify import EXACT_FLOOR_DB
from edgevlm.models.onnx.opset import to_opset
from edgevlm.models.onnx.ports import choose_output, fix_input, kind_of, name_ports
from edgevlm.models.onnx.read import digest, read_onnx
from edgevlm.models.onnx.sidecar import DEFAULTS, Sidecar, broken, read_sidecar, sidecar_path
from edgevlm.models.onnx.static import make_static
from edgevlm.models.onnx.tokens import token_grid
from edgevlm.models.probes import drawn_probes
from edgevlm.models.processing.preprocess import ImageProcessor

__all__ = ["import_onnx"]

OUTPUTS = {"classifier": "logits", "dense": "map"}
PROOFS = 2  # drawn pictures that both sides are shown
#: one rounding to float16 is 73 dB of noise; a few hundred of them, at other places, are this
HALF_FLOOR_DB = 45.0
HALF = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def import_onnx(path: Path) -> ExportedModel:
    """One part, `vision`: static, at the opset of all parts, under the contract's names.

    Raises EV101 (no sound ONNX), EV140 (no image model), EV141 (sidecar), EV142 (no static shapes,
    or an op without a converter), EV143 (what came out computes something else).
    """
    found = read_sidecar(path)
    sidecar = found or Sidecar()
    model = read_onnx(path)
    total = digest(path, model, sidecar_path(path) if found else None)
    choose_output(path, model.graph, sidecar)
    height, width = fix_input(path, model.graph, sidecar)
    as_it_is = model.clone()
    make_static(path, model)
    to_opset(path, model)
    make_static(path, model)  # what the converter wrote
    kind = kind_of(path, model.graph)
    name_ports(model, OUTPUTS[kind])
    contract = _contract(kind, model.graph, height, width)
    image = _image(path, sidecar, height, width)
    _check_labels(path, sidecar, contract)
    source = Source(name=path.stem[:200], digest=total, notes=_notes(path, found, height, width))
    imported = ExportedModel(
        contract,
        {"vision": model},
        Processor(
            image=image,
            template="<image>{question}",  # nobody asks it anything
            image_token="<image>",
            eos_ids=(),
            class_names=sidecar.labels,
        ),
        b"",
        source,
    )
    validate(imported)
    _prove(path, as_it_is, model, ImageProcessor(**image))
    return imported


def _contract(kind: Any, graph: ir.Graph, height: int, width: int) -> Contract:
    grid, out = token_grid(graph), [int(d) for d in graph.outputs[0].shape]
    count = grid.rows * grid.columns
    sizes = dict(zip(("map_channels", "map_height", "map_width"), out[1:], strict=False))
    none = dict.fromkeys(
        ("prompt_capacity", "kv_capacity", "width", "layers", "kv_heads", "head_dim"), 1
    )
    return Contract(
        kind=kind,
        family="onnx",
        image_height=height,
        image_width=width,
        grid=(grid.rows, grid.columns),
        vision_tokens=grid.stream,
        vision_width=grid.width,
        image_tokens=count,
        kept_image_tokens=count,
        vocabulary=out[1],
        **none,
        **(sizes if kind == "dense" else {}),
    )


def _image(path: Path, sidecar: Sidecar, height: int, width: int) -> dict[str, Any]:
    try:
        return sidecar.processor(height, width)
    except ValidationError as error:
        first = error.errors()[0]
        raise broken(
            sidecar_path(path), f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error


def _check_labels(path: Path, sidecar: Sidecar, contract: Contract) -> None:
    classes = contract.vocabulary
    if sidecar.labels and len(sidecar.labels) != classes:
        raise broken(
            sidecar_path(path),
            f"it has {len(sidecar.labels)} labels, {path.name} gives {classes} "
            f"{'classes' if contract.kind == 'classifier' else 'channels'}",
        )


def _notes(path: Path, sidecar: Sidecar | None, height: int, width: int) -> tuple[str, ...]:
    """What was taken for granted, since nothing said otherwise."""
    beside = sidecar_path(path).name
    if sidecar is None:
        return (
            f"no {beside} beside {path.name}: a picture is stretched to {height} x {width}, "
            "x / 255, ImageNet mean and standard deviation",
        )
    missing = [name for name in DEFAULTS if name not in sidecar.image]
    said = ", ".join(f"{name} {DEFAULTS[name]}" for name in missing)
    return (f"{beside} leaves out, and so was taken: {said}",) if missing else ()


def _prove(path: Path, source: ir.Model, part: ir.Model, process: ImageProcessor) -> None:
    """The file, as it is, and the part, on the same pictures. Raises EV142, EV143."""
    stored = [*source.graph.inputs, *source.graph.initializers.values()]
    floor = HALF_FLOOR_DB if any(v.dtype in HALF for v in stored) else EXACT_FLOOR_DB
    try:
        theirs = open_session(source)
        ours = open_session(part)
        for probe in drawn_probes(PROOFS):
            pixels = process(probe.image)
            given = source.graph.inputs[0]
            fed = {given.name: pixels.astype(given.dtype.numpy())}
            (want,), (got,) = theirs.run(None, fed), ours.run(None, {"pixel_values": pixels})
            drift = measure(want, got, path.name)
            if not drift.sqnr_db >= floor:
                raise JobFault(
                    "EV143",
                    f"{path.name} computes something else once it is imported",
                    f"SQNR {drift.sqnr_db:.1f} dB between the file and its import, under "
                    f"{floor:.0f} dB",
                    "export the model again with opset_version=23, and please report this",
                )
    except JobFault as fault:
        if fault.code == "EV143":
            raise
        raise _does_not_run(path, fault.why) from fault
    except Exception as error:  # ONNX Runtime has a class of its own for each status
        raise _does_not_run(path, str(error)) from error


def _does_not_run(path: Path, why: str) -> JobFault:
    return JobFault(
        "EV142",
        f"{path.name} does not run in ONNX Runtime",
        (why.strip().splitlines() or ["no reason given"])[0][:300],
        "edgevlm doctor  shows the version; export the model again for one picture",
    )
