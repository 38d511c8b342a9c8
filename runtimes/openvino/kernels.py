"""Which kernels a compiled part runs its products with: an int8 file that runs in float is slower.

Read from the graph that the plugin executes, so nothing has to run. A product is a matrix product
or a convolution. Attention's two are inside one kernel of another kind (`Subgraph`), whose type is
that of its inputs: i8 where scores are products of integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

__all__ = ["is_product", "kernel_types", "products"]

PRODUCTS = ("FullyConnected", "MatMul", "Convolution", "Deconvolution")


def products(compiled: Any) -> Counter[str]:
    """How many products run in which type, as the kernels name it: {"i8": 24, "f32": 1}."""
    return Counter(_type(info) for info in _executed(compiled) if is_product(_kind(info)))


def kernel_types(compiled: Any) -> dict[str, str]:
    """By name of a node in the file the type of the kernel that it became part of."""
    found = {}
    for info in _executed(compiled):
        for name in info["originalLayersNames"].value.split(","):
            found[name] = _type(info)
    return found


def is_product(kind: str) -> bool:
    """Whether a node type of the plugin is a product; several have longer names."""
    return kind.startswith(PRODUCTS)


def _executed(compiled: Any) -> Iterator[Any]:
    return (node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops())


def _kind(info: Any) -> str:
    return str(info["layerType"].value)


def _type(info: Any) -> str:
    return str(info["primitiveType"].value).rpartition("_")[2].lower()
