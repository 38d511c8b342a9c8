"""Prints how long a function of a package takes, as JSON. Runs on a Mac, with coremltools 9.

    python3 - '{"model": "M.mlpackage", "function": "decode", "units": "CPU_AND_NE",
                "loads": 3, "runs": 20, "phone": null}' < benchmark.py

phone: {"udid", "team", "bundle", "profile"} of an iPhone at that Mac, for which coremltools builds
and signs an app that runs models; null: the Mac itself. Inputs are zeros: any number is a place in
some table. It stands alone: nothing of edgevlm is on that Mac. Exit 3: no macOS. Exit 4: no
coremltools. Exit 5: no such phone. Exit 6: a function with states, of which that app knows none.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from collections.abc import Iterator
from typing import Any

STATES_THERE = 6
KINDS = {"FLOAT16": "float16", "FLOAT32": "float32", "DOUBLE": "float64", "INT32": "int32"}


def device_name(device: Any) -> str:
    names = {
        "MLNeuralEngineComputeDevice": "ANE",
        "MLGPUComputeDevice": "GPU",
        "MLCPUComputeDevice": "CPU",
    }
    return names.get(type(device).__name__, type(device).__name__)


async def the_phone(asked: dict[str, Any]) -> Any:
    from coremltools.models.ml_program.experimental import remote_device

    kind = remote_device.DeviceType.IPHONE
    found = [
        device
        for device in remote_device.Device.get_connected_devices(kind)
        if asked["udid"] in (device.udid, device.identifier)
    ]
    if not found:
        return None
    credentials = remote_device.AppSigningCredentials(
        development_team=asked.get("team") or "",
        provisioning_profile_uuid=asked.get("profile"),
        bundle_identifier=asked.get("bundle"),
    )
    return await found[0].prepare_for_model_debugging(credentials)


def alone(spec: Any, function: str) -> Any:
    """A package of that function only: MLModelBenchmarker knows no packages of several.

    Of coremltools 9.0: it asks the whole package for states, inputs and the plan.
    """
    told = next((f for f in spec.description.functions if f.name == function), None)
    if told is None:
        return spec
    described, functions = spec.description, spec.mlProgram.functions
    body = type(functions[function])()
    body.CopyFrom(functions[function])
    functions.clear()
    functions["main"].CopyFrom(body)
    for side in ("input", "output", "state"):
        getattr(described, side).extend(getattr(told, side))
    described.ClearField("functions")
    described.ClearField("defaultFunctionName")
    return spec


def zeros(spec: Any) -> dict[str, Any]:
    import numpy as np

    found = {}
    for port in spec.description.input:
        array = port.type.multiArrayType
        kind = array.ArrayDataType.Name(array.dataType)
        found[port.name] = np.zeros(tuple(array.shape), KINDS[kind])
    return found


def names_in_order(block: Any) -> Iterator[str]:
    for op in block.operations:
        yield from (value.name for value in op.outputs[:1])
        for inner in op.blocks:
            yield from names_in_order(inner)


def rows_of(spec: Any, ops: Any) -> list[dict[str, Any]]:
    """In the order of the program, one an op; coremltools' are by time, and one an output."""
    found: dict[str, dict[str, Any]] = {}
    for info in ops:
        usage, spent = info.compute_device_usage, info.measurement.statistics
        if spent is None or usage is None or not info.spec.outputs:
            continue
        name = info.spec.outputs[0].name
        preferred = device_name(usage.preferred_compute_device)
        found[name] = {"op": name, "type": info.spec.type, "preferred": preferred,
                       "ms": spent.median}  # fmt: skip
    (function,) = spec.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    return [found[name] for name in dict.fromkeys(names_in_order(block)) if name in found]


async def timed(ct: Any, perf_utils: Any, asked: dict[str, Any]) -> dict[str, Any] | int:
    """What is printed, or the status to end with."""
    whole = ct.models.MLModel(asked["model"], skip_model_load=True)
    spec = alone(whole.get_spec(), asked["function"])
    phone = None
    if asked["phone"]:
        if spec.description.state:
            return STATES_THERE
        phone = await the_phone(asked["phone"])
        if phone is None:
            return 5
    model = ct.models.MLModel(
        spec,
        weights_dir=whole.weights_dir,
        compute_units=ct.ComputeUnit[asked["units"]],
        skip_model_load=True,  # the benchmarker loads it, as often as it is asked to
    )
    benchmarker, given = perf_utils.MLModelBenchmarker(model, phone), zeros(spec)
    often = {"inputs": given, "iterations": asked["runs"], "warmup": True}
    loads = await benchmarker.benchmark_load(iterations=asked["loads"])
    runs = await benchmarker.benchmark_predict(**often)
    ops = await benchmarker.benchmark_operation_execution(**often)
    return {
        "schema": 1,
        "coremltools": ct.__version__,
        "macos": platform.mac_ver()[0],
        "machine": platform.machine() if phone is None else f"{phone.name}, {phone.udid}",
        "units": asked["units"],
        "function": asked["function"],
        "load_ms": loads.samples,
        "predict_ms": runs.samples,
        "ops": rows_of(spec, ops),
    }


def main(asked: str) -> int:
    if sys.platform != "darwin":
        return 3
    try:
        import coremltools as ct
        from coremltools.models.ml_program.experimental import perf_utils
    except ImportError as error:
        print(error, file=sys.stderr)
        return 4
    told = asyncio.run(timed(ct, perf_utils, json.loads(asked)))
    if isinstance(told, int):
        return told
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
