"""An asset as parts: caches that are state; files and feeds that are not what they should be."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import encode_image, generate
from edgevlm.compiler.held_state import Held
from edgevlm.compiler.kv_names import PAST
from edgevlm.compiler.reference import observe
from edgevlm.runtimes.coreai.asset import HASH, PROGRAM
from edgevlm.runtimes.coreai.calling import wait_for
from edgevlm.runtimes.coreai.runtime import CoreAiRuntime

HOME = Path("coreai") / "model.aimodel"


@pytest.fixture(scope="session")
def micro(tmp_path_factory, micro_model):
    """(folder, artifacts, contract) of the micro model."""
    folder = tmp_path_factory.mktemp("micro")
    return folder, CoreAiRuntime().lower(micro_model, folder), micro_model.contract


@pytest.fixture(scope="session")
def parts(micro):
    return CoreAiRuntime().open_artifacts(*micro)


@pytest.fixture
def copy(micro, tmp_path):
    """The same, where it may be spoiled."""
    shutil.copytree(micro[0], tmp_path, dirs_exist_ok=True)
    return tmp_path, *micro[1:]


def decode_feeds(model, probes):
    return dict(observe(model, probes[:1]).feeds[0]["decode"])


def test_caches_can_be_put_in_and_taken_out(parts, micro_model, micro_probes):
    """Any call of decode can be made, with any caches, as if they were handed over."""
    feeds, rng = decode_feeds(micro_model, micro_probes), np.random.default_rng(0)
    for name, array in feeds.items():
        if name.startswith(PAST):
            feeds[name] = rng.normal(size=array.shape).astype(array.dtype)
    wanted, found = (
        ReferenceParts(micro_model.parts).call("decode", feeds),
        parts.call("decode", feeds),
    )
    for name, array in wanted.items():
        np.testing.assert_allclose(np.asarray(found[name]), array, rtol=1e-4, atol=1e-4)
    filled = int(feeds["attention_mask"][..., :-1].sum())
    for name in ("key_0", "value_0"):
        held, given = parts.read(name), feeds[PAST + name]
        np.testing.assert_array_equal(np.delete(held, filled, 2), np.delete(given, filled, 2))
        assert np.abs(held[:, :, filled] - given[:, :, filled]).max() > 0


def test_other_parts_between_the_tokens_change_nothing(parts, micro_model, micro_probes):
    """And neither does an answer before: prefill writes all rows of the caches."""
    contract, probe = micro_model.contract, micro_probes[0]
    ask = (probe.before, probe.after, ())
    image = encode_image(contract, parts, probe.pixel_values)
    alone = list(generate(contract, parts, image, *ask, max_new=6))
    between = []
    for token in generate(contract, parts, image, *ask, max_new=6):
        between.append(token)
        encode_image(contract, parts, probe.pixel_values + 1)
    assert alone == between and len(alone) > 2
    graphs = ReferenceParts(micro_model.parts)
    assert alone == list(generate(contract, graphs, image, *ask, max_new=6))


def test_caches_stay_where_they_are(parts, micro_model, micro_probes):
    out = parts.call("prefill", dict(observe(micro_model, micro_probes[:1]).feeds[0]["prefill"]))
    caches = {name: value for name, value in out.items() if name.startswith(("key", "value"))}
    assert caches and all(isinstance(value, Held) for value in caches.values())


@pytest.mark.parametrize(
    ("feeds", "why"),
    [
        ({"input_ids": np.zeros((1, 99), np.int64)}, r"input_ids is int64 \[1, 99\]"),
        ({"input_ids": np.zeros((1, 8), np.float32)}, "float32"),
        ({}, "it is fed"),
        ({"input_ids": np.zeros((1, 8), np.int64), "x": np.zeros(1)}, "'x'"),
        ({"input_ids": np.full((1, 8), 2**40)}, "more than 32 bits"),
        ({"input_ids": np.full((1, 8), 10**6)}, "out of range"),
    ],
)
def test_a_part_that_is_fed_otherwise_is_told(parts, feeds, why):
    room = parts.contract.prompt_capacity
    feeds = {n: np.full((1, room), a.flat[0]) if a.shape == (1, 8) else a for n, a in feeds.items()}
    with pytest.raises(JobFault, match=f"EV307 artifact embed failed while it ran: .*{why}"):
        parts.call("embed", feeds)


@pytest.mark.parametrize("spoil", ["cut", "other", "gone", "no hash", "empty"])
def test_files_that_are_not_what_was_written(copy, spoil):
    program = copy[0] / HOME / PROGRAM
    data = program.read_bytes()
    match spoil:
        case "cut":
            program.write_bytes(data[: len(data) // 2])
        case "other":
            program.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "gone":
            program.unlink()
        case "no hash":
            (copy[0] / HOME / HASH).unlink()
        case "empty":
            program.write_bytes(b"")
            (copy[0] / HOME / HASH).write_bytes(b"")
    with pytest.raises(JobFault, match=r"EV304 artifact model\.aimodel cannot be used"):
        CoreAiRuntime().open_artifacts(*copy)


@pytest.mark.parametrize("length", [0, 4, 100, 0.5, 0.999])
def test_what_ends_its_reader_does_not_end_us(copy, length, plain):
    """Cut short, with the right hash: Core AI's reader aborts the process that it runs in."""
    program = copy[0] / HOME / PROGRAM
    data = program.read_bytes()
    data = data[: int(length * len(data)) if isinstance(length, float) else length]
    program.write_bytes(data)
    (copy[0] / HOME / HASH).write_bytes(hashlib.sha256(data).digest())
    contract, artifacts = copy[2], tuple(copy[1])
    manifest = plain.manifest.model_copy(update={"contract": contract, "artifacts": artifacts})
    with pytest.raises(JobFault, match=r"EV304 artifact model\.aimodel cannot be used"):
        CoreAiRuntime().check(Bundle(copy[0], manifest))


