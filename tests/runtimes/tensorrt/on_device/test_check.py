"""What is refused before minutes are spent on it."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device import check
from edgevlm.runtimes.tensorrt.on_device.cudart import find_cuda
from edgevlm.runtimes.tensorrt.on_device.plan import read_plan


@pytest.fixture
def plan(bundle):
    return read_plan(bundle)


def test_a_bundle_for_another_gpu(plan):
    check.check_device(plan, 87, False)
    check.check_device(plan, 110, True)
    with pytest.raises(JobFault, match=r"SM87.*SM110") as caught:
        check.check_device(plan, 110, False)
    assert caught.value.code == "EV356" and "--any-device" in caught.value.fix


@pytest.mark.parametrize("name", ["decode.onnx", "weights.bin", "goldens.npz"])
def test_a_file_that_was_changed(name, plan):
    check.check_artifacts(plan, plan.parts)
    path = plan.bundle / "tensorrt" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(JobFault, match=name) as caught:
        check.check_artifacts(plan, plan.parts)
    assert caught.value.code == "EV330"


def test_a_part_that_is_missing(plan):
    plan.parts[0].path.unlink()
    with pytest.raises(JobFault, match=r"vision.onnx: missing"):
        check.check_artifacts(plan, plan.parts)


def test_the_part_is_checked_where_there_are_no_sums(plan):
    (plan.bundle / "SHA256SUMS").unlink()
    check.check_artifacts(plan, plan.parts)
    plan.parts[0].path.write_bytes(b"?")
    with pytest.raises(JobFault, match="EV330"):
        check.check_artifacts(plan, plan.parts)


def test_sums_that_are_no_text(plan):
    (plan.bundle / "SHA256SUMS").write_bytes(b"\xff\xfe")
    with pytest.raises(JobFault, match="SHA256SUMS: missing or changed") as caught:
        check.check_artifacts(plan, plan.parts)
    assert caught.value.code == "EV330"


def test_a_full_disk(plan, levers, monkeypatch, tmp_path):
    check.check_room(plan, tmp_path / "not" / "there", find_cuda())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**10))
    with pytest.raises(JobFault, match="not enough disk space") as caught:
        check.check_room(plan, tmp_path, find_cuda())
    assert caught.value.code == "EV354"


def test_too_little_memory(plan, levers, tmp_path):
    levers.fake_set_room(levers.fake_used() + 2**20)
    with pytest.raises(JobFault, match=r"not enough memory.*1 MiB are free"):
        check.check_room(plan, tmp_path, find_cuda())


def test_memory_of_a_card_is_the_lesser_of_both(levers):
    cuda = find_cuda()
    levers.fake_set_room(1 << 50)
    assert 0 < check.memory_free(cuda) < 1 << 45  # what the processor has
    levers.fake_set_room(levers.fake_used() + 5)
    assert check.memory_free(cuda) == 5


def test_memory_of_a_jetson_is_what_its_system_can_give(levers, plan, tmp_path):
    """Pages that cache files are not free to cudaMemGetInfo, and are given all the same."""
    cuda = find_cuda()
    levers.fake_set_integrated(1)
    levers.fake_set_room(levers.fake_used() + 5)
    assert 2**26 < check.memory_free(cuda) < 1 << 45
    check.check_room(plan, tmp_path, cuda)
