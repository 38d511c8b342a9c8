"""What each layer of an engine is: a matrix product and in which type, fused attention, or hidden.

Seen in TensorRT-RTX 1.7.1 (SM86; fp8: SM89), blocks of a ViT and steps of a decoder:

    fp16         gemm  Half x Half; products fused with what follows are runtime_fusion `..Fc..`
    int8 Q/DQ    gemm  Int8 x Int8 -> Half, the scales in a kgen behind it
    int8, K axis runtime_fusion `CastMul..CastFc`  Int8 x Int8 -> Half: unpacked, computed in float
    int8 weights runtime_fusion `CastMulCastFc`  Half x Int8; or a kgen `CastMulCast` that unpacks
                 the whole matrix in every call, and a float product: nothing saved
    int4 blocks  the same with `ReplCastMulCastFc` and `ReplCastMulCast`
    fp8          gemm  FP8 x FP8 -> Half or Float
    one row      kgen `..MulSum..`: a product of one row, of float, int8 or int4 weights; int8 Q/DQ
                 stays gemm
    attention    kgen `_gemm_mha_v2`, only where it is fp16 (Int8 in and out where Q/DQ are there);
                 in fp32 two gemm and a softmax
    three projections of one input are one gemm, `to_v+to_k+to_q`

So products are counted by the nodes of the ONNX file that a layer covers, which its metadata names,
and not by layers. A type is that in which is multiplied, not that in which a tensor is kept.
"""

from __future__ import annotations

import re
from typing import Any, Iterable

from edgevlm.runtimes.tensorrt.on_device.layers import Row
from edgevlm.runtimes.tensorrt.on_device.products import Products

__all__ = ["kind_of", "product_type", "summary"]

#: element types of a product that is not computed in float, by the key of the summary
LOW = {"Int8": "int8", "FP8": "fp8", "FP4": "fp4"}
FLOATS = {"Half": "fp16", "BFloat16": "bf16", "Float": "fp32"}
PACKED = ("Int8", "Int4", "FP8", "FP4")
MHA = re.compile("mha|flash_?attention", re.IGNORECASE)
GENERATED = ("kgen", "runtime_fusion", "fused", "plugin")
#: a layer that is a whole subgraph, whose kernels are not listed
OPAQUE = re.compile(r"ForeignNode|^Myelin$", re.IGNORECASE)


def kind_of(row: Row, products: Products) -> str:
    """gemm, conv, mha, unpack (weights made float in every call), opaque, or other."""
    low = row["type"].lower()
    if MHA.search(row["tactic"]) or MHA.search(row["type"]):
        return "mha"
    if OPAQUE.search(row["name"]) or OPAQUE.search(row["type"]) or not row["type"]:
        return "opaque"
    # names are made of those of ONNX nodes, which may say mha or gemm of anything: of a norm in a
    # module of that name, say. So they count for generated kernels and plugins alone.
    if low.startswith(GENERATED) and MHA.search(row["name"]):
        return "mha"
    if "correlation" in low or "conv" in low:
        return "conv"
    if "gemm" in low or "matrixmultiply" in low or "matmul" in low or "gemm" in row["tactic"]:
        return "gemm"
    myelin = row["name"].split("_myl")
    fused = myelin[1] if row["name"].startswith("__myl") and len(myelin) > 1 else ""
    if "Fc" in fused:
        return "gemm"
    if "MulSum" in fused and _has_two_operands(row):
        seen = products.gemm.intersection(row["onnx"])
        return "gemm" if seen or not products.gemm else "other"
    if not row["inputs"] and any(_split(c)[0] in PACKED for c in row["consts"]):
        return "unpack" if row["outputs"] and _split(row["outputs"][0])[0] in FLOATS else "other"
    return "other"


