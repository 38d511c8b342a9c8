"""What is made of pip's words; the samples were recorded from pip 23.2 to 26.1."""

from __future__ import annotations

import pytest

from edgevlm.compiler.workshop.child import Ended
from edgevlm.compiler.workshop.pip_words import heavy_download, reason

NO_NETWORK = (
    "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after "
    "connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPConnection "
    "object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')': "
    "/simple/toyghost/",
    "ERROR: Could not find a version that satisfies the requirement toyghost==9.9 (from versions: "
    "none)",
    "ERROR: No matching distribution found for toyghost==9.9",
)
CONFLICT = (
    "Collecting onnx==1.23.2",
    "ERROR: Cannot install ml_dtypes==0.5.1, onnx==1.23.2 and tosa-tools==2026.5.0 because these "
    "package versions have conflicting dependencies.",
    "The conflict is caused by:",
    "    The user requested ml_dtypes==0.5.1",
    "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/",
)


def test_no_network_is_named_before_what_pip_makes_of_it():
    told = reason(Ended(1, NO_NETWORK, 60))
    assert told.startswith("a package index was not reached (NewConnectionError(")
    assert "Connection refused" in told and told.endswith("found for toyghost==9.9")


def test_a_conflict_is_told_by_its_errors_alone():
    told = reason(Ended(1, CONFLICT, 60))
    assert (
        told.startswith("Cannot install ml_dtypes==0.5.1, onnx==1.23.2")
        and "Collecting" not in told
    )


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (Ended(-9, (), 60), "it was ended by SIGKILL"),
        (Ended(None, ("Collecting torch==2.13.0",), 60),
         "Collecting torch==2.13.0; it was not done within 60 s"),
        (Ended(2, ("a", "no such option: --x"), 60), "a; no such option: --x"),
    ],
)  # fmt: skip
def test_without_an_error_of_pips_the_last_words_and_the_end_count(ended, told):
    assert reason(ended) == told


def test_a_line_without_end_is_cut():
    assert len(reason(Ended(1, ("ERROR: " + "x" * 5000,), 60))) < 400


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (190.6 MB)",
         "    loading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl, 190.6 MB"),
        ("Downloading https://example.org/a/b/x-1.whl (1.2 GB)", "    loading x-1.whl, 1.2 GB"),
        ("Downloading filelock-4.2.11-py3-none-any.whl (222 kB)", None),
        ("Downloading pytorch_tokenizers-1.5.0.whl (1.6 MB)", None),
        ("Collecting torch==2.13.0", None),
        ("", None),
    ],
)  # fmt: skip
def test_files_that_take_a_while_are_announced(line, told):
    assert heavy_download(line) == told
