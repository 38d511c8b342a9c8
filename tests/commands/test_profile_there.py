"""`edgevlm profile --device`: a real sshd on loopback, the real adb with a stand-in for its phone.

The device is this machine, so its figures must be those of `--device local`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest

from edgevlm.commands import carry
from edgevlm.commands.profile_there import parsed
from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.ort.runtime import OrtRuntime


@pytest.fixture
def there(sshd):
    return "--device", sshd.address


def test_all_figures_and_nothing_left_behind(edgevlm, sshd, there, bundle):
    before = time.time()
    done = edgevlm("profile", bundle, *there, "-n", "8", "--warmup", "2", "--ops", "--json")
    report = done.json
    assert done.status == 0 and report["n"] == 8 and report["bundle"] == str(bundle)
    assert {stage["how"] for stage in report["stages"].values()} == {"measured-device"}
    assert report["device"]["reached"] == "ssh" and report["device"]["cuts"] == 0
    timed = report["timed"]
    began, ended = (datetime.fromisoformat(timed[at]).timestamp() for at in ("begin", "end"))
    slack = timed["error_s"]
    assert before - slack < began < ended < time.time() + slack and slack < 0.5
    clock = report["device"]["clock"]
    assert abs(clock["drift_s"]) <= 2 * clock["error_s"]
    assert {row["how"] for row in report["ops"]} == {"measured-device"}
    assert f"copy to {sshd.address}" in done.err and "10 of 10" in done.err
    assert sshd.address not in done.out  # reports get published
    assert sshd.left == []


def test_the_figures_are_those_of_this_machine(edgevlm, there, bundle):
    """In turns, since other work on the machine hits one or the other; the best of each."""
    seen = {"local": [], "there": []}
    for _ in range(2):
        for where, device in (("local", ()), ("there", there)):
            report = edgevlm("profile", bundle, *device, "-n", "30", "--json").json
            seen[where].append(report["stages"]["prefill"]["min_ms"])
    ratio = min(seen["there"]) / min(seen["local"])
    assert 0.5 < ratio < 2


def test_keep_leaves_the_copy_for_the_next_call(edgevlm, sshd, there, bundle):
    call = ("profile", bundle, *there, "-n", "1", "--warmup", "0")
    edgevlm(*call, "--keep")
    assert any(name.endswith("manifest.json") for name in sshd.left)
    assert not any("run-" in name or name.endswith("lock") for name in sshd.left)
    second = edgevlm(*call)
    assert second.status == 0 and sshd.left == []


def test_a_picture_and_a_question_of_ones_own(edgevlm, there, bundle, picture):
    ended = edgevlm(
        "profile", bundle, *there, "-n", "2", "--image", picture, "--prompt", "what is it?",
        "--json",
    )  # fmt: skip
    assert ended.json["requests"] == 1


def test_a_picture_that_is_none_is_told_before_anything_is_copied(edgevlm, there, bundle, sshd):
    ended = edgevlm(
        "profile", bundle, *there, "--image", bundle / "manifest.json", "--prompt", "what?"
    )
    assert ended.code == "EV114" and sshd.left == []


def test_packages_that_are_missing_there(edgevlm, sshd, there, bundle, monkeypatch):
    monkeypatch.setattr(OrtRuntime, "runs_with", ("numpy", "no-such-package"))
    ended = edgevlm("profile", bundle, *there)
    assert (ended.status, ended.code) == (1, "EV433")
    assert "has no no-such-package" in ended.err
    assert f"ssh {sshd.address} 'python3 -m venv ~/.edgevlm" in ended.err
    assert sshd.left == []


def test_a_bundle_for_another_architecture(edgevlm, sshd, there, micro_folder, tmp_path):
    out = tmp_path / "pi.edgevlm"
    assert edgevlm("compile", micro_folder, "--target", "raspberry-pi-5", "-o", out).status == 0
    ended = edgevlm("profile", out, *there)
    assert (ended.status, ended.code) == (2, "EV434")
    assert "compiled for raspberry-pi-5, which is aarch64" in ended.err and sshd.left == []


def test_a_runtime_that_does_not_run_on_that_architecture(edgevlm, there, bundle, monkeypatch):
    monkeypatch.setattr(OrtRuntime, "architectures", ("riscv64",))
    assert edgevlm("profile", bundle, *there).code == "EV434"


def test_what_fails_there_is_told_as_it_would_be_here(edgevlm, sshd, there, bundle, monkeypatch):
    """The runner of a broken edgevlm stands for whatever may fail on the way."""
    monkeypatch.setattr(carry, "START", "import sys; sys.exit('no such thing')")
    carry.runner.cache_clear()
    try:
        ended = edgevlm("profile", bundle, *there)
    finally:
        carry.runner.cache_clear()
    assert (ended.status, ended.code) == (1, "EV437") and "no such thing" in ended.err
    assert sshd.left == []


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"", "EV439"),
        (b"[]", "EV439"),
        (b"{}", "EV439"),
        (b"[" * 100_000, "EV439"),
        (b'{"error": {"code": "EV999"}}', "EV439"),
        (b'{"error": {"code": "EV304", "what": "a", "why": "b", "next": "c"}}', "EV304 on d: a: b"),
    ],
)
def test_what_comes_back_is_not_trusted(said, code):
    with pytest.raises(JobFault, match=code):
        parsed(said, "d")


def test_a_broken_artifact_is_told_here(edgevlm, there, own_bundle, sshd):
    from edgevlm.compiler.bundle import MANIFEST

    spoilt = own_bundle / "ort" / "vision.onnx"
    spoilt.write_bytes(b"\0" * spoilt.stat().st_size)
    assert (own_bundle / MANIFEST).is_file()
    assert edgevlm("profile", own_bundle, *there).code == "EV101"


def test_ctrl_c_ends_what_runs_there_and_cleans_up(sshd, there, bundle):
    call = ["profile", str(bundle), *there, "--duration", "60s"]
    code = "import sys; from edgevlm.cli import main; sys.exit(main())"
    child = subprocess.Popen(
        [sys.executable, "-c", code, *call], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    deadline = time.monotonic() + 60
    while not list(sshd.cache.rglob("progress")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "stopped by SIGINT" in said
    assert sshd.left == []
    assert not _running(str(sshd.cache))


def _running(folder: str) -> list[str]:
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if folder in line and "sshd -D" not in line]


def test_over_adb(edgevlm, phone, bundle):
    ended = edgevlm(
        "profile", bundle, "--device", "adb:FAKE01", "--python", sys.executable, "-n", "3", "--json"
    )
    assert ended.status == 0 and ended.json["device"]["reached"] == "adb"
    assert ended.json["stages"]["prefill"]["n"] == 3
    assert list(phone.folder.iterdir()) == []


def test_nobody_there(edgevlm, sshd, bundle):
    sshd.stop()
    ended = edgevlm("profile", bundle, "--device", sshd.address)
    assert (ended.status, ended.code) == (1, "EV431")
