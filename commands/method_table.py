"""The table of methods in docs/tokens.md, from the classes themselves.

python -m edgevlm.commands.method_table            writes it into the page
python -m edgevlm.commands.method_table --check    exit 1 if the page has another
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgevlm.commands.methods import list_methods

__all__ = ["PAGE", "page_with_table", "table"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tokens.md"
BEGIN, END = "<!-- methods: generated, see commands/method_table.py -->", "<!-- /methods -->"


def table() -> str:
    """A row a method, in the order of the registry."""
    lines = ["| method | sites | class | text | known | arXiv | what |", "|" + "---|" * 7]
    for m in list_methods():
        paper = f"[{m['paper']}](https://arxiv.org/abs/{m['paper']})" if m["paper"] else ""
        row = [
            f"`{m['name']}`",
            ", ".join(m["sites"]) or "its own pass",
            m["lowering"],
            "yes" if m["text_aware"] else "",
            m["evidence"],
            paper,
            m["summary"],
        ]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def page_with_table(page: str) -> str:
    """The page with the table as it ought to be."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def main() -> int:
    page = PAGE.read_text()
    if "--check" in sys.argv:
        return int(page_with_table(page) != page)
    PAGE.write_text(page_with_table(page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
