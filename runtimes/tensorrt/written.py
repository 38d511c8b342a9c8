"""A part as TensorRT's parser takes it: a strongly typed graph of ops that a release knows.

    int8 tables -> float16 tables        short blocks of weights -> two products
    Attention -> products and a softmax  RMSNormalization, RotaryEmbedding, Swish -> their parts
    Quantize, Dequantize -> zero points and axes said      opset -> the release's

What it computes stays the same to rounding; which types it computes in is the pass cast-half's.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.attention import grouped_attention
from edgevlm.compiler.axes.rules import RULES
from edgevlm.compiler.legalise import legalise_part
from edgevlm.compiler.whole_blocks import whole_blocks
from edgevlm.runtimes.base import Capabilities
from edgevlm.runtimes.tensorrt.aim import Aim
from edgevlm.runtimes.tensorrt.linear import as_parsed, least_opset
from edgevlm.runtimes.tensorrt.refusals import refuse
from edgevlm.runtimes.tensorrt.spell_out import spell_out
from edgevlm.runtimes.tensorrt.tables import as_float_tables

__all__ = ["DTYPES", "capabilities_of", "written"]

DTYPES = frozenset(
    {"FLOAT", "FLOAT16", "INT64", "INT32", "INT8", "INT4", "FLOAT8E4M3FN", "UINT8", "BOOL"}
)


def capabilities_of(aim: Aim) -> Capabilities:
    """What the legaliser lets through for a chip and a release."""
    return Capabilities(opset=23, ops=frozenset(RULES) - aim.lacks, dtypes=DTYPES)


def written(role: str, part: ir.Model, aim: Aim) -> ir.Model:
    """A copy of the part. Raises EV303 naming part, node and limit."""
    part = grouped_attention(whole_blocks(as_float_tables(part)), None)
    part = as_parsed(spell_out(part, aim.lacks))
    if part.opset_imports.get("", 0) > aim.opset:
        part.opset_imports[""] = max(aim.opset, least_opset(part))
    legalise_part(role, part, f"TensorRT {aim.tensorrt}", capabilities_of(aim))
    refuse(role, part, aim)
    return part
