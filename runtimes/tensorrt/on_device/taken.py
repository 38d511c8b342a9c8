"""Values taken out of a JSON file of unknown origin: of the right kind and within bounds."""

from __future__ import annotations

from typing import Any, Mapping

__all__ = ["Broken", "flag", "integer", "integers", "table", "text"]


class Broken(ValueError):
    """What is wrong with a file, in a sentence."""


def table(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Broken(f"{what} is {type(value).__name__}, not a table")
    return value


def text(told: Mapping[str, Any], key: str, most: int) -> str:
    """A string of at most `most` characters."""
    value = told.get(key)
    if not isinstance(value, str) or len(value) > most:
        raise Broken(f"{key} is no text of at most {most} characters")
    return value


def integer(told: Mapping[str, Any], key: str, least: int, most: int) -> int:
    """A whole number within both ends; true and false are none."""
    value = told.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Broken(f"{key} is {str(value)[:40]!r}, not a whole number from {least} to {most}")
    return value


def flag(told: Mapping[str, Any], key: str) -> bool:
    """true or false; false where it is left out."""
    value = told.get(key, False)
    if not isinstance(value, bool):
        raise Broken(f"{key} is neither true nor false")
    return value


def integers(value: Any, what: str, most: int) -> list[int]:
    """A list of at most `most` whole numbers from 0 on."""
    if not isinstance(value, list) or len(value) > most:
        raise Broken(f"{what} is no list of at most {most} numbers")
    return [integer({what: number}, what, 0, 2**40) for number in value]
