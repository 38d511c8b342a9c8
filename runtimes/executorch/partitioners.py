"""What hands ops of a program to a backend, as ExecuTorch has it; a device needs none of it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["coreml", "nothing", "vulkan", "xnnpack"]


def xnnpack(program: ExportedProgram) -> list[Any]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return [XnnpackPartitioner()]


def vulkan(program: ExportedProgram) -> list[Any]:
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
    from executorch.backends.vulkan.patterns import fusable_patterns

    # 1.5.1 traces its patterns anew for every delegate, two thirds of the time of a lowering: its
    # lru_cache lies outside of the decorator that registers them
    for entry in fusable_patterns.values():
        if entry.get_graphs_fn is not None and not hasattr(entry.get_graphs_fn, "cache_info"):
            entry.get_graphs_fn = cache(entry.get_graphs_fn)
    return [VulkanPartitioner()]


def coreml(program: ExportedProgram) -> list[Any]:
    import coremltools as ct
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=ct.target.iOS18, compute_precision=ct.precision.FLOAT16
    )
    # caches stay the program's: as states of a delegate each method would have its own
    return [CoreMLPartitioner(compile_specs=specs, take_over_mutable_buffer=False)]


def nothing(program: ExportedProgram) -> list[Any]:
    return []
