"""What the documents hold: code blocks by their language, and the commands that they tell people to type."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
# How what is typed begins; a bare name such as `dynamic-perception` is no command.
PROGRAMS = ("dynamic-perception ", ".venv/bin/", "make ", "ros2 ", "colcon ", "pip ", "sudo ", "rosdep ")


def documents() -> dict[str, str]:
    """The README and every page of `docs/`, name to text."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of that language."""
    return [code for found, code in BLOCK.findall(text) if found == language]


def files(text: str, language: str) -> dict[str, str]:
    """The code blocks of that language whose first line is a comment with the name of a file."""
    named = [(re.match(r"# (\S+\.\w+)\n", code), code) for code in blocks(text, language)]
    return {match[1]: code for match, code in named if match}


def commands(text: str) -> list[str]:
    """Every command of a ```sh block, and every inline one, each once, without comments behind it."""
    found = []
    for code in blocks(text, "sh"):
        lines = code.replace("\\\n", " ").splitlines()
        found += [part for line in lines for part in re.split(r" && ", re.sub(r"\s+#.*", "", line).strip())]
    prose = BLOCK.sub("", text)
    found += [command for command in INLINE.findall(prose) if command.startswith(PROGRAMS)]
    return list(dict.fromkeys(command for command in found if command))
