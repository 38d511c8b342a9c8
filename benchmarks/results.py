"""Result files: every one says on what machine, with which versions and when it was made."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgevlm.devices.host import describe_host, tool_versions

RESULTS = Path(__file__).parent / "results"
TOOLS = (
    "edgevlm",
    "onnxruntime",
    "openvino",
    "onnx",
    "onnx-ir",
    "numpy",
    "torch",
    "transformers",
    "tokenizers",
    "pillow",
)


def write_result(name: str, data: dict[str, Any]) -> Path:
    """results/<name>.json with host, versions and date beside the figures."""
    host = describe_host().as_json()
    host.pop("kernel")  # says nothing about speed
    record = {
        "result": name,
        "date": datetime.now(UTC).date().isoformat(),
        "host": host,
        "tools": tool_versions(TOOLS),
        "how": "measured-host",
        **data,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {path.relative_to(RESULTS.parent.parent)}")
    return path
