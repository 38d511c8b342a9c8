"""`--on ray://HEAD` on a real cluster of one node, reached as a client, as one far away is."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edgevlm as package
from edgevlm.commands import fleet_ray
from edgevlm.compiler.bundle import check_bundle, open_bundle

SETS = """
[[set]]
name = "one"
classes = ["ant", "bee", "cat"]
[[set]]
name = "two"
classes = ["ant", "bee", "cat"]
alpha = 0.4
[[set]]
name = "bad"
classes = ["cat", "dog"]
alpha = 0.97
"""
START_S = 120
HERE = importlib.util.find_spec("ray") and importlib.util.find_spec("grpc")


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """ray://127.0.0.1:PORT; a cache of its own, and no folder in common with the caller."""
    if not HERE:
        pytest.skip("Ray is not installed: pip install 'edgevlm[ray]'")
    folder = tmp_path_factory.mktemp("ray")
    gcs, client = free_port(), free_port()
    path = os.pathsep.join(
        (str(Path(package.__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
    )
    env = {
        **os.environ,
        "PYTHONPATH": path,
        "EDGEVLM_CACHE": str(folder / "cache"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        f"--port={gcs}", f"--ray-client-server-port={client}", "--num-cpus=1",
        "--include-dashboard=false", f"--temp-dir={folder / 't'}",
        "--object-store-memory=100000000", "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", client)) == 0:
                    break
            time.sleep(0.2)
        yield f"ray://127.0.0.1:{client}"
        process.terminate()
        process.wait(60)


def test_bundles_come_back_from_a_cluster(head, derive, tmp_path):
    ended = derive(SETS, "--on", head)
    assert ended.status == 1, ended.err
    assert (ended.json["done"], ended.json["failed"], ended.json["jobs"]) == (2, 1, None)
    bad = ended.json["sets"][2]
    assert (bad["name"], bad["fault"]["code"]) == ("bad", "EV250")
    digests = {row["name"]: row["digest"] for row in ended.json["sets"][:2]}
    for name, digest in digests.items():
        bundle = tmp_path / "fleet" / f"{name}.edgevlm"
        assert check_bundle(bundle) == [] and open_bundle(bundle).digest == digest
    assert ended.json["sets"][1]["stages"]["class_set"]["reused"] > 0
    again = derive(SETS, "--force")  # here, in this process
    assert {row["name"]: row["digest"] for row in again.json["sets"][:2]} == digests


def test_what_came_back_is_kept(head, derive):
    good = SETS[: SETS.index('[[set]]\nname = "bad"')]
    assert derive(good, "--on", head).status == 0
    ended = derive(good, "--on", head)
    assert (ended.status, ended.json["kept"], ended.json["done"]) == (0, 2, 0)


def test_a_node_with_another_version_is_refused(head, derive, monkeypatch):
    monkeypatch.setattr(fleet_ray, "__version__", "0.0.0")
    ended = derive(SETS, "--on", head)
    assert (ended.status, ended.json["error"]["code"]) == (1, "EV420")
    assert "pip install edgevlm==0.0.0" in ended.err


def test_a_cluster_that_is_not_there(derive, monkeypatch):
    if not HERE:
        pytest.skip("Ray is not installed: pip install 'edgevlm[ray]'")
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "0")
    ended = derive(SETS, "--on", f"ray://127.0.0.1:{free_port()}")
    assert (ended.status, ended.json["error"]["code"]) == (1, "EV420")
    assert "is not reached" in ended.err


def test_without_ray_the_extra_is_named(derive, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = derive(SETS, "--on", "ray://head:10001")
    assert (ended.status, ended.json["error"]["code"]) == (1, "EV191")
    assert "pip install 'edgevlm[ray]'" in ended.err and not list(tmp_path.glob("fleet/*.edgevlm"))
