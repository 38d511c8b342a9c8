"""What XNNPACK's kernels compute with, by the names that they have in an ETDump.

    Fully Connected (NC, QDU8, F32, QB4W) GEMM #3
    kind             layout, types of       which kernel of it, and the how-manieth of its kind in
                     input, output, weights the delegate call

Types by letter: F32, F16, BF16 are floats; QS8, QU8 int8 with a scale for the tensor, fixed at
compile time; QD8, QDU8, QP8 int8 with scales found while it runs; QC8W, QC4W weights with a scale a
channel, QB4W a block; a P in front says packed, X8 to X32 that bits are only moved. All names:
https://github.com/google/XNNPACK/blob/master/src/xnnpack/operator-type-defs.inc. On x86-64 dynamic
activations are QDU8, on Arm QD8 or QP8; seen here: F32, F16, QS8 QC8W, QDU8 QC8W, QDU8 QB4W.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

__all__ = ["KernelName", "dtype_class", "kernel_counts", "split_kernel"]

#: kinds that multiply: by these a quantised model is judged
PRODUCTS = (
    "Fully Connected",
    "Dynamic Fully Connected",
    "Convolution",
    "Deconvolution",
    "Batch Matrix Multiply",
    "Scaled Dot-Product Attention",
)
#: of the inputs, with int8 weights
DYNAMIC, STATIC, FLOATS = (
    {"QD8", "QDU8", "QP8"},
    {"QS8", "QU8", "PQS8", "QC8"},
    {"F32": "fp32", "PF32": "fp32", "F16": "fp16", "PF16": "fp16", "BF16": "bf16"},
)
_NAME = re.compile(r"(?P<kind>[^()#]+)(?:\((?P<types>[^()]*)\))?(?P<kernel>[^()#]*)(?:#\d+)?")


class KernelName(NamedTuple):
    kind: str  # Fully Connected
    types: tuple[str, ...]  # QDU8, F32, QB4W; without the layout
    kernel: str  # GEMM, or ""


class Timed(Protocol):
    @property
    def event(self) -> str: ...


def split_kernel(event: str) -> KernelName:
    """Of any name; what does not look like XNNPACK's is a kind without types."""
    found = _NAME.fullmatch(event)
    if found is None:
        return KernelName(event, (), "")
    words = [word.strip() for word in (found["types"] or "").split(",")]
    types = tuple(word for word in words if _is_type(word))
    return KernelName(found["kind"].strip(), types, found["kernel"].strip())


def dtype_class(event: str) -> str | None:
    """fp32, fp16, bf16, int8-static, int8-dynamic, int8-weights, int4-block, int4-channel,
    int4-weights (-weights: float inputs); None where the name says no type of arithmetic."""
    types = split_kernel(event).types
    if not types:
        return None
    first, last = types[0], types[-1]
    if last in ("QB4W", "QC4W"):
        wide = "block" if last == "QB4W" else "channel"
        return "int4-weights" if first in FLOATS else f"int4-{wide}"
    if first in DYNAMIC:
        return "int8-dynamic"
    if first in STATIC:
        return "int8-static"
    if first in FLOATS:
        return "int8-weights" if last == "QC8W" else FLOATS[first]
    return None


def kernel_counts(rows: Iterable[Timed]) -> Mapping[str, int]:
    """Products by `dtype_class`, each kernel once however often it ran; commonest first."""
    found = Counter(
        kind
        for row in rows
        if split_kernel(row.event).kind in PRODUCTS and (kind := dtype_class(row.event))
    )
    return dict(found.most_common())


def _is_type(word: str) -> bool:
    """NC, NHWC, ND and the like are layouts."""
    return bool(re.fullmatch(r"P?(Q[A-Z]*|B?F|X|S|U)\d+W?", word))
