"""A hostile or broken config.json is EV109, never a traceback."""

from __future__ import annotations

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.models.hf.processor import MAX_CONFIG_BYTES, read_config


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"a": ' * 100_000,
        "\x00",
        " " * (MAX_CONFIG_BYTES + 1),
    ],
    ids=["empty", "open", "list", "null", "deep list", "deep object", "nul", "too large"],
)
def test_it_is_refused_in_three_lines(tmp_path, text) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(JobFault, match="EV109") as caught:
        read_config(tmp_path)
    assert len(caught.value.lines()) == 3


def test_a_missing_one_too(tmp_path) -> None:
    with pytest.raises(JobFault, match="EV109"):
        read_config(tmp_path)
