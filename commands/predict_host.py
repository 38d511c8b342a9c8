"""How wrong the prediction is where it can be checked: the same bundle, on this machine.

The rates of this machine are measured (runtimes/ort/host_rates.py), the same formula predicts the
stages with them, and the stages are measured. `ratio` is measured by predicted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgevlm.commands.part_clock import in_turns
from edgevlm.commands.predicted import STAGES, stages_of, time_layers
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import EdgeError
from edgevlm.compiler.executor import Feeds, PartCaller
from edgevlm.compiler.memory import need_of
from edgevlm.compiler.still import still_feeds
from edgevlm.devices import find_device
from edgevlm.devices.host import describe_host
from edgevlm.devices.memory_limits import DOES_NOT_FIT, memory_verdict
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.ort.host_rates import host_rates

__all__ = ["check_here", "zeros_of"]

TURNS = (5, 15)  # at least, at most; three timed runs each


def check_here(bundle: Bundle, parts: dict[Role, Any]) -> tuple[dict[str, Any] | None, str]:
    """What `this_machine` says of a bundle, and where that is None, why.

    parts: the graphs of its artifacts.
    """
    manifest = bundle.manifest
    try:
        runtime = find_runtime(manifest.target.runtime)
        runtime.check_timed(bundle)
        need = need_of(parts, manifest.contract, folds=runtime.folds_weights)
        memory = memory_verdict(find_device("host-cpu"), need)
        if memory["verdict"] == DOES_NOT_FIT:
            return None, f"it does not fit this machine: {'; '.join(memory['why'])}"
        opened = runtime.open(bundle)
    except EdgeError as fault:
        return None, f"{fault.what}: {fault.why}"
    threads = {a.role: int(a.settings.get("threads", 0)) for a in manifest.artifacts}
    times = time_layers(parts, lambda role: host_rates(threads[role]), folds=runtime.folds_weights)
    predicted = stages_of(times)
    measured = _measured(opened, manifest.contract)
    rows = {}
    for stage, roles in STAGES.items():
        if stage in predicted:
            taken = [measured[role] for role in roles]
            ms, expected = sum(each.ms for each in taken), predicted[stage]["ms"]
            rows[stage] = {
                "predicted_ms": expected,
                "measured_ms": ms,
                "ratio": ms / expected,
                "n": min(each.n for each in taken),
                "how": "measured-host",
            }
    rates = [
        {**vars(fact), "threads": each or describe_host().cores}
        for each in sorted(set(threads.values()))
        for fact in host_rates(each).used
    ]
    return {"host": describe_host().as_json(), "rates": rates, "stages": rows}, ""


def _measured(opened: PartCaller, contract: Contract) -> dict[Role, Any]:
    """ms of each part, run in turns with the others."""
    roles = contract.roles
    feeds = {role: zeros_of(contract, role) for role in roles}
    runs = [lambda role=role: opened.call(role, feeds[role]) for role in roles]
    return dict(zip(roles, in_turns(runs, turns=TURNS), strict=True))


def zeros_of(contract: Contract, role: Role) -> Feeds:
    """For every input of a part, as compiler/still.py has them."""
    kinds = {"FLOAT": np.float32, "FLOAT16": np.float16, "INT64": np.int64, "INT8": np.int8}
    kinds["BOOL"] = np.bool_
    return still_feeds((p.name, kinds[p.dtype], p.shape) for p in contract.inputs(role))
