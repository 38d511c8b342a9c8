"""Why TensorRT refuses a graph, in its own words, cut to what a person can use."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Iterable

from edgevlm.runtimes.tensorrt.on_device.api import Api

__all__ = ["Refusal", "log_refusals", "parser_refusals"]

MOST = 8  # refusals of one part; the first ones are causes, the others follow from them
LENGTH = 400  # characters of one
#: "In node 5 with name: /a/b and operator: Foo", "for node {ForeignNode[/a...b]}", "[/a/TopK]"
NODE = re.compile(r"(?:with name: |[Nn]ode:? \{?|Layer:? |\[)([/\w][\w./:+-]*(?:\[[^\]]*\])?)")
#: "[optimizer.cpp::computeCosts::4116] Error Code 9: " in front of what is said
PREFIX = re.compile(r"^.{0,150}?Error Code:? \d+:\s*")


@dataclass
class Refusal:
    """One sentence against the graph. stage: parse or build; node, op: empty where not told."""

    stage: str
    node: str
    op: str
    text: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        where = " ".join(part for part in (self.op, self.node) if part)
        return f"{self.stage}: {where}: {self.text}" if where else f"{self.stage}: {self.text}"


def parser_refusals(parser: Any) -> list[Refusal]:
    """What the ONNX parser holds against the file, first error first."""
    found = []
    for i in range(min(parser.num_errors, MOST)):
        error = parser.get_error(i)
        node, op = (_asked(error, what) for what in ("node_name", "node_operator"))
        found.append(Refusal("parse", node, op, _cut(str(error.desc()))))
    return found


def log_refusals(api: Api, lines: Iterable[tuple[Any, str]], stage: str) -> list[Refusal]:
    """The errors of a log. There is one even where TensorRT failed without a word."""
    texts = dict.fromkeys(text for severity, text in lines if api.is_error(severity))
    found = []
    for text in list(texts)[:MOST]:
        told = _cut(PREFIX.sub("", text))
        node = NODE.search(told)
        found.append(Refusal(stage, node[1] if node else "", "", told))
    return found or [Refusal(stage, "", "", "no engine came, and no reason with it")]


def _asked(error: Any, what: str) -> str:
    """node_name and node_operator came with TensorRT 10; an older parser has the text only."""
    value = getattr(error, what, None)
    return str(value()) if value else ""


def _cut(text: str) -> str:
    """The end of a long text: TensorRT tells where it was first, and what is wrong last."""
    text = " ".join(text.split())
    return text if len(text) <= LENGTH else "... " + text[-LENGTH:].split(" ", 1)[-1]
