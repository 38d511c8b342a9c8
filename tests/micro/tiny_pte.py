"""A tiny transformer block as a .pte for XNNPACK, in every arithmetic that XNNPACK has.

    lower("fp32")    float                       lower("int8-static")   quantised by PT2E
    lower("int8-dynamic")                        lower("int4-block")    8da4w of torchao
    lower("portable")    no delegate             lower("two")           two methods of two shapes
    lower("pair")        two linears beside each other, one far larger, quantised by PT2E

`python -m micro.tiny_pte FOLDER`, from tests/ and with executorch 1.5.1 there, records what
tests/runtimes/executorch/profilers/recorded has.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["KINDS", "Lowered", "lower"]

TOKENS, WIDTH = 16, 32
KINDS = ("fp32", "int8-static", "int8-dynamic", "int4-block", "portable", "two")


class Lowered(NamedTuple):
    """inputs: of each method. nodes: instructions of each, as `nodes_of` has them."""

    pte: bytes
    inputs: dict[str, tuple]
    nodes: Any


def lower(kind: str) -> Lowered:
    """Every torch call goes by the name that it has in the block's forward: /q, /attention .."""
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    from edgevlm.runtimes.executorch.nodes import nodes_of, trace

    warnings.filterwarnings("ignore")
    programs, inputs = _programs(kind)
    partitioners = {method: _partitioners(kind) for method in programs}
    edge = to_edge_transform_and_lower(
        programs,
        partitioner=partitioners,
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    traced = trace(edge)
    made = edge.to_executorch()
    return Lowered(bytes(made.buffer), inputs, nodes_of(traced, made))


def _programs(kind: str) -> tuple[dict[str, Any], dict[str, tuple]]:
    import torch
    from torch.export import export
    from torch.fx.traceback import preserve_node_meta

    torch.manual_seed(0)
    block = (_pair() if kind == "pair" else _block()).eval().requires_grad_(False)
    inputs = {"forward": (torch.randn(1, TOKENS, WIDTH),)}
    if kind == "two":
        inputs = {"prefill": inputs["forward"], "decode": (torch.randn(1, 1, WIDTH),)}
    if kind == "int4-block":
        block = _in_int4(block)
    with preserve_node_meta():
        programs = {method: export(block, given) for method, given in inputs.items()}
    if kind.startswith("int8") or kind == "pair":
        programs = {m: _in_int8(p, inputs[m], kind == "int8-dynamic") for m, p in programs.items()}
    return programs, inputs


def _block() -> Any:
    import torch
    from torch import nn
    from torch.fx.traceback import annotate

    from edgevlm.compiler.node_key import NODE_KEY

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(WIDTH)
            self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
            self.up, self.down = nn.Linear(WIDTH, 8 * WIDTH), nn.Linear(8 * WIDTH, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            def named(name: str, call: Any, *given: Any) -> Any:
                with annotate({NODE_KEY: f"/{name}"}):
                    return call(*given)

            h = named("norm", self.norm, x)
            q, k, v = (named(each, getattr(self, each), h) for each in "qkv")
            scores = named("scores", lambda: (q * 0.17) @ k.transpose(1, 2))
            weights = named("softmax", lambda: torch.softmax(scores, -1))
            seen = named("attention", lambda: weights @ v)
            x = named("add_1", lambda: x + self.o(seen))
            h = named("up", self.up, x)
            h = named("gelu", nn.functional.gelu, h)
            return named("down", self.down, h) + x

    return Block()


def _pair() -> Any:
    import torch
    from torch import nn
    from torch.fx.traceback import annotate

    from edgevlm.compiler.node_key import NODE_KEY

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small, self.large = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 256 * WIDTH)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with annotate({NODE_KEY: "/small"}):
                small = self.small(x)
            with annotate({NODE_KEY: "/large"}):
                return small, self.large(x)

    return Pair()


def _in_int8(program: Any, inputs: tuple, dynamic: bool) -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torch.export import export
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    prepared = prepare_pt2e(program.module(), XNNPACKQuantizer().set_global(config))
    prepared(*inputs)
    return export(convert_pt2e(prepared), inputs)


def _in_int4(block: Any) -> Any:
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerGroup
    from torchao.utils import unwrap_tensor_subclass

    block = copy.deepcopy(block)
    config = Int8DynamicActivationIntxWeightConfig(
        weight_dtype=torch.int4, weight_granularity=PerGroup(32)
    )
    quantize_(block, config)
    return unwrap_tensor_subclass(block)


def _partitioners(kind: str) -> list[Any]:
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    if kind == "portable":
        return []
    if kind == "int8-dynamic":  # torchao's linears first, each alone, then what is left in float
        dynamic = ConfigPrecisionType.DYNAMIC_QUANT
        return [XnnpackPartitioner(config_precisions=dynamic, per_op_mode=True), _xnnpack()]
    return [_xnnpack()]


def _xnnpack() -> Any:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return XnnpackPartitioner()


def record(folder: Path, runs: int = 3) -> None:
    """NAME.etdp of so many runs of each method, NAME.nodes.json, and NAME.program: the front of the
    .pte, which has its instructions and neither weights nor what delegates were given."""
    from edgevlm.runtimes.executorch.host_profile import trace_here
    from edgevlm.runtimes.executorch.nodes import nodes_as_json

    for kind in KINDS:
        made = lower(kind)
        path = folder / f"{kind}.pte"
        path.write_bytes(made.pte)
        (folder / f"{kind}.program").write_bytes(front(made.pte))
        text = json.dumps(nodes_as_json(made.nodes), indent=1)
        (folder / f"{kind}.nodes.json").write_text(text + "\n")
        for method, inputs in made.inputs.items():
            name = kind if len(made.inputs) == 1 else f"{kind}-{method}"
            (folder / f"{name}.etdp").write_bytes(trace_here(path, inputs, runs, method))
        path.unlink()


def front(pte: bytes) -> bytes:
    """Up to the segments: the extended header says how long the flatbuffer is."""
    assert pte[4:12] == b"ET12eh00"
    return pte[: int.from_bytes(pte[16:24], "little")]


if __name__ == "__main__":
    record(Path(sys.argv[1]))
