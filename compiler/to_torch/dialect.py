"""How a part is written in torch: for gradients, or for one of the tools that take torch.export.

Every tool reads some forms of a thing as one kernel and others as many, or not at all. What a
runtime wants is said here and nowhere else in the bridge; the ops look it up (`node.dialect`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["GRADIENTS", "Dialect"]


@dataclass(frozen=True)
class Dialect:
    #: MatMul and Gemm with stored weights, and their bias, as aten.linear with weights [N,K]
    linear: bool = False
    #: Q/DQ as arithmetic, or as ops that tools know for it: of quantized_decomposed and torchao, or
    #: of Apple's coreai-torch
    quantised: Literal["spelled", "decomposed", "coreai"] = "spelled"
    #: stored codes stay codes for products with rounded inputs, or wherever they are; else floats
    codes: Literal["integer", "all"] = "integer"
    #: weights in lookup tables are gathered, or one op: of Apple's coreai-torch, or ours
    tables: Literal["gathered", "op"] = "gathered"
    #: TensorScatter: rows put in place (index_copy), or added as one-hot products (no scatter)
    cache: Literal["index", "mask"] = "index"
    #: of rows that may look at nothing: zeros, as ONNX has it, or whatever comes of it; the last
    #: not written out, but as scaled_dot_product_attention
    attention: Literal["safe", "plain", "sdpa"] = "safe"
    #: products of 4-D values as torch has them, or of 3-D ones, which no tool copies first
    batched: Literal["matmul", "bmm"] = "matmul"
    #: means of normalisations as ops of torch, or as products with ones/n, where those are kernels;
    #: or squares within a LayerNormalization, which sums them in float32 where numbers are float16;
    #: or normalisations as one op each, rms_norm too
    norms: Literal["op", "product", "layer", "named"] = "op"
    #: Gelu by a hyperbolic tangent as torch's op, or spelled out, for who reads it as the exact one
    tanh_gelu: Literal["op", "spelled"] = "op"
    #: computed indices may count from the end, as in ONNX, or never do, as those of parts
    index: Literal["signed", "natural"] = "signed"
    #: TopK by a stable sort (the first of equals, as in ONNX), or by torch.topk (any of them)
    top_k: Literal["sort", "topk"] = "sort"
    #: a float constant is a tensor of its own that may be trained, or is folded with its like
    fold: bool = False


#: what may be trained, and has gradients everywhere
GRADIENTS = Dialect()
