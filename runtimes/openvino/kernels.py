"""Which kernels a compiled part runs its products with: an int8 file that runs in float is slower.

Read from the graph that the plugin executes, so nothing has to run. A product is a matrix product
or a convolution; attention's two are inside one kernel of another kind and always float.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["is_product", "products"]

PRODUCTS = ("FullyConnected", "MatMul", "Convolution", "Deconvolution")


def products(compiled: Any) -> Counter[str]:
    """How many products run in which type, as the kernels name it: {"i8": 24, "f32": 1}."""
    found: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if is_product(info["layerType"].value):
            found[info["primitiveType"].value.rpartition("_")[2].lower()] += 1
    return found


def is_product(kind: str) -> bool:
    """Whether a node type of the plugin is a product; several have longer names."""
    return kind.startswith(PRODUCTS)
