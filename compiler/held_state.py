"""Parts whose caches a runtime holds, driven by the one token loop as if they were handed over.

    prefill  -> key_i, value_i     names for what the runtime now holds; numpy sees it when asked
    decode   <- past_*, masks      the same names: nothing is copied, one number says where to write
             <- past_* as arrays   put into the runtime first: any call can be made, and compared

A runtime gives `run` (a part, without caches), `read` and `write` (one cache, or all).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.generate import Cache
from edgevlm.compiler.kv_names import CACHE_POSITION, PAST
from edgevlm.compiler.ports import Port
from edgevlm.compiler.state_ports import cache_ports

__all__ = ["Held", "StateParts", "place_of"]


class Held:
    """An array that lies in a runtime; `np.asarray(it)` fetches it as it is then."""

    def __init__(
        self,
        fetch: Callable[[], np.ndarray],
        shape: tuple[int, ...],
        dtype: np.dtype,
        owner: StateParts,
    ) -> None:
        self._fetch, self.shape, self.dtype, self.owner = fetch, shape, dtype, owner

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.array(self._fetch())
        return array if dtype is None else array.astype(dtype, copy=False)


class StateParts(ABC):
    """A PartCaller over a runtime that keeps key_i, value_i [1,kv_heads,C,head_dim] itself."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._position = 0  # the row that the next token is written to

    @cached_property
    def _states(self) -> dict[str, Port]:
        return cache_ports(self.contract)

    @cached_property
    def _prompt_rows(self) -> dict[str, int]:
        """Of each cache, as prefill leaves it."""
        outs = self.contract.outputs("prefill")
        return {p.name: p.shape[2] for p in outs if p.name in self._states}

    @abstractmethod
    def run(self, role: Role, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One part; decode is fed `cache_position`, int64 [1]. Outputs without caches."""

    @abstractmethod
    def read(self, name: str) -> np.ndarray:
        """key_i or value_i, all C rows."""

    @abstractmethod
    def write(self, caches: Mapping[str, np.ndarray]) -> None:
        """All of them, each [1,kv_heads,C,head_dim]."""

    def call(self, role: Role, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name; caches as `Held`, which hold until a part is called again."""
        if role == "decode":
            return self._decode(feeds)
        out: dict[str, Any] = self.run(role, feeds)
        if role == "prefill":
            out |= {name: self._held(name, slice(0, n)) for name, n in self._prompt_rows.items()}
        return out

    def cache(self, contract: Contract, prefill: Mapping[str, Any]) -> Cache:
        """The cache of `generate`: what prefill left in the runtime."""
        return _HeldCache(self, contract, prefill)

    def _decode(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        past = {n.removeprefix(PAST): v for n, v in feeds.items() if n.startswith(PAST)}
        mine = all(isinstance(v, Held) and v.owner is self for v in past.values())
        if not mine:
            self.write({name: np.asarray(array) for name, array in past.items()})
        position = self._position if mine else place_of(self.contract, feeds)
        plain = {n: v for n, v in feeds.items() if n in ("inputs_embeds", "position_ids")}
        out: dict[str, Any] = self.run("decode", plain | {CACHE_POSITION: np.array([position])})
        for layer in range(self.contract.layers):
            row = position - self.contract.kv_capacity + self.contract.capacity_at(layer)
            for name in (f"key_{layer}", f"value_{layer}"):
                out[name] = self._held(name, slice(row, row + 1))
        return out

    def _held(self, name: str, rows: slice) -> Held:
        port = self._states[name]
        shape = (*port.shape[:2], rows.stop - rows.start, port.shape[3])
        dtype = np.dtype({"FLOAT": "f4", "FLOAT16": "f2", "INT8": "i1"}[port.dtype])
        return Held(lambda: self.read(name)[:, :, rows], shape, dtype, self)


def place_of(contract: Contract, feeds: Mapping[str, Any]) -> int:
    """Of the new token, from a mask: behind all that is filled."""
    tokens, name = next(iter(contract.masks.items()))
    gone = contract.kept_image_tokens - tokens
    return int(np.asarray(feeds[name])[..., :-1].sum()) + gone


class _HeldCache(Cache):
    def __init__(self, parts: StateParts, contract: Contract, prefill: Mapping[str, Any]) -> None:
        self.parts = parts
        super().__init__(contract, prefill)

    def hold(self, name: str, shape: tuple[int, ...], first: Any) -> Any:
        if isinstance(first, Held) and first.owner is self.parts:
            return self.parts._held(name, slice(0, shape[2]))
        return super().hold(name, shape, np.asarray(first))

    def put(self, held: Any, at: int, row: Any) -> None:
        if not isinstance(held, Held):
            super().put(held, at, np.asarray(row))

    def feeds(self, filled: int) -> dict[str, Any]:
        self.parts._position = filled
        return super().feeds(filled)
