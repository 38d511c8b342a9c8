"""What this machine does a second through ONNX Runtime, measured in about a second.

    fp32, int8   operations a second of one product [128,768] x [768,768], as a bundle runs it:
                 the rounding of its input belongs to the int8 one
    bandwidth    bytes a second of weights that one row is multiplied with, 64 MiB of them
    launch       from one node to the next in a chain of nodes with nothing to compute

They are the yardstick of `predicted` figures (commands/predict_host.py): the same formula with
these rates is held against a measurement on the same machine.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.devices.facts import THIS_MACHINE
from edgevlm.devices.roofline import Rates, Used
from edgevlm.runtimes.ort.runtime import OrtRuntime, open_part

__all__ = ["host_rates"]

ROWS, WIDTH = 128, 768  # of the product that gives a rate
STREAMED = 4096  # channels of a square float matrix of 64 MiB, more than most caches hold
CHAIN = 200  # nodes
SECONDS = 0.06  # of runs a rate


@functools.cache
def host_rates(threads: int) -> Rates:
    """Rates of so many threads of a session (0: all this process may use); measured once."""
    product = 2 * ROWS * WIDTH * WIDTH
    fp32 = product / _seconds(_float, (ROWS, WIDTH), threads)
    int8 = product / _seconds(_int8, (ROWS, WIDTH), threads)
    bandwidth = 4 * STREAMED * STREAMED / _seconds(_float, (1, STREAMED), threads)
    launch = _seconds(_chain, (8,), threads) / CHAIN
    used = (
        _used("fp32 rate", fp32 / 1e12, "Top/s"),
        _used("int8 rate", int8 / 1e12, "Top/s"),
        _used("bandwidth", bandwidth / 1e9, "GB/s"),
        _used("launch latency", launch * 1e6, "us"),
    )
    return Rates({"fp32": fp32, "int8": int8}, bandwidth, launch, width=4, used=used)


def _float(build: GraphBuilder, x: ir.Value) -> ir.Value:
    return build("MatMul", x, build.const(np.ones((x.shape[-1], x.shape[-1])), np.float32))


def _int8(build: GraphBuilder, x: ir.Value) -> ir.Value:
    scale, many = build.const(0.1, np.float32), build.const(np.ones(WIDTH), np.float32)
    rounded = build("QuantizeLinear", x, scale, output_dtype=int(ir.DataType.INT8))
    codes = build.const(np.ones((WIDTH, WIDTH)), np.int8)
    weights = build("DequantizeLinear", codes, many, axis=1)
    return build("MatMul", build("DequantizeLinear", rounded, scale), weights)


def _chain(build: GraphBuilder, x: ir.Value) -> ir.Value:
    for i in range(CHAIN):
        x = build("Sin" if i % 2 else "Cos", x)
    return x


def _seconds(
    make: Callable[[GraphBuilder, ir.Value], ir.Value], shape: tuple[int, ...], threads: int
) -> float:
    """Median of a run of a part as a bundle has it, after three that do not count."""
    x = ir.Input("x", ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 23}, name="rate")
    build = GraphBuilder(ir.Model(graph, ir_version=10), "rate")
    graph.outputs.append(make(build, x))
    build.finish()
    part, settings = OrtRuntime().written(build.model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rate.onnx"
        ir.save(part, path)
        session = open_part(path, {"threads": threads, **settings})
    feeds = {"x": np.ones(shape, np.float32)}
    for _ in range(3):
        session.run(None, feeds)
    times: list[float] = []
    while sum(times) < SECONDS or len(times) < 5:
        start = perf_counter()
        session.run(None, feeds)
        times.append(perf_counter() - start)
    return median(times)


def _used(what: str, value: float, unit: str) -> Used:
    return Used(what, value, unit, None, THIS_MACHINE)
