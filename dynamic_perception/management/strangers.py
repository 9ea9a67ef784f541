"""Names that come from outside: bounded in length and number, so that nobody fills memory, log or diagnostics."""

from __future__ import annotations

MOST_NAMES = 32  # of one kind (zones, batteries, faults); a robot has a handful
LONGEST_NAME = 64  # [characters]


def clipped(text: str, longest: int = LONGEST_NAME) -> str:
    """The text on one line of printable characters, its middle left out where it is longer than `longest`."""
    return shortened("".join(c if c.isprintable() else " " for c in shortened(text, longest)), longest)


def shortened(text: str, longest: int) -> str:
    """The text, its middle left out where it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    start = (longest - 5) // 2
    return f"{text[:start]} ... {text[len(text) - (longest - 5 - start) :]}"


def listed(texts: list[str], most: int = 8, separator: str = ", ") -> str:
    """The first `most` of the texts, and how many more there are."""
    more = len(texts) - most
    return separator.join([*texts[:most], f"and {more} more"] if more > 0 else texts)
