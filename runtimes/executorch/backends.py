"""Which part of a phone runs a program: a backend, its dialect, and what it needs to lower.

xnnpack   every CPU; lowered here, and run here by the same kernels
vulkan    GPUs of Android; lowered here, run there
coreml    Apple, by way of Core ML; lowered here, run there
qnn       the NPU of a Snapdragon; lowered where QNN_SDK_ROOT points to Qualcomm's SDK
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
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
    from executorch.backends.vulkan.patterns import fusable_patterns

    # 1.5.1 traces its patterns anew for every delegate, two thirds of the time of a lowering: its
    # lru_cache lies outside of the decorator that registers them
    for entry in fusable_patterns.values():
        if entry.get_graphs_fn is not None and not hasattr(entry.get_graphs_fn, "cache_info"):
            entry.get_graphs_fn = cache(entry.get_graphs_fn)
    return [VulkanPartitioner()]


@dataclass(frozen=True)
class Backend:
    """`unit`: the kind of what computes, as device files have it. `proved_by`: what runs programs
    on this host where its own runtime cannot; `notes`: what who compiles must know."""

    name: str
    dialect: Dialect
    partitioners: Callable[[ExportedProgram], list[Any]]
    runs_here: bool = False
    unit: str = "npu"
    proved_by: str = ""
    notes: tuple[str, ...] = ()


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
    "vulkan": Backend(
        "vulkan",
        VULKAN,
        _vulkan,
        unit="gpu",
        proved_by="our evaluator of ExecuTorch programs, on the host: the graphs in the file that "
        "Vulkan is given, in torch; nothing of Vulkan ran",
        notes=(
            "Vulkan runs on the phone alone: kernels of its GPU, their rounding and their time are "
            "not proved here",
        ),
    ),
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
