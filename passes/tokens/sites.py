"""Where tokens may leave: the names of `--prune-at`, in the order in which a picture passes them.

vision:B       after B blocks of the vision encoder (vision:0 is before the first)
vision-out     behind the vision encoder, in front of the connector
connector-out  behind the connector, in front of the language model; no text is seen there
llm:L          after L layers of the language model (llm:0 is connector-out with the text in view)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import UsageFault

__all__ = ["KINDS", "Site", "depths", "list_sites", "parse_site"]

#: in the order of the flow
KINDS = ("vision", "vision-out", "connector-out", "llm")
DEPTH = re.compile(r"(vision|llm):(0|[1-9][0-9]{0,3})")


@dataclass(frozen=True, order=True)
class Site:
    """A place in the flow; sites compare in the order in which tokens pass them."""

    rank: int  # of the kind
    depth: int  # blocks or layers in front; 0 where the kind has none

    @property
    def kind(self) -> str:
        return KINDS[self.rank]

    def __str__(self) -> str:
        return f"{self.kind}:{self.depth}" if self.kind in ("vision", "llm") else self.kind

    @classmethod
    def at(cls, kind: str, depth: int = 0) -> Site:
        return cls(KINDS.index(kind), depth)


def parse_site(text: str) -> Site:
    """Raises EV209 for a name that is none."""
    if text in ("vision-out", "connector-out"):
        return Site.at(text)
    match = DEPTH.fullmatch(text)
    if match is None:
        raise UsageFault(
            "EV209",
            f"no site is called {text[:60]!r}",
            "sites are vision:B, vision-out, connector-out and llm:L",
            "edgevlm compile ... --prune-at connector-out",
        )
    return Site.at(match[1], int(match[2]))


def list_sites(contract: Contract, blocks: int | None) -> list[str]:
    """The sites of a model, for messages; `blocks`: of its vision part, None where unknown."""
    names = [] if blocks is None else [f"vision:0..{blocks}"]
    if contract.kind == "vlm":
        names += ["vision-out", "connector-out", f"llm:0..{contract.layers - 1}"]
    return names


def depths(layers: int, shares: tuple[float, ...], first: int = 1) -> list[Site]:
    """Decoder sites at shares of the depth, each once, none before `first` or behind the last."""
    found = [min(max(round(share * layers), first), layers - 1) for share in shares]
    return [Site.at("llm", depth) for depth in dict.fromkeys(found)]
