"""From an ONNX file to an engine, or to the sentences in which TensorRT refuses it.

A refusal is a value, not an exception: the host asks for several parts and shows all that is wrong.
Precision is never chosen here. The network is strongly typed, so the engine computes in the types
and Q/DQ pairs of the file and in no others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Mapping, Sequence

from edgevlm.runtimes.tensorrt.on_device.api import Api
from edgevlm.runtimes.tensorrt.on_device.layers import Row, rows_of_log
from edgevlm.runtimes.tensorrt.on_device.products import Products, products_of
from edgevlm.runtimes.tensorrt.on_device.refusals import Refusal, log_refusals, parser_refusals
from edgevlm.runtimes.tensorrt.on_device.unbroken import Unbroken, progress_monitor

__all__ = ["OPTIONS", "Built", "build_part"]

#: how engines are built, for their key: with other ones it would be another engine
OPTIONS = "no TF32"


@dataclass
class Built:
    """What came of one part. `engine` is the serialised plan, a buffer, or None where refused."""

    engine: Any = None
    parse_s: float = 0.0
    build_s: float = 0.0
    network_layers: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # of TensorRT, in its words
    rows: list[Row] = field(default_factory=list)  # layers of the engine, as the log tells them
    products: Products = field(default_factory=Products)  # of the network, before it was fused

    @property
    def ok(self) -> bool:
        return self.engine is not None

    @property
    def engine_bytes(self) -> int:
        return 0 if self.engine is None else memoryview(self.engine).nbytes


def build_part(
    onnx_path: Path,
    api: Api,
    *,
    compute_capability: str | None = None,
    workspace: int | None = None,
    timing_cache: Path | None = None,
    profile: Mapping[str, Sequence[Sequence[int]]] | None = None,
    loud: bool = False,
) -> Built:
    """Parse and build. workspace: bytes. profile: input -> shapes (least, usual, most).

    timing_cache: a file that is read if it is there and written anew; it makes the next build of a
    like part faster. Raises ValueError for a compute capability that the library cannot aim at.
    """
    log = api.log(loud)
    builder = api.trt.Builder(log)
    network = api.network(builder)
    parser = api.trt.OnnxParser(network, log)
    built = Built()
    start = perf_counter()
    with Unbroken():
        parsed = parser.parse_from_file(str(onnx_path))  # by file: weights lie beside it
    built.parse_s = perf_counter() - start
    if not parsed:
        built.refusals = parser_refusals(parser) or log_refusals(api, log.lines, "parse")
        return built
    built.network_layers = network.num_layers
    built.products = products_of(network)
    config = builder.create_builder_config()
    config.profiling_verbosity = api.trt.ProfilingVerbosity.DETAILED  # or layers have no types
    api.keep_float32(config)
    if compute_capability:
        api.aim_at(config, compute_capability)
    if workspace:
        config.set_memory_pool_limit(api.trt.MemoryPoolType.WORKSPACE, workspace)
    if profile:
        shapes = builder.create_optimization_profile()
        for name, (least, usual, most) in profile.items():
            shapes.set_shape(name, tuple(least), tuple(usual), tuple(most))
        config.add_optimization_profile(shapes)
    cached = timing_cache if timing_cache and api.has_timing_cache(config) else None
    if cached:
        _remember(config, cached)
    seen = len(log.lines)
    start = perf_counter()
    with Unbroken() as keeper:
        monitor = progress_monitor(api.trt, keeper)
        if monitor is not None:
            config.progress_monitor = monitor
        built.engine = builder.build_serialized_network(network, config)
    built.build_s = perf_counter() - start
    if built.engine is None:
        built.refusals = log_refusals(api, log.lines[seen:], "build")
        return built
    if cached:
        _keep(config, cached)
    built.warnings = list(dict.fromkeys(t[:300] for s, t in log.lines if api.is_warning(s)))[:20]
    built.rows = rows_of_log(text for _, text in log.lines)
    return built


def _remember(config: Any, path: Path) -> None:
    """Times of kernels from builds before. Bytes of another TensorRT or GPU begin anew."""
    try:
        known = path.read_bytes() if path.is_file() else b""
    except OSError:
        known = b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        if cache is not None:
            config.set_timing_cache(cache, False)


def _keep(config: Any, path: Path) -> None:
    """A timing cache that is lost costs time only; half of one would be refused, so it is whole."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    data = cache.serialize()
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(memoryview(data))
        part.replace(path)
    except OSError:
        part.unlink() if part.exists() else None
