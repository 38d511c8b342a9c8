"""QHAS, the HTP analysis summary of an op trace: ..._qnn_htp_analysis_summary.json.

    {"data": {"htp_overall_summary": {"data": [{"time_us", "graph_execute_us", "timeline_cycles",
                  "percent_utilization", "peak_vtcm_alloc", "total_dram_read", ..,
                  "htp_resources": {"data": [{"type": "HMX", "utilization", "cycles_used"}]}}]},
              "qnn_op_instances_nodes": {"data": [{"qnn_op", "qnn_op_type", "cycles",
                  "num_dominant_path_cycles_htp_0"}]}}}

`cycles` of an op is its work on all units together; the dominant path is what the graph waits for.
Its schema is not published. Fields as executorch 1.5.1 (backends/qualcomm/tests) and
https://github.com/microsoft/winml-cli read them; others are passed over.
https://docs.qualcomm.com/bundle/publicresource/topics/80-63442-10/qhas_profiling.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgevlm.runtimes.executorch.qnn.report_json import as_number, loaded
from edgevlm.runtimes.executorch.qnn.rows import QnnProfile, QnnRow, QnnRun, averaged, unreadable

__all__ = ["read_qhas"]

SUMMARY, OPS, RESOURCES = "htp_overall_summary", "qnn_op_instances_nodes", "htp_resources"
CRITICAL = "num_dominant_path_cycles_htp_0"


def read_qhas(path: Path) -> QnnProfile:
    """Of one run. Raises JobFault EV360.

    figures: those of the summary by their names, and "HMX 0 utilization" of each unit.
    """
    data = loaded(path)
    try:
        tables = data["data"]
        summary = tables[SUMMARY]["data"][0]
        run = QnnRun(_figures(summary), [_row(each) for each in tables[OPS]["data"]])
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        why = f"it is not shaped as expected: {type(error).__name__}: {error}"
        raise unreadable(path.name, why) from error
    return averaged([run], path.name)


def _figures(summary: dict[str, Any]) -> dict[str, float]:
    figures = {
        str(name): as_number(value)
        for name, value in summary.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    for place, unit in enumerate(summary.get(RESOURCES, {}).get("data", ())):
        for name in ("utilization", "cycles_used"):
            if name in unit:
                figures[f"{unit.get('type', 'unit')} {place} {name}"] = as_number(unit[name])
    return figures


def _row(op: dict[str, Any]) -> QnnRow:
    critical = op.get(CRITICAL)
    return QnnRow(
        str(op["qnn_op"]),
        None,
        as_number(op["cycles"]),
        str(op["qnn_op_type"]) if op.get("qnn_op_type") else None,
        critical=None if critical is None else as_number(critical),
    )
