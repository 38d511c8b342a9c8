"""SDKs that are there, half there, and not there: three lines that say what brings them."""

from __future__ import annotations

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.sdk import (
    QNN_COMPILES,
    QNN_PROFILES,
    SdkMissing,
    find_qnn_sdk,
)


def laid(folder, files):
    """Synthetic: empty files where an SDK has its own."""
    for each in files:
        path = folder / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize("environ", [{}, {"QNN_SDK_ROOT": ""}])
def test_without_qnn(environ):
    with pytest.raises(SdkMissing, match=r"EV362 .*QNN_SDK_ROOT is not set") as fault:
        find_qnn_sdk(environ)
    assert isinstance(fault.value, JobFault) and fault.value.exit_status == 1
    what, why, fix = fault.value.lines()
    assert "QAIRT" in what and "pip brings no such SDK" in why
    assert "export QNN_SDK_ROOT=" in fix and "xnnpack" in fix


def test_a_folder_that_is_none_of_it(tmp_path):
    with pytest.raises(SdkMissing, match="names no folder"):
        find_qnn_sdk({"QNN_SDK_ROOT": str(tmp_path / "none")})
    with pytest.raises(SdkMissing, match=r"no lib/x86_64-linux-clang/libQnnHtp\.so, no lib/"):
        find_qnn_sdk({"QNN_SDK_ROOT": str(tmp_path)})


def test_one_that_compiles_and_does_not_profile(tmp_path):
    root = laid(tmp_path, QNN_COMPILES)
    assert find_qnn_sdk({"QNN_SDK_ROOT": str(root)}).root == root
    with pytest.raises(SdkMissing, match="no bin/x86_64-linux-clang/qnn-profile-viewer"):
        find_qnn_sdk({"QNN_SDK_ROOT": str(root)}, (*QNN_COMPILES, *QNN_PROFILES))


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        ("sdk", "product: QAIRT\nversion: 2.37.0.250724\n", "2.37.0.250724"),
        ("2.39.0.250926", None, "2.39.0.250926"),
        ("sdk-2.37.0.250724", None, "2.37.0.250724"),
        ("sdk", "nothing of that kind", None),
    ],
)
def test_its_version(tmp_path, name, text, version):
    root = laid(tmp_path / name, QNN_COMPILES)
    if text is not None:
        (root / "sdk.yaml").write_text(text)
    found = find_qnn_sdk({"QNN_SDK_ROOT": str(root)})
    assert found.version == version
    assert found.library("libQnnHtp.so").is_file()
    assert found.tool("qnn-net-run", "aarch64-android") == root / "bin/aarch64-android/qnn-net-run"
