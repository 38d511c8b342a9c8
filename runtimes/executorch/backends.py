"""Which part of a phone runs a program: a backend, its dialect, and what it needs to lower.

xnnpack   every CPU; lowered here, and run here by the same kernels
vulkan    GPUs of Android; lowered here; the graphs it is given run here in our evaluator
coreml    Apple, by way of Core ML; lowered here; its packages run here in our evaluator
qnn       the NPU of a Snapdragon; lowered where QNN_SDK_ROOT points to Qualcomm's SDK, and there
          run by its emulation of the NPU: written after the documents, never run by us
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.to_torch.dialect import Dialect

if TYPE_CHECKING:
    from edgevlm.devices import Device

__all__ = ["BACKENDS", "Backend", "find_backend"]


def _coreml_tools() -> dict[str, str]:
    from edgevlm.runtimes.coreml.package import installed

    return {"coremltools": installed()}


def _android(device: Device) -> dict[str, str]:
    if device.family in APPLE:
        raise _unfit("vulkan", device, "it is for GPUs of Android", "--toolchain executorch")
    return {}


def _apple(device: Device) -> dict[str, str]:
    if device.family not in APPLE:
        why = "Core ML runs on Apple's systems alone"
        raise _unfit("coreml", device, why, "--toolchain xnnpack, or --target iphone")
    return {}


def _snapdragon(device: Device) -> dict[str, str]:
    """Its number at Qualcomm, as ExecuTorch names it: SM8750."""
    found = [name.upper() for name in device.aliases if SOC.fullmatch(name)]
    if not found:
        why = "it is no Snapdragon that its file has the number of (sm8750)"
        raise _unfit("qnn", device, why, "--toolchain xnnpack, or --target snapdragon-8-elite")
    return {"soc": found[0]}


def _unfit(backend: str, device: Device, why: str, fix: str) -> UsageFault:
    return UsageFault("EV308", f"backend {backend} of executorch for {device.id}", why, fix)


def _qnn_tools() -> dict[str, str]:
    from edgevlm.runtimes.executorch.sdk import find_qnn_sdk

    return {"qairt": find_qnn_sdk().version or "unknown"}


def _qnn_lowered(*given: Any) -> Any:
    from edgevlm.runtimes.executorch.qnn.lower import partitioned

    return partitioned(*given)


APPLE = ("iphone", "mac")  # families of devices
SOC = re.compile(r"sm[0-9]{4}")


def _any(device: Device) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Backend:
    """`unit`: the kind of what computes, as device files have it. `proved_by`: what runs programs
    on this host where its own runtime cannot; `notes`: what who compiles must know; `fits`: raises
    UsageFault EV308 for a device it is not for, and gives what else artifacts are written for."""

    name: str
    dialect: Dialect
    partitioners: str  # a function of partitioners.py
    runs_here: bool = False
    unit: str = "npu"
    proved_by: str = ""
    notes: tuple[str, ...] = ()
    fits: Callable[[Device], dict[str, str]] = _any
    #: raises what says that its own tools are not here, before any pass runs; else their versions
    tools: Callable[[], dict[str, str]] = dict
    #: programs run in evaluate/, and not in ExecuTorch's runtime
    evaluated: bool = False
    #: another way to delegates than `partitioners`; takes what lower.py hands it
    lowered: Callable[..., Any] | None = None
    #: what no delegate takes is left to portable kernels, which have not all ops
    portable: bool = True
    #: how programs are timed that this host does not run
    timed: str = "edgevlm profile BUNDLE --device adb: times it on a phone"
    #: why it takes no model whose weights or inputs are rounded; empty where it does
    not_rounded: str = ""


#: what XNNPACK has kernels for: products and elementwise ops, and no means or normalisations. Its
#: Gelu is the exact one, whichever is asked for: that by a tangent comes out 2e-4 of 0.7 away
XNNPACK = Dialect(
    linear=True,
    quantised="decomposed",
    attention="plain",
    batched="bmm",
    norms="product",
    index="natural",
    top_k="topk",  # portable kernels have no stable sort; selectors make their scores differ
    fold=True,
)
VULKAN = Dialect(
    linear=True,
    quantised="decomposed",
    attention="plain",
    index="natural",
    top_k="topk",
    fold=True,
)

COREML = Dialect(
    linear=True,
    quantised="decomposed",
    codes="all",
    cache="mask",  # Core ML has no converter for index_put with a place of run time
    attention="plain",
    norms="layer",  # squares of numbers above 256 are no float16
    tanh_gelu="spelled",
    index="natural",
    top_k="topk",
    fold=True,
)

BACKENDS: dict[str, Backend] = {
    "xnnpack": Backend("xnnpack", XNNPACK, "xnnpack", runs_here=True, unit="cpu"),
    "vulkan": Backend(
        "vulkan",
        VULKAN,
        "vulkan",
        unit="gpu",
        evaluated=True,
        fits=_android,
        proved_by="our evaluator of ExecuTorch programs, on the host: the graphs in the file that "
        "Vulkan is given, in torch; nothing of Vulkan ran",
        notes=(
            "Vulkan runs on the phone alone: kernels of its GPU, their rounding and their time are "
            "not proved here",
        ),
        timed="edgevlm profile BUNDLE --device adb: on a phone, with an executor_runner that is "
        "built with -DEXECUTORCH_BUILD_VULKAN=ON as well",
        # seen on a miniature with executorch 1.5.1
        not_rounded="its fused products leave inputs unrounded, so that answers change (w8a8), and "
        "int4 in blocks ends in an error of ExecuTorch's own",
    ),
    "coreml": Backend(
        "coreml",
        COREML,
        "coreml",
        proved_by="our evaluators of ExecuTorch programs and of the Core ML packages in them, on "
        "the host; nothing of Core ML ran",
        notes=(
            "where Core ML runs an op, how it rounds there and how fast is not proved here",
            "bytes differ from one compile to the next: ExecuTorch names each package at random",
        ),
        evaluated=True,
        fits=_apple,
        tools=_coreml_tools,
        portable=False,
        timed="compile it for Core ML itself (without --toolchain), which a Mac times: "
        "edgevlm profile BUNDLE --device ssh://MAC",
    ),
    "qnn": Backend(
        "qnn",
        VULKAN,
        "nothing",
        proved_by="the HTP emulation of Qualcomm's SDK, on the host",
        notes=(
            "lowering to QNN was written after ExecuTorch's documents and has not been run by us",
        ),
        fits=_snapdragon,
        tools=_qnn_tools,
        lowered=_qnn_lowered,
        not_rounded="its quantiser is a tool of its maker's, and what others rounded is not tried",
    ),
}


def find_backend(name: str) -> Backend:
    """Raises UsageFault EV308 for one that there is not."""
    if name not in BACKENDS:
        raise UsageFault(
            "EV308",
            f"backend {name[:40]!r} of executorch",
            f"backends: {', '.join(BACKENDS)}",
            "--toolchain xnnpack, which every phone runs",
        )
    return BACKENDS[name]
