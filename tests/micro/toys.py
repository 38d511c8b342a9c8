"""Tools small enough to be made in a test, by the real venv and the real pip, without a network.

toyfirst, toytool: wheels of one module each; toytool wants toyfirst

toy      makes an environment         afar     has packages for another machine only
missing  wants what no index has      huge     wants more disk than there is
here     wants nothing that this environment has not
"""

from __future__ import annotations

import base64
import hashlib
import platform
import zipfile
from pathlib import Path

import pytest

from edgevlm.commands import doctor_tools
from edgevlm.compiler.workshop import home as home_module
from edgevlm.compiler.workshop import tools
from edgevlm.compiler.workshop.tools import Tool

__all__ = ["put_toys", "toy_tools", "toy_wheels"]

TOYTOOL = """
import toyfirst
print("toytool says hello, as vendors do")
def double(x): return 2 * x
"""


def toy_wheels(folder: Path) -> Path:
    _wheel(folder, "toyfirst", "one = 1\n")
    _wheel(folder, "toytool", TOYTOOL, "toyfirst==1.0")
    return folder


def put_toys(patch: pytest.MonkeyPatch, wheels: Path, home: Path) -> None:
    """In place of the tools, with environments in `home`; pip sees these wheels alone."""
    for module in (tools, home_module, doctor_tools):
        patch.setattr(module, "tools", toy_tools)
    environ = {"EDGEVLM_TOOLS": str(home), "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1",
               "PIP_FIND_LINKS": str(wheels), "PIP_EXTRA_INDEX_URL": "", "PIP_INDEX_URL": "",
               "PIP_RETRIES": "0"}  # fmt: skip
    for name, value in environ.items():
        patch.setenv(name, value)


def toy_tools() -> dict[str, Tool]:
    """By name, for compiler.workshop.tools.tools; `here` makes one of this environment's own."""
    return {
        tool.name: tool
        for tool in (
            _tool("toy", ["toytool==1.0"], "toytool"),
            _tool("missing", ["toyghost==9.9"], "toyghost"),
            _tool("afar", ["toytool==1.0"], "toytool", machines=["Plan9 pdp11"]),
            _tool("huge", ["toytool==1.0"], "toytool", mb=10**9),
            _tool("here", ["toytool==1.0"], "numpy", here=["numpy>=1"], extra="data"),
        )
    }


def _tool(name: str, packages: list[str], proof: str, **more: object) -> Tool:
    told = {
        "name": name, "purpose": "tests", "here": [f"{proof}==1.0"], "python": ">=3.11",
        "machines": [f"{platform.system()} {platform.machine()}"], "mb": 40,
        "first": ["toyfirst==1.0"], "packages": packages, "proof": [proof],
    }  # fmt: skip
    return Tool.model_validate(told | more)


def _wheel(folder: Path, name: str, source: str, *needs: str) -> None:
    """As PEP 427 has it."""
    info = f"{name}-1.0.dist-info"
    needed = "".join(f"Requires-Dist: {each}\n" for each in needs)
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},{_digest(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def _digest(text: str) -> str:
    raw = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
