"""The other side: the program that runs in the interpreter of a tool.

    python inside.py job   ROOT MODULE:FUNCTION ASKED TOLD     one call; JSON in files
    python inside.py serve ROOT MODULE:FUNCTION ASKED          calls until its maker leaves: wire.py

edgevlm is not installed there. Its folder (ROOT, the package itself: a checkout, an editable or a
plain install) is made the package `edgevlm` by hand; so both sides run the same files, and whatever
else lies beside that folder stays out of sight. Only the standard library may be imported above
that.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__: list[str] = []


def _own(root: str) -> None:
    """Make `import edgevlm` mean the folder `root`."""
    spec = importlib.util.spec_from_file_location(
        "edgevlm", Path(root) / "__init__.py", submodule_search_locations=[root]
    )
    module = sys.modules["edgevlm"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _error(error: BaseException) -> dict[str, Any]:
    """For the reply: an error of ours in full, any other by name, text and place."""
    from edgevlm.compiler.errors import EdgeError

    if isinstance(error, EdgeError):
        return {"fault": {"kind": type(error).__name__, **error.as_json()}}
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})"
    noted = "".join(f"{note[:60]}: " for note in getattr(error, "__notes__", ()))
    return {"error": f"{noted}{type(error).__name__}: {str(error)[:400]}, at {place}"}


def _job(function: str, asked: str, told: str) -> None:
    from edgevlm.compiler.workshop.tether import tie

    tie()
    try:
        request = json.loads(Path(asked).read_text())
        reply = json.dumps({"done": _function(function)(request, Path.cwd())})
    except (Exception, SystemExit) as error:  # a vendor's program, called as a function, may exit
        traceback.print_exc()
        reply = json.dumps(_error(error))
    Path(told).write_text(reply)


def _main(mode: str, root: str, function: str, *files: str) -> None:
    _own(root)
    if mode == "job":
        _job(function, *files)
    else:
        from edgevlm.compiler.workshop.serving import serve

        serve(_function, _error, function, *files)


if __name__ == "__main__":
    _main(*sys.argv[1:])