def product_type(row: Row) -> str:
    """In which type a gemm multiplies: int8, fp8, fp4, fp16, bf16, fp32, or ? if not told.

    An integer operand is no integer product: where a Cast stands in front of the product in the
    name of a fused kernel, or the other operand is float, it was unpacked first.
    """
    operands = [*map(_split, row["inputs"]), *(_split(c) for c in row["consts"])]
    large = [(kind, size) for kind, size in operands if size > 1]
    types = {kind for kind, _ in large}
    if row["name"].startswith("__myl"):
        unpacked = re.search("Cast.*(?:Fc|Sum)", row["name"]) is not None
    else:
        unpacked = False
    for low, name in LOW.items():
        if types == {low} and not unpacked:
            return name
    largest = max(large, key=lambda operand: operand[1], default=("?", 0))[0]
    outputs = [_split(output)[0] for output in row["outputs"]]
    for kind in (largest, *outputs, *(k for k, _ in sorted(large, key=lambda o: -o[1]))):
        if kind in FLOATS:
            return FLOATS[kind]
    return "?"


def summary(rows: Iterable[Row], products: Products | None = None) -> dict[str, Any]:
    """Counts. A product counts once for every ONNX node that its kernel covers, else once.

    `gemm` is the sum of int8, fp8, fp4, fp16, bf16, fp32 and other; `int4_gemm` and
    `int8_weights` say what the weights are kept in, and are float products besides. `unseen`:
    products of the network that no layer names, which a hidden layer may hold.
    """
    rows, products = list(rows), products or Products()
    known = products.gemm | products.conv
    kinds = {id(row): kind_of(row, products) for row in rows}
    covered = {name for row in rows if kinds[id(row)] in ("gemm", "mha") for name in row["onnx"]}
    for row in rows:  # a product that only an unknown kernel names is in that kernel
        if kinds[id(row)] == "other" and _has_two_operands(row):
            left = products.gemm.intersection(row["onnx"]) - covered
            if left:
                kinds[id(row)], covered = "gemm", covered | left
    keys = [f"{name}_gemm" for name in ("int8", "fp8", "fp4", "int4", "fp16", "bf16", "fp32")]
    counts: dict[str, Any] = dict.fromkeys(
        ("layers", "gemm", "gemm_layers", "conv", *keys, "other_gemm", "int8_weights", "mha"), 0
    )
    counts.update(unpacked=0, opaque=0, layers=len(rows))
    attention: dict[str, int] = {}
    for row in rows:
        kind = kinds[id(row)]
        if kind == "gemm":
            counts["gemm_layers"] += 1
            times = len(products.gemm.intersection(row["onnx"])) or 1
            counts["gemm"] += times
            done = product_type(row)
            counts["other_gemm" if done == "?" else f"{done}_gemm"] += times
            kept = {_split(t)[0] for t in (*row["consts"], *row["inputs"])}
            if "Int4" in kept:
                counts["int4_gemm"] += times
            elif "Int8" in kept and done != "int8":
                counts["int8_weights"] += times
        elif kind == "mha":
            counts["mha"] += 1
            ends = [[_split(t)[0] for t in row[side]] for side in ("inputs", "outputs")]
            told = " -> ".join(",".join(side) for side in ends)
            attention[told] = attention.get(told, 0) + 1
        elif kind in ("conv", "opaque"):
            counts[kind] += 1
        elif kind == "unpack":
            counts["unpacked"] += 1
    told_of = {name for row in rows for name in row["onnx"]}
    counts["unseen"] = len(known - told_of)
    counts["mha_io"] = attention
    return counts


def _split(tensor: str) -> tuple[str, int]:
    """ "Half[1,64,64]" -> its type and number of elements."""
    kind, _, dims = tensor.partition("[")
    size = 1
    for dim in re.findall(r"-?\d+", dims):
        size *= abs(int(dim))
    return kind, size


def _has_two_operands(row: Row) -> bool:
    """A sum over the square of one tensor has one operand of several numbers, a product two."""
    return sum(_split(t)[1] > 1 for t in (*row["inputs"], *row["consts"])) > 1
