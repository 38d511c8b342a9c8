"""Silence around packages that talk of themselves."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import pytest

from edgevlm.compiler.quiet import quietly


def speak() -> None:
    print("python")
    os.write(2, b"native\n")
    warnings.warn("a warning", stacklevel=1)
    logging.getLogger("vendor").warning("a log line")


def test_nothing_is_heard_inside_and_everything_outside(capfd):
    logging.getLogger("vendor").addHandler(logging.StreamHandler(sys.stdout))
    with quietly():
        speak()
    assert capfd.readouterr() == ("", "")
    with pytest.warns(UserWarning, match="a warning"):
        speak()
    out, err = capfd.readouterr()
    assert "python" in out and "native" in err


def test_what_fails_inside_fails_and_streams_are_back(capfd):
    with pytest.raises(KeyError), quietly():
        raise KeyError("x")
    os.write(2, b"native\n")
    assert "native" in capfd.readouterr().err
    assert logging.root.manager.disable == logging.NOTSET
