"""Prints where Core ML would run every op of a package, as JSON. Runs on a Mac, with coremltools 9.

    python3 - MODEL.mlpackage CPU_AND_NE < compute_plan.py

It stands alone: nothing of edgevlm is on that Mac. Exit 3: no macOS. Exit 4: no coremltools.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def device_name(device: Any) -> str:
    names = {
        "MLNeuralEngineComputeDevice": "ANE",
        "MLGPUComputeDevice": "GPU",
        "MLCPUComputeDevice": "CPU",
    }
    return names.get(type(device).__name__, type(device).__name__)


def each_op(block: Any) -> Iterator[Any]:
    for op in block.operations:
        yield op
        for inner in op.blocks or []:
            yield from each_op(inner)


def rows_of(plan: Any, function: str) -> Iterator[dict[str, Any]]:
    """Ops without a usage are constants, which run nowhere."""
    for entry in plan.model_structure.program.functions.values():
        for op in each_op(entry.block):
            usage = plan.get_compute_device_usage_for_mlprogram_operation(op)
            if usage is None:
                continue
            cost = plan.get_estimated_cost_for_mlprogram_operation(op)
            yield {
                "function": function,
                "op": op.outputs[0].name if op.outputs else "",
                "type": op.operator_name,
                "preferred": device_name(usage.preferred_compute_device),
                "supported": [device_name(d) for d in usage.supported_compute_devices],
                "cost": None if cost is None else cost.weight,
            }


def main(path: str, units: str) -> int:
    if sys.platform != "darwin":
        return 3
    try:
        import coremltools as ct
        from coremltools.models import compute_plan, utils
    except ImportError as error:
        print(error, file=sys.stderr)
        return 4
    model = ct.models.MLModel(path, skip_model_load=True)
    functions = list(model.get_spec().mlProgram.functions)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i, function in enumerate(functions):
            one = path
            if len(functions) > 1:  # a plan is of the default function alone
                one = str(Path(folder) / f"{i}.mlpackage")
                whole = utils.MultiFunctionDescriptor()
                whole.add_function(path, function, "main")
                whole.default_function_name = "main"
                utils.save_multifunction(whole, one)
            made = utils.compile_model(one, str(Path(folder) / f"{i}.mlmodelc"))
            plan = compute_plan.MLComputePlan.load_from_path(
                str(made), compute_units=ct.ComputeUnit[units]
            )
            rows.extend(rows_of(plan, function))
    told = {
        "schema": 1,
        "coremltools": ct.__version__,
        "macos": platform.mac_ver()[0],
        "machine": platform.machine(),
        "units": units,
        "rows": rows,
    }
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
