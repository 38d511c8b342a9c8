"""Every method of a bundle's program on this machine, one at a time on zeros: time by node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevlm.runtimes.base import LayerTime
from edgevlm.runtimes.executorch.host_profile import profile_methods
from edgevlm.runtimes.executorch.layer_times import layer_times
from edgevlm.runtimes.executorch.nodes import NODES, Nodes, read_nodes

if TYPE_CHECKING:
    from edgevlm.compiler.bundle import Bundle

__all__ = ["bundle_layers", "methods_of", "nodes_beside"]


def bundle_layers(bundle: Bundle, runs: int) -> list[LayerTime]:
    """Raises EV307 (a method that fails), EV360."""
    artifacts = bundle.manifest.artifacts
    roles = methods_of(bundle)
    program = bundle.folder / artifacts[0].file
    profile = profile_methods(program, list(roles), runs, nodes=nodes_beside(bundle))
    return layer_times(profile, "measured-host", roles)


def methods_of(bundle: Bundle) -> dict[str, str]:
    """Method -> the role of the part that it is."""
    return {str(a.settings.get("method", a.role)): a.role for a in bundle.manifest.artifacts}


def nodes_beside(bundle: Bundle) -> Nodes | None:
    """Of nodes.json beside the program; bundles of before have none. Raises EV360."""
    file = bundle.folder / bundle.manifest.artifacts[0].file
    name = f"{bundle.manifest.artifacts[0].file.rpartition('/')[0]}/{NODES}"
    return read_nodes(file.with_name(NODES)) if name in bundle.manifest.files else None
