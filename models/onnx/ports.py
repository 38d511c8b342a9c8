"""The ends of the graph: a picture in, classes or a map out, under the contract's names.

input_image [B,3,H,W] -> ... -> probs [B,1000]        pixel_values [1,3,224,224] -> logits [1,1000]
input_image [B,3,H,W] -> ... -> heat [B,1,H',W']      pixel_values [1,3,224,224] -> map [1,1,H',W']
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.models.onnx.read import not_supported
from edgevlm.models.onnx.sidecar import Sidecar, broken, sidecar_path

__all__ = ["choose_output", "fix_input", "kind_of", "name_ports"]

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})
LARGEST = 4096  # pixels a side, as the image processor has it
LABELS = {2: "[1,classes]", 4: "[1,channels,H,W]"}


def fix_input(path: Path, graph: ir.Graph, sidecar: Sidecar) -> tuple[int, int]:
    """Give the one input its static shape; returns height and width in pixels.

    Raises EV140 for a graph that does not read one picture, EV141 where nothing states its size.
    """
    if len(graph.inputs) != 1:
        named = ", ".join(map(_told, graph.inputs)) or "no inputs"
        raise not_supported(
            path,
            f"it reads {named}"[:200],
            "a bare ONNX file can be compiled if it reads one picture [1,3,H,W]; a language model "
            "needs its tokenizer, so it is compiled from its checkpoint",
            "edgevlm compile CHECKPOINT_FOLDER --target cpu -o out.edgevlm",
        )
    (picture,) = graph.inputs
    dims = list(picture.shape) if picture.shape is not None else []
    if picture.dtype not in FLOATS or len(dims) != 4:
        raise not_supported(
            path, f"it reads {_told(picture)}", "a float picture [1,3,H,W] is taken"
        )
    batch, channels, *sides = dims
    if isinstance(batch, int) and batch != 1:
        raise not_supported(
            path, f"it reads {batch} pictures at once", "pictures come one by one on a device"
        )
    if isinstance(channels, int) and channels != 3:
        last = "; channels come first here" if sides[-1] == 3 else ""
        raise not_supported(
            path, f"it reads {_told(picture)}", f"a picture has 3 channels: [1,3,H,W]{last}"
        )
    size = [
        asked or (side if isinstance(side, int) else None)
        for asked, side in zip(sidecar.size, sides, strict=True)
    ]
    if None in size:
        raise broken(
            sidecar_path(path),
            f"{path.name} leaves the size of its picture open ({_told(picture)}); state it: "
            "[image] height = 224, width = 224",
        )
    if any(isinstance(side, int) and side != n for side, n in zip(sides, size, strict=True)):
        raise broken(
            sidecar_path(path),
            f"it says {size[0]} x {size[1]} pixels, {path.name} reads {_told(picture)}",
        )
    if not all(1 <= side <= LARGEST for side in size):
        raise not_supported(path, f"it reads {_told(picture)}", f"{LARGEST} pixels are the limit")
    picture.shape = ir.Shape([1, 3, *size])
    return size[0], size[1]


def choose_output(path: Path, graph: ir.Graph, sidecar: Sidecar) -> None:
    """Leave one output. Raises EV140 where there are several and none is chosen, EV141."""
    names = [str(v.name) for v in graph.outputs]
    if sidecar.output is not None:
        if sidecar.output not in names:
            raise broken(
                sidecar_path(path), f"output {sidecar.output!r} is none of {', '.join(names)}"
            )
        chosen = graph.outputs[names.index(sidecar.output)]
    elif len(names) == 1:
        (chosen,) = graph.outputs
    else:
        raise not_supported(
            path,
            f"it has {len(names)} outputs ({', '.join(map(_told, graph.outputs))})"[:200],
            "one can be compiled, and which one the file does not say",
            f'write into {sidecar_path(path).name} beside it: output = "{names[0]}"',
        )
    graph.outputs.clear()
    graph.outputs.append(chosen)


def kind_of(path: Path, graph: ir.Graph) -> Literal["classifier", "dense"]:
    """What a static graph is, by the shape of its output. Raises EV140."""
    (out,) = graph.outputs
    dims = list(out.shape)
    if out.producer() is None:
        raise not_supported(path, f"{out.name} is computed from no picture", "it is a constant")
    if out.dtype not in FLOATS or len(dims) not in LABELS or dims[0] != 1:
        raise not_supported(
            path,
            f"it gives {_told(out)}",
            f"it would have to be a float {' (classes) or '.join(LABELS.values())} (a map)",
        )
    return "classifier" if len(dims) == 2 else "dense"


def name_ports(model: ir.Model, output: str) -> None:
    """Rename the ends to `pixel_values` and `output`; make them float32."""
    graph = model.graph
    build = GraphBuilder(model, "ports")
    for name, value in (("pixel_values", graph.inputs[0]), (output, graph.outputs[0])):
        stays = value.dtype is ir.DataType.FLOAT or value is graph.inputs[0]
        _free(graph, name, value if stays else None)
        if value.dtype is ir.DataType.FLOAT:
            value.name = name
        elif value is graph.inputs[0]:
            outer = ir.Value(name=name, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
            inner = build("Cast", outer, to=int(value.dtype))
            inner.shape, inner.dtype = value.shape, value.dtype
            value.replace_all_uses_with(inner)
            graph.inputs[0] = outer
        else:
            outer = build("Cast", value, to=int(ir.DataType.FLOAT))
            outer.shape, outer.dtype, outer.name = value.shape, ir.DataType.FLOAT, name
            graph.outputs[0] = outer
    build.finish()


def _free(graph: ir.Graph, name: str, owner: ir.Value | None) -> None:
    """Let no value but the owner have the name."""
    values = [*graph.inputs, *graph.initializers.values()]
    values += [v for node in graph for v in node.outputs]
    taken = {str(v.name) for v in values}
    for value in values:
        if value.name == name and value is not owner:
            fresh = f"{name}/inner"
            while fresh in taken:
                fresh += "_"
            value.name = fresh


def _told(value: ir.Value) -> str:
    dtype = value.dtype.name if value.dtype is not None else "untyped"
    dims = [str(d) for d in value.shape] if value.shape is not None else ["?"]
    return f"{value.name} {dtype.lower()}[{','.join(dims)}]"
