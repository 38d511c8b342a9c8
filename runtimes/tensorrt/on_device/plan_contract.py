"""The contract of a plan: what the token loop asks of `compiler/contract.py`, without pydantic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from edgevlm.runtimes.tensorrt.on_device.taken import Broken, flag, integer, integers, table, text

__all__ = ["PlanContract", "PlanPort", "PlanSite", "ports_of"]

#: onnx name -> numpy name
TYPES = {
    "FLOAT": "float32",
    "FLOAT16": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "BOOL": "bool",
}
MOST = 10**7  # of anything that is counted, as in the contract
COUNTS = (
    *("image_tokens", "kept_image_tokens", "given_tokens", "prompt_capacity", "kv_capacity"),
    *("prefill_length", "width", "layers", "kv_heads", "head_dim", "vocabulary"),
)


@dataclass(frozen=True)
class PlanSite:
    """In front of a decoder layer, `tokens` of the `given` image tokens are chosen."""

    layer: int
    given: int
    tokens: int
    returns: bool


@dataclass(frozen=True)
class PlanPort:
    """One input or output of a part."""

    name: str
    dtype: str  # onnx name, one of TYPES
    shape: tuple[int, ...]


class PlanContract:
    """Attributes and calls as those of `Contract`. Empty for a model without words."""

    sites: tuple[PlanSite, ...] = ()
    masks: dict[int, str] = {}

    def __init__(self, told: Any, parts: Mapping[str, Mapping[str, Any]], kind: str) -> None:
        """parts: rows of the plan by role. Raises Broken."""
        self._ports = {role: (ports_of(row, "inputs"), ports_of(row, "outputs"))
                       for role, row in parts.items()}  # fmt: skip
        if kind != "vlm":
            return
        told = table(told, "the contract")
        for key in COUNTS:
            setattr(self, key, integer(told, key, 1, MOST))
        self.kv_dtype = text(told, "kv_dtype", 16)
        self.image_positions = text(told, "image_positions", 16)
        if self.image_positions not in ("original", "renumber"):
            raise Broken(f"image_positions is {self.image_positions!r}")
        sites = told.get("sites", [])
        if not isinstance(sites, list) or len(sites) > self.layers:
            raise Broken("sites is no list of at most one a layer")
        self.sites = tuple(map(_site, sites))
        self._tokens, self._capacity = (
            integers(told.get(key), key, self.layers) for key in ("tokens_at", "capacity_at")
        )
        self._check()
        self.masks = _masks(table(told.get("masks"), "masks"), set(self._tokens))
        self._check_caches()

    def _check(self) -> None:
        """What the loop relies on, or it would write over what lies behind a buffer."""
        if not self.kept_image_tokens <= self.given_tokens <= self.image_tokens:
            raise Broken("more image tokens are kept than given")
        if self.prefill_length != self.kept_image_tokens + self.prompt_capacity:
            raise Broken("prefill_length is not kept_image_tokens + prompt_capacity")
        if not len(self._tokens) == len(self._capacity) == self.layers:
            raise Broken("tokens_at and capacity_at do not have an entry a layer")
        for tokens, rows in zip(self._tokens, self._capacity):
            gone = self.kept_image_tokens - tokens
            if gone < 0 or rows != self.kv_capacity - gone or rows <= tokens + self.prompt_capacity:
                raise Broken("capacity_at is not kv_capacity less the tokens that are gone")

    def tokens_at(self, layer: int) -> int:
        """Image tokens in the KV cache of a decoder layer."""
        return self._tokens[layer]

    def capacity_at(self, layer: int) -> int:
        """Rows of the KV cache of a decoder layer."""
        return self._capacity[layer]

    def inputs(self, role: str) -> list[PlanPort]:
        """Input ports of a part, in order; [] for one that is not in the bundle."""
        return self._ports.get(role, ([], []))[0]

    def _check_caches(self) -> None:
        """Every port that carries keys and values has the size that the loop will count on."""
        sizes = {
            "prefill": ("", [tokens + self.prompt_capacity for tokens in self._tokens], 1),
            "decode": ("", [1] * self.layers, 1),
            "decode past": ("past_", self._capacity, 0),
        }
        for what, (prefix, rows, side) in sizes.items():
            role = what.split()[0]
            if role in self._ports:
                found = {port.name: port.shape for port in self._ports[role][side]}
                for i, count in enumerate(rows):
                    for name in (f"{prefix}key_{i}", f"{prefix}value_{i}"):
                        if found.get(name) != (1, self.kv_heads, count, self.head_dim):
                            raise Broken(f"{name} of {role} is {found.get(name)}, not {count} rows")


def ports_of(row: Mapping[str, Any], key: str) -> list[PlanPort]:
    """`inputs` or `outputs` of a row of the plan. Raises Broken."""
    listed = row.get(key)
    if not isinstance(listed, list) or not 1 <= len(listed) <= 10_000:
        raise Broken(f"{key} of part {str(row.get('role'))[:16]} is no list of ports")
    ports = []
    for told in listed:
        told = table(told, "a port")
        dtype = text(told, "dtype", 16)
        if dtype not in TYPES:
            raise Broken(f"{dtype!r} is no type of a port; known are {', '.join(TYPES)}")
        shape = tuple(integers(told.get("shape"), "a shape", 8))
        ports.append(PlanPort(text(told, "name", 200), dtype, shape))
    return ports


def _site(row: Any) -> PlanSite:
    row = table(row, "a site")
    counts = [integer(row, key, 0, MOST) for key in ("layer", "given", "tokens")]
    return PlanSite(counts[0], counts[1], counts[2], flag(row, "returns"))


def _masks(told: Mapping[str, Any], counts: set[int]) -> dict[int, str]:
    """By image tokens; JSON has only text for keys."""
    masks = {int(key): text(told, key, 200) for key in told if key.isdigit()}
    if set(masks) != counts or len(masks) != len(told):
        raise Broken("masks does not have an entry for every length of tokens_at")
    return masks
