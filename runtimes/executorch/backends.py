"""Which part of a phone runs a program: a backend, its dialect, and what it needs to lower.

xnnpack   every CPU; lowered here, and run here by the same kernels
vulkan    GPUs of Android; lowered here, run there
coreml    Apple, by way of Core ML; lowered here, run there
qnn       the NPU of a Snapdragon; lowered where QNN_SDK_ROOT points to Qualcomm's SDK
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.to_torch.dialect import Dialect

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["BACKENDS", "Backend", "find_backend"]


def _xnnpack(program: ExportedProgram) -> list[Any]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return [XnnpackPartitioner()]


def _vulkan(program: ExportedProgram) -> list[Any]:
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

    return [VulkanPartitioner()]


@dataclass(frozen=True)
class Backend:
    """`unit`: the kind of what computes, as device files have it."""

    name: str
    dialect: Dialect
    partitioners: Callable[[ExportedProgram], list[Any]]
    runs_here: bool = False
    unit: str = "npu"


#: what XNNPACK has kernels for: products and elementwise ops, and no means or normalisations
XNNPACK = Dialect(
    linear=True,
    quantised="decomposed",
    attention="plain",
    batched="bmm",
    norms="product",
    index="natural",
    fold=True,
)
VULKAN = Dialect(linear=True, quantised="decomposed", attention="plain", index="natural", fold=True)

BACKENDS: dict[str, Backend] = {
    "xnnpack": Backend("xnnpack", XNNPACK, _xnnpack, runs_here=True, unit="cpu"),
    "vulkan": Backend("vulkan", VULKAN, _vulkan, unit="gpu"),
}


def find_backend(name: str) -> Backend:
    """Raises UsageFault EV308 for one that there is not."""
    if name not in BACKENDS:
        raise UsageFault(
            "EV308",
            f"backend {name[:40]!r} of executorch",
            f"backends: {', '.join(BACKENDS)}",
            "--toolchain xnnpack, which every phone runs",
        )
    return BACKENDS[name]
