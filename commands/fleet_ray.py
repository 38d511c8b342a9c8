"""Workers of a Ray cluster: groups go there with the base and their pictures, bundles come back.

Nothing is shared but Ray: a node needs no folder of this machine, only the same version of edgevlm
(`pip install edgevlm` in its environment). It keeps the base in a cache of its own. What is written
is written here, whole, as it arrives. Ray is an optional extra and imported in this file alone.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from edgevlm import __version__
from edgevlm.commands.fleet_report import failed
from edgevlm.commands.fleet_work import Group, derive_group
from edgevlm.compiler.atomic import atomic_folder
from edgevlm.compiler.cache import cached_folder
from edgevlm.compiler.errors import JobFault

__all__ = ["run_ray"]

Found = list[tuple[dict[str, Any], bytes | None]]


def run_ray(groups: Sequence[Group], address: str) -> Iterator[dict[str, Any]]:
    """Rows as they come. Raises EV191 (no Ray here), EV420 (no cluster, or another edgevlm)."""
    ray, running = _ray(address), {}
    try:
        work = ray.remote(max_retries=0)(remote_group)
        bases = {g.base: ray.put(_packed(g.base)) for g in {g.base: g for g in groups}.values()}
        waiting = list(reversed(groups))
        width = max(1, int(ray.cluster_resources().get("CPU", 1)))
        while waiting or running:
            while waiting and len(running) < 2 * width:  # the next are there when one ends
                group = waiting.pop()
                ref = work.remote(bases[group.base], group.base.name, group, __version__)
                running[ref] = group
            (ref, *_), _ = ray.wait(list(running), num_returns=1)
            yield from _gathered(ray, ref, running.pop(ref))
    finally:
        with contextlib.suppress(Exception):
            for ref in running:
                ray.cancel(ref, force=True)
        ray.shutdown()


def remote_group(base: bytes, key: str, group: Group, version: str) -> Found | str:
    """On a node: rows with the bundles as tar; this node's version where that is another."""
    if version != __version__:
        return __version__
    here = cached_folder("base", key, lambda draft: _unpack(base, draft))
    found: Found = []
    with tempfile.TemporaryDirectory(prefix="edgevlm-fleet-") as folder:
        items = tuple(
            replace(item, options=replace(item.options, out=Path(folder, f"{i}.edgevlm")))
            for i, item in enumerate(group.items)
        )
        for item, row in zip(
            items, derive_group(replace(group, base=here, items=items)), strict=True
        ):
            whole = row["status"] == "done"
            found.append((row, _packed(item.options.out) if whole else None))
    return found


def _gathered(ray: ModuleType, ref: Any, group: Group) -> Iterator[dict[str, Any]]:
    """The rows of a group, its bundles written."""
    try:
        found = ray.get(ref)
    except ray.exceptions.RayError as error:
        for item in group.items:
            yield failed(item, _lost(item.name, error))
        return
    if isinstance(found, str):
        raise JobFault(
            "EV420",
            f"a node of the Ray cluster has edgevlm {found}",
            f"here it is {__version__}, and bundles of the two would not be the same",
            f"pip install edgevlm=={__version__}  on that node",
        )
    for item, (row, packed) in zip(group.items, found, strict=True):
        out = item.options.out
        if packed is not None:
            with atomic_folder(out, item.options.force) as draft:
                _unpack(packed, draft)
        yield {**row, "bundle": str(out)}


def _lost(name: str, error: Exception) -> JobFault:
    return JobFault(
        "EV421",
        f"the Ray task that derived {name!r} ended before it was done",
        f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no more is said'])[-1]}",
        "the same command again goes on with what is missing; ray status  shows the nodes",
    )


def _ray(address: str) -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise JobFault(
            "EV191", f"--on {address[:80]} needs Ray", str(error), "pip install 'edgevlm[ray]'"
        ) from error
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray's own, gRPC's, or ConnectionError, by how it fails
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise JobFault(
            "EV420",
            f"--on {address[:80]} is not reached",
            last[:300],
            "ray status  on the head; its client port is 10001 unless it was told another",
        ) from error
    return ray


def _packed(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            tar.add(path, str(path.relative_to(folder)))
    return out.getvalue()


def _unpack(data: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(folder, filter="data")
