"""Prints how long a function of a package takes, as JSON. Runs on a Mac, with coremltools 9.

    python3 - '{"model": "M.mlpackage", "function": "decode", "units": "CPU_AND_NE",
                "loads": 3, "runs": 20, "phone": null}' < benchmark.py

phone: {"udid", "team", "bundle", "profile"} of an iPhone at that Mac, for which coremltools builds
and signs an app that runs models; null: the Mac itself. It stands alone: nothing of edgevlm is on
that Mac. Exit 3: no macOS. Exit 4: no coremltools. Exit 5: no such phone.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from typing import Any


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


async def timed(ct: Any, perf_utils: Any, asked: dict[str, Any]) -> dict[str, Any] | None:
    phone = None
    if asked["phone"]:
        phone = await the_phone(asked["phone"])
        if phone is None:
            return None
    spec = ct.models.MLModel(asked["model"], skip_model_load=True).get_spec()
    model = ct.models.MLModel(
        asked["model"],
        compute_units=ct.ComputeUnit[asked["units"]],
        # a package of one function is asked for none
        function_name=asked["function"] if len(spec.description.functions) else None,
        skip_model_load=phone is not None,
    )
    benchmarker = perf_utils.MLModelBenchmarker(model, phone)
    loads = await benchmarker.benchmark_load(iterations=asked["loads"])
    runs = await benchmarker.benchmark_predict(iterations=asked["runs"], warmup=True)
    ops = await benchmarker.benchmark_operation_execution(iterations=asked["runs"], warmup=True)
    rows = []
    for info in ops:
        usage = info.compute_device_usage
        if info.measurement.statistics is None or usage is None:
            continue
        rows.append(
            {
                "op": info.spec.outputs[0].name if info.spec.outputs else "",
                "type": info.spec.type,
                "preferred": device_name(usage.preferred_compute_device),
                "ms": info.measurement.statistics.median,
            }
        )
    return {
        "schema": 1,
        "coremltools": ct.__version__,
        "macos": platform.mac_ver()[0],
        "machine": platform.machine() if phone is None else f"{phone.name}, {phone.udid}",
        "units": asked["units"],
        "function": asked["function"],
        "load_ms": loads.samples,
        "predict_ms": runs.samples,
        "ops": rows,
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
    if told is None:
        return 5
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
