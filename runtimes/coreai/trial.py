"""An asset of unknown origin is opened in a process of its own first.

Core AI's reader and compiler end the process where a program is not what they expect: a bundle that
was tampered with would take `edgevlm` along. What opens there opens here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgevlm.compiler.artifact_checks import unusable
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.compiler.manifest import Artifact

__all__ = ["try_opening"]

LIMIT_S = 600.0


def try_opening(folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
    """Raises as `AssetParts`, and EV304 for what ends the process that opens it."""
    path = (folder / artifacts[0].file).parent
    call = [sys.executable, "-P", "-m", __name__, str(folder)]
    asked = {
        "artifacts": [a.model_dump(mode="json") for a in artifacts],
        "contract": contract.model_dump(mode="json"),
    }
    try:
        done = subprocess.run(
            call, input=json.dumps(asked), capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise unusable(path, f"Core AI did not compile it in {LIMIT_S:.0f} s") from error
    if done.returncode == 0:
        return
    told = done.stdout.strip().splitlines()
    if done.returncode == 1 and told and told[-1].startswith("{"):
        fault = json.loads(told[-1])
        if fault["code"] == "EV304":
            raise unusable(path, fault["why"])
        raise JobFault.relayed(fault, path.name)
    raise unusable(path, f"Core AI's reader broke down on it (status {done.returncode})")


def _main(folder: str) -> int:
    from edgevlm.runtimes.coreai.asset import AssetParts

    asked = json.load(sys.stdin)
    artifacts = [Artifact.model_validate(a) for a in asked["artifacts"]]
    contract = Contract.model_validate_json(json.dumps(asked["contract"]))
    try:
        AssetParts(Path(folder), artifacts, contract)
    except EdgeError as error:
        print(json.dumps(error.as_json()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