def test_a_check_says_what_opening_says(micro, plain, parts):
    folder, artifacts, contract = micro
    manifest = plain.manifest.model_copy(
        update={"contract": contract, "artifacts": tuple(artifacts)}
    )
    CoreAiRuntime().check(Bundle(folder, manifest))
    wide = contract.model_copy(update={"prompt_capacity": contract.prompt_capacity + 1})
    with pytest.raises(JobFault, match=r"EV304 .*embed input input_ids is INT64"):
        CoreAiRuntime().check(Bundle(folder, manifest.model_copy(update={"contract": wide})))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vocabulary": 7}, "output logits"),
        ({"head_dim": 64}, "state key_0"),
        ({"layers": 9}, "prefill state"),
        ({"image_height": 64}, "vision input pixel_values"),
    ],
)
def test_an_asset_of_another_model(micro, change, why):
    folder, artifacts, contract = micro
    with pytest.raises(JobFault, match=rf"EV304 .*({why})"):
        CoreAiRuntime().open_artifacts(folder, artifacts, contract.model_copy(update=change))


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"function": "embed"}, "EV304"),  # there, and not this part
        ({"function": "nothing"}, "EV304 .*no function nothing"),
        ({"function": "../x"}, "EV322"),
        ({}, "EV322"),
        ({"function": "vision", "more": 1}, "EV322"),
    ],
)
def test_settings_that_are_made_up(micro, settings, code):
    folder, artifacts, contract = micro
    odd = [artifacts[0].model_copy(update={"settings": settings}), *artifacts[1:]]
    with pytest.raises(JobFault, match=code):
        CoreAiRuntime().open_artifacts(folder, odd, contract)


@pytest.mark.parametrize("file", ["coreai/model.aimodel/metadata.json", "other/main.mlirb"])
def test_another_file_is_no_program(micro, file):
    folder, artifacts, contract = micro
    odd = [a.model_copy(update={"file": file}) for a in artifacts]
    with pytest.raises(JobFault, match="EV304"):
        CoreAiRuntime().open_artifacts(folder, odd, contract)
    with pytest.raises(JobFault, match="several assets"):
        CoreAiRuntime().open_artifacts(folder, [odd[0], *artifacts[1:]], contract)


def test_a_notebook_may_call_it(parts):
    """Its thread runs an event loop already."""

    async def cell() -> np.ndarray:
        ids = np.zeros((1, parts.contract.prompt_capacity), np.int64)
        return parts.call("embed", {"input_ids": ids})["text_embeds"]

    assert asyncio.run(cell()).shape[0] == 1


def test_ctrl_c_ends_the_waiting_and_not_the_runtime(parts):
    start = time.monotonic()
    us = threading.main_thread().ident
    threading.Timer(0.2, signal.pthread_kill, (us, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        wait_for(asyncio.sleep(60))
    assert time.monotonic() - start < 30
    ids = np.zeros((1, parts.contract.prompt_capacity), np.int64)
    assert parts.call("embed", {"input_ids": ids})["text_embeds"].shape[0] == 1


ENDING = """
import sys, json
from pathlib import Path
import numpy as np
from edgevlm.compiler.bundle import open_bundle
from edgevlm.runtimes import find_runtime

bundle = open_bundle(Path(sys.argv[1]))
runtime, manifest = find_runtime("coreai"), bundle.manifest
parts = runtime.open_artifacts(bundle.folder, manifest.artifacts, manifest.contract)
ids = np.zeros((1, manifest.contract.prompt_capacity), np.int64)
parts.call("embed", {"input_ids": ids})
"""


@pytest.mark.parametrize("_", range(3))
def test_a_process_ends_well_right_behind_a_call(plain, _):
    """Threads of Core AI that Python's end meets abort it: 1 of 20, where nobody waits for them."""
    done = subprocess.run([sys.executable, "-c", ENDING, str(plain.folder)], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
