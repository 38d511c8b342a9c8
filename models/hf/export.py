"""torch module -> one part: ONNX opset 23 with the port names of the contract, static shapes."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx_ir as ir
import torch

from edgevlm.compiler.contract import Port
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.shapes import infer_shapes
from edgevlm.models.hf import OPSET

__all__ = ["export_part"]

_DTYPES = {"FLOAT": torch.float32, "INT64": torch.int64, "BOOL": torch.bool}


def export_part(
    role: str, module: torch.nn.Module, inputs: Sequence[Port], outputs: Sequence[Port]
) -> ir.Model:
    """Trace `module` on zeros of the contract's shapes. Raises EV108 with the exporter's reason."""
    example = tuple(torch.zeros(p.shape, dtype=_DTYPES[p.dtype]) for p in inputs)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                example,
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
                input_names=[p.name for p in inputs],
                output_names=[p.name for p in outputs],
            )
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise JobFault(
            "EV108",
            f"part {role} cannot be exported to ONNX",
            f"{type(error).__name__}: {reason[:300]}",
            "edgevlm doctor  compares torch, transformers and onnxscript with the tested versions",
        ) from error
    model = program.model
    _strip(model)
    return infer_shapes(model)


def _strip(model: ir.Model) -> None:
    """Drop stack traces and paths of the exporting machine: same weights, same bytes."""
    model.producer_name, model.producer_version, model.doc_string = "edgevlm", None, None
    model.metadata_props.clear()
    model.graph.doc_string = None
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter narrates on stdout and through logging; stdout is ours for JSON."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
