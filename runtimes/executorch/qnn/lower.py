"""Programs for the NPU of a Snapdragon, by Qualcomm's part of ExecuTorch and Qualcomm's SDK.

Written after ExecuTorch's documents and its code, and NOT RUN by us: the SDK comes from Qualcomm
alone. Nothing of executorch.backends.qualcomm is imported before an SDK was found: without one it
loads a copy from the web by itself.
https://docs.pytorch.org/executorch/stable/backends-qualcomm.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgevlm.compiler.errors import UsageFault
from edgevlm.runtimes.executorch.sdk import find_qnn_sdk

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["partitioned"]


def partitioned(
    programs: Mapping[str, ExportedProgram], constants: Mapping[str, Any], aims: Mapping[str, str]
) -> Any:
    """An EdgeProgramManager. aims: `soc`, as QcomChipset names it, such as SM8750.

    Float models, which the HTP computes in float16. Raises SdkMissing EV362, UsageFault EV308.
    """
    find_qnn_sdk()
    from executorch.backends.qualcomm.serialization.qc_schema import QcomChipset
    from executorch.backends.qualcomm.utils.utils import (
        generate_htp_compiler_spec,
        generate_qnn_executorch_compiler_spec,
        to_edge_transform_and_lower_to_qnn,
    )

    soc = aims.get("soc", "")
    chip = QcomChipset.__members__.get(soc)
    if chip is None:
        raise UsageFault(
            "EV308",
            f"chip {soc[:20] or 'none'} for QNN",
            "this version of ExecuTorch does not know it",
            "--toolchain xnnpack, or --target snapdragon-8-elite",
        )
    specs = generate_qnn_executorch_compiler_spec(
        soc_model=chip, backend_options=generate_htp_compiler_spec(use_fp16=True)
    )
    return to_edge_transform_and_lower_to_qnn(
        # it exports again, in its own way; guards would be calls that its passes do not know
        {name: each.module(check_guards=False) for name, each in programs.items()},
        {name: each.example_inputs[0] for name, each in programs.items()},
        {name: specs for name in programs},
        constant_methods=dict(constants),
        skip_mutable_buffer=True,  # caches are the program's, which all methods share
    )
