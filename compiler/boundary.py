"""Cut a part into pieces that run one behind the other: on the device, on the CPU, on the device.

    prefill   embeds -> layers, scores -> TopK, Gather -> layers -> logits

    prefill_a        embeds -> layers -> hidden, scores                      device
    prefill_a_to_b   scores -> TopK -> index;  hidden, index -> Gather       host
    prefill_b        fewer rows -> layers -> logits                          device

Micro NPUs and phones neither sort nor gather well: a graph that does is cut by its compiler, or
falls back. Cut where tokens are chosen, each piece is whole. What chooses (TopK, ArgMax, indexing
by what they found) and what lies between two such steps is the host's; products with stored
weights, convolutions and attention are the device's; the rest goes where its neighbours are. A
method that needs the network in between (tokens that come back behind a layer) gives more pieces,
in order. What the caller's numbers index, as the rows of an image that begins at `image_start`, is
no choice: pass one-hot-tokens makes a product of it.

`split_front` takes what stands in front of the network: a picture unfolded into patches, angles of
positions and masks, rows of an embedding. These are the host's: an NPU has no whole numbers of 64
bits, and angles of some hundred radians are nothing in eight.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import is_stored
from edgevlm.compiler.pieces import Piece, Where, piece_of

__all__ = ["split_at_choice", "split_front"]

#: IsNaN: selectors ask it of what they score, and integers have no answer to it
CHOOSE = frozenset({"ArgMax", "ArgMin", "IsNaN", "TopK"})
#: op -> which input says where
INDEXED = {
    "Gather": 1,
    "GatherElements": 1,
    "GatherND": 1,
    "ScatterElements": 1,
    "ScatterND": 1,
    "OneHot": 0,
}
NETWORK = frozenset({"Attention", "Conv", "ConvTranspose"})
PRODUCTS = frozenset({"Gemm", "MatMul"})
LINEAR = frozenset({"QuantizeLinear", "DequantizeLinear"})
#: what may stand between a picture and its patches
UNFOLDS = (
    frozenset({"Reshape", "Transpose", "Cast", "Identity", "Mul", "Div", "Add", "Sub"}) | LINEAR
)


def split_at_choice(part: ir.Model, name: str) -> list[Piece]:
    """Pieces in the order in which they run; one, the part itself, where nothing is chosen.

    Device and host take turns. Shapes must be known. The part is left as it is.
    """
    stages = _stages(part.graph)
    if not any(stage % 2 for stage in stages.values()):
        return [Piece(name, "device", part)]
    runs: list[Where] = ["device", "host"]
    return [
        Piece(_called(name, stage), runs[stage % 2], piece_of(part, stages, stage))
        for stage in sorted(set(stages.values()))
    ]


def split_front(part: ir.Model, name: str) -> list[Piece]:
    """[what the host does first, the rest]: NAME_front and NAME; one where there is one kind only.

    In front are the patches that a product reads of a picture (as codes, where it is rounded),
    whatever follows from whole numbers of the caller alone, and whole numbers that are known when
    compiling and go to the caller.
    """
    graph = part.graph
    patches = next(filter(None, map(_patches, graph)), None)
    front = _in_front({patches.producer()}) if patches is not None else set()
    told = _from_whole_numbers(graph)
    known = {v.producer() for v in graph.outputs if not v.dtype.is_floating_point()} & told
    front |= _behind_an_input(told) | _in_front(known)
    stages = {node: 1 - (node in front) for node in _needed(graph)}
    if len(set(stages.values())) < 2:
        return [Piece(name, "device" if 1 in stages.values() else "host", part)]
    return [
        Piece(f"{name}_front", "host", piece_of(part, stages, 0)),
        Piece(name, "device", piece_of(part, stages, 1)),
    ]


def _stages(graph: ir.Graph) -> dict[ir.Node, int]:
    """Even on the device, odd on the host; no node needs a later one, and one nobody needs none."""
    hosts, nodes = _chosen_by(graph), _needed(graph)
    stages: dict[ir.Node, int] = {}
    for node in nodes:
        stage = max((stages[n] for n in _makers(node)), default=0)
        if node in hosts:
            stage += 1 - stage % 2
        elif _is_network(node):
            stage += stage % 2
        stages[node] = stage
    for node in reversed(nodes):
        behind = _behind(node, stages)
        index = not behind and not node.outputs[0].dtype.is_floating_point()
        fixed = node in hosts or _is_network(node) or index
        if not fixed and stages[node] % 2 and stages[node] not in behind:
            stages[node] += 1  # nothing on the host needs it
    movable = _from_whole_numbers(graph)
    for node in reversed(nodes):
        behind = _behind(node, stages)
        if node in movable and behind:
            stages[node] = min(behind)  # no port for what the caller's numbers tell
    return stages


def _needed(graph: ir.Graph) -> list[ir.Node]:
    found = _in_front({v.producer() for v in graph.outputs if v.producer() is not None})
    return [node for node in graph if node in found]


def _behind(node: ir.Node, stages: Mapping[ir.Node, int]) -> list[int]:
    """Stages of those that read it and are needed."""
    users = {user for value in node.outputs for user, _ in value.uses()}
    return [stages[user] for user in users if user in stages]


def _chosen_by(graph: ir.Graph) -> set[ir.Node]:
    """What chooses, and what indexes by what was chosen."""
    found: set[ir.Node] = set()
    after: set[ir.Node] = set()  # depends on a choice
    for node in graph:
        if not after.isdisjoint(_makers(node)):
            after.add(node)
        if node.op_type in CHOOSE:
            found.add(node)
            after.add(node)
        place = INDEXED.get(node.op_type)
        if place is not None and node.inputs[place].producer() in after:
            found.add(node)
    return found


def _is_network(node: ir.Node) -> bool:
    if node.op_type in NETWORK:
        return True
    return node.op_type in PRODUCTS and is_stored(node.inputs[1])


def _from_whole_numbers(graph: ir.Graph) -> set[ir.Node]:
    """What follows from positions, indices and masks that the caller gives, and from constants."""
    found: set[ir.Node] = set()
    for node in graph:
        inputs = [v for v in node.inputs if v is not None and v.const_value is None]
        if all(
            v.producer() in found or (v.is_graph_input() and not v.dtype.is_floating_point())
            for v in inputs
        ):
            found.add(node)
    return found


def _behind_an_input(nodes: set[ir.Node]) -> set[ir.Node]:
    """Those of them that follow from something, not from constants alone."""
    given = {n for n in nodes if any(v is not None and v.is_graph_input() for v in n.inputs)}
    found, waiting = set(given), list(given)
    while waiting:
        node = waiting.pop()
        more = {user for value in node.outputs for user, _ in value.uses()} & nodes - found
        found |= more
        waiting.extend(more)
    return found


def _patches(product: ir.Node) -> ir.Value | None:
    """The patches that a product reads, if nothing but unfolding lies in front of them."""
    if product.op_type not in PRODUCTS or not is_stored(product.inputs[1]):
        return None
    value = product.inputs[0]
    while value.producer() is not None and value.producer().op_type in LINEAR:
        value = value.producer().inputs[0]
    patches, turned = value, False
    while (node := value.producer()) is not None:
        varies = [v for v in node.inputs if v is not None and v.const_value is None]
        if node.op_type not in UNFOLDS or len(varies) != 1:
            return None
        turned |= node.op_type == "Transpose"
        value = varies[0]
    picture = value.is_graph_input() and len(value.shape) >= 4
    return patches if picture and turned else None


def _in_front(nodes: set[ir.Node]) -> set[ir.Node]:
    """These, and all that they need."""
    found, waiting = set(nodes), list(nodes)
    while waiting:
        more = set(_makers(waiting.pop())) - found
        found |= more
        waiting.extend(more)
    return found


def _makers(node: ir.Node) -> list[ir.Node]:
    return [v.producer() for v in node.inputs if v is not None and v.producer() is not None]


def _called(name: str, stage: int) -> str:
    letter = chr(ord("a") + stage // 2)
    return f"{name}_{letter}" if stage % 2 == 0 else f"{name}_{letter}_to_{chr(ord(letter) + 1)}"
