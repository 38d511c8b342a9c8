"""torch is an extra: nothing that is imported on the way to the command line may import it."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import edgevlm.compiler, edgevlm.compiler.to_torch, edgevlm.cli, edgevlm.passes
from edgevlm.compiler.to_torch import missing_ops, to_torch
print("torch" in sys.modules)
"""


def test_importing_the_bridge_and_the_command_line_imports_no_torch():
    made = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert made.stdout == "False\n"


def test_the_module_is_a_name_of_the_package():
    import pytest

    pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")
    from edgevlm.compiler.to_torch import TorchPart
    from edgevlm.compiler.to_torch.part import TorchPart as same

    assert TorchPart is same
    with pytest.raises(ImportError):
        from edgevlm.compiler.to_torch import Torch  # noqa: F401
