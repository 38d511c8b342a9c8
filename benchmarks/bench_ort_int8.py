"""How ONNX Runtime's CPU provider runs int8 weights: the figures behind runtimes/ort/runtime.py.

A chain of square MatMuls with int8 per-column weights, on 1 row (decode) and on 64 rows (prefill),
in the three ways a session can hold them, against float weights, in one process, interleaved:

    fold    DequantizeLinear folded to float when the session is made
    keep1   weights stay int8, products in float (MatMulNBits, accuracy level 1)
    keep4   weights stay int8, activations rounded to int8 on the fly (level 4, the default)

    python benchmarks/bench_ort_int8.py            writes benchmarks/results/ort_int8.json
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
import onnx_ir as ir
from results import write_result

from edgevlm.compiler.drift import measure
from edgevlm.passes.quantize.grids import Grid
from edgevlm.passes.quantize.rounding import to_nearest

LAYERS, RUNS = 8, 40
WAYS = {
    "float": {},
    "fold": {"session.disable_quant_qdq": "1"},
    "keep1": {"session.qdq_matmulnbits_accuracy_level": "1"},
    "keep4": {"session.qdq_matmulnbits_accuracy_level": "4"},
}


def chain(width: int, rows: int, quantised: bool) -> bytes:
    """x [rows,width] -> LAYERS MatMuls -> y, as a serialised model."""
    rng = np.random.default_rng(0)
    x = ir.Value(name="x", shape=ir.Shape([rows, width]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes, weights, value = [], [], x
    for i in range(LAYERS):
        w = (rng.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
        rounded = to_nearest(w.T, Grid(8), 0, "max")
        stored = rounded.codes.T.astype(np.int8), rounded.scales[:, 0].astype(np.float32)
        arrays = stored if quantised else (w,)
        values = [
            ir.Value(name=f"w{i}_{j}", const_value=ir.tensor(a, name=f"w{i}_{j}"))
            for j, a in enumerate(arrays)
        ]
        weights += values
        right = values[0]
        if quantised:
            nodes.append(ir.node("DequantizeLinear", values, attributes={"axis": 1}))
            right = nodes[-1].outputs[0]
        nodes.append(ir.node("MatMul", [value, right]))
        value = nodes[-1].outputs[0]
    value.name, value.dtype, value.shape = "y", ir.DataType.FLOAT, ir.Shape([rows, width])
    graph = ir.Graph(
        [x], [value], nodes=nodes, initializers=weights, opset_imports={"": 23}, name="g"
    )
    return ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()


def main() -> None:
    import onnxruntime as ort

    rows = []
    for width in (128, 576, 1536):
        for count in (1, 64):
            x = np.random.default_rng(1).standard_normal((count, width)).astype(np.float32)
            sessions = {}
            for way, entries in WAYS.items():
                options = ort.SessionOptions()
                options.intra_op_num_threads, options.log_severity_level = 1, 3
                for key, value in entries.items():
                    options.add_session_config_entry(key, value)
                sessions[way] = ort.InferenceSession(
                    chain(width, count, way != "float"), options, providers=["CPUExecutionProvider"]
                )
            times = {way: [] for way in WAYS}
            for _ in range(RUNS):
                for way, session in sessions.items():
                    start = perf_counter()
                    session.run(None, {"x": x})
                    times[way].append(perf_counter() - start)
            exact = sessions["fold"].run(None, {"x": x})[0]
            for way, session in sessions.items():
                p50 = float(np.median(times[way]))
                drift = measure(exact, session.run(None, {"x": x})[0], "y")
                rows.append(
                    {
                        "width": width,
                        "rows": count,
                        "way": way,
                        "p50_ms": round(1e3 * p50, 4),
                        "speed_vs_float": round(float(np.median(times["float"])) / p50, 2),
                        "sqnr_db_vs_fold": round(drift.sqnr_db, 1),
                    }
                )
                print(rows[-1])
    write_result("ort_int8", {"layers": LAYERS, "n": RUNS, "threads": 1, "rows": rows})


if __name__ == "__main__":
    main()
