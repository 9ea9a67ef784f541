#!/usr/bin/env python3
"""Makes the figures of the documents from the files of real runs, and checks the documents' numbers against such files.

Every figure has a result file, kept in the repository, and the command that made it.  Without its file, or with
--again, that command runs first; it measures this machine.  `docs/figures.md` lists them with the machine.

A number of the README or of a page of `docs/` names where it comes from in a comment behind it, which no reader sees:

    it missed 0.3 %<!-- docs/results/demo/results.json: summary.managed[-1].miss_rate * 100 --> of the deadlines
    within 8 %<!-- control_odroid_xu3.txt: energy_over_oracle * 100 - 100 --> of the oracle's
    3.2 ms<!-- node.txt: the "overhead p50" of "perception node" -->, 2.6 times<!-- engines.txt: least "steady eager /
    engine" of "int8" --> (in one line)

File (a name alone is one of `docs/results/benchmarks/`), then the place in it, then by what to multiply it and what to
add for the unit that is written.  The place is keys and positions; those of a benchmark's output are of the JSON object
in its last line.  Or it is a column of the tables that it printed: the cell, the `least` or the `greatest` of the rows
in which a regular expression is found; with [1] behind it, the second number of a cell.

`--check` says which numbers are not, rounded as they are written, what their file holds; exit code 1 if there is one.
`--update` writes the numbers that the files hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
LIST = Path("docs") / "figures.md"
COMMAND = "dynamic-perception"
BENCHMARKS = Path("docs") / "results" / "benchmarks"
NUMBER = re.compile(
    r"(?P<number>-?\d[\d,]*(?:\.\d+)?)(?P<unit>[^<>\d\n]{0,12})<!--\s*"
    r"(?P<file>\S+\.(?:json|yaml|txt)):\s*(?P<place>\w+ \"[^\"]+\" of \"[^\"]+\"(?:\[\d+\])?|[^\s*]+)\s*"
    r"(?:\*\s*(?P<factor>[\d.e+-]+)\s*)?(?:(?P<sign>[+-])\s*(?P<summand>[\d.]+)\s*)?-->"
)
COMMENT = re.compile(r"<!--\s*(?P<file>\S+\.(?:json|yaml|txt)).*?-->")
CELL = re.compile(r"(?P<which>\w+) \"(?P<column>[^\"]+)\" of \"(?P<row>[^\"]+)\"(?:\[(?P<position>\d+)\])?")
STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")
IN_CELL = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
CHOICES = {"the": lambda values: values[0], "least": min, "greatest": max}


@dataclass(frozen=True)
class Figure:
    """A picture, the file that it is drawn from, and the commands (without `dynamic-perception`) that make both.

    `{results}` and `{folder}` in `draw` are the file and a folder for what is drawn; `picture` is taken from there.
    """

    path: str
    results: str
    measure: tuple[str, ...]  # empty: the file is shipped
    draw: tuple[str, ...]
    picture: str


FIGURES = (
    Figure(
        "docs/timeline.png",
        "docs/results/demo/results.json",
        ("demo", "--headless", "--out", "docs/results/demo"),
        ("report", "{results}", "--out", "{folder}"),
        "timeline.png",
    ),
    Figure(
        "docs/latency.png",
        "docs/results/demo/results.json",
        (),
        ("report", "{results}", "--out", "{folder}"),
        "latency.png",
    ),
    Figure(
        "docs/trade_off.png",
        "config/profiles/odroid_xu3/group_cnn_cifar10.yaml",
        (),
        ("plan", "{results}", "--deadline", "200", "--energy", "150", "--out", "{folder}/trade_off.png"),
        "trade_off.png",
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Make the figures, or check or write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="measure again, though the result files are there")
    parser.add_argument("--check", action="store_true", help="only compare the documents' numbers with their files")
    parser.add_argument("--update", action="store_true", help="only write the numbers that the files hold")
    parser.add_argument("--only", metavar="NAME", help="only figures whose path contains NAME")
    chosen = parser.parse_args(arguments)
    if chosen.check or chosen.update:
        faults = []
        for text in documents(ROOT):
            faults += update_numbers(text, ROOT) if chosen.update else check_numbers(text, ROOT)
        for fault in faults:
            print(f"error: {fault}", file=sys.stderr)
        return 1 if faults else 0
    measured: set[str] = set()
    for figure in FIGURES:
        if chosen.only is None or chosen.only in figure.path:
            make_figure(figure, ROOT, chosen.again and figure.results not in measured)
            measured.add(figure.results)
    write_list(ROOT)
    return 0


def make_figure(figure: Figure, root: Path, again: bool) -> None:
    """Measure, if there is need to, and draw.

    Raises:
        FileNotFoundError: the result file is missing, and no command makes it.
        subprocess.CalledProcessError: a command failed.
    """
    results = root / figure.results
    if figure.measure and (again or not results.exists()):
        _run(figure.measure, root)
    if not results.exists():
        raise FileNotFoundError(f"{figure.path} is drawn from {figure.results}, which is not there")
    folder = root / "build" / "figures" / results.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    # plan ends with 1 where no point meets every limit, which is an answer too
    _run(tuple(part.format(results=results, folder=folder) for part in figure.draw), root, accepted=(0, 1))
    os.replace(folder / figure.picture, root / figure.path)
    print(f"{figure.path}  from {figure.results}")


def _run(command: tuple[str, ...], root: Path, accepted: tuple[int, ...] = (0,)) -> None:
    program = Path(sys.prefix) / "bin" / COMMAND
    done = subprocess.run(
        [str(program) if program.exists() else COMMAND, *command], cwd=root, stdout=subprocess.PIPE, text=True
    )
    if done.returncode not in accepted:
        raise subprocess.CalledProcessError(done.returncode, [COMMAND, *command], done.stdout)


def write_list(root: Path) -> None:
    """Write `docs/figures.md`: every figure, its file, its command, and the machine that the file names."""
    rows = [
        "# Where the figures come from",
        "",
        "Written by `scripts/figures.py`; where the numbers come from is said in [benchmarks.md](benchmarks.md).",
        "",
        "| figure | drawn from | SHA-256 of it | measured by | on |",
        "|---|---|---|---|---|",
    ]
    for figure in FIGURES:
        results = root / figure.results
        if (root / figure.path).exists() and results.exists():
            digest = hashlib.sha256(results.read_bytes()).hexdigest()[:12]
            made_by = next((f.measure for f in FIGURES if f.measure and f.results == figure.results), ())
            command = f"`{COMMAND} {' '.join(made_by)}`" if made_by else "shipped"
            rows.append(f"| `{figure.path}` | `{figure.results}` | `{digest}` | {command} | {_machine(results)} |")
    path = root / LIST
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("\n".join([*rows, ""]), encoding="utf-8")
    os.replace(partial, path)


def _machine(results: Path) -> str:
    content = _load(results)
    return content.get("machine", {}).get("CPU") or content.get("platform", {}).get("cpu_model", "not said")


def documents(root: Path) -> list[Path]:
    """The README and every page of `docs/`."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


class Number(NamedTuple):
    """A number in a text: where it stands, as it is written, and as the file that it names holds it."""

    line: int
    span: tuple[int, int]  # characters of the text
    written: str
    held: str  # rounded as it is written; empty: it cannot be read
    fault: str  # what is wrong with it, in words; empty: nothing


def check_numbers(text: Path, root: Path) -> list[str]:
    """The numbers of `text` that are not what the file they name holds, in sentences."""
    return [f"{text.name}:{number.line}: {number.fault}" for number in find_numbers(text, root) if number.fault]


def update_numbers(text: Path, root: Path) -> list[str]:
    """Write the numbers that the files hold into `text`; those that cannot be read, in sentences."""
    content = text.read_text(encoding="utf-8")
    numbers = list(find_numbers(text, root))
    for number in reversed(numbers):
        if number.fault and number.held:
            start, end = number.span
            content = content[:start] + number.held + content[end:]
            print(f"{text.name}:{number.line}: {number.written} is now {number.held}")
    partial = text.with_name(f"{text.name}.partial")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, text)
    return [f"{text.name}:{number.line}: {number.fault}" for number in numbers if number.fault and not number.held]


def find_numbers(text: Path, root: Path) -> Iterator[Number]:
    """Every number of `text` that names a file, and every such comment that is not understood."""
    content = text.read_text(encoding="utf-8")
    understood = {match.end(): match for match in NUMBER.finditer(content)}
    for comment in COMMENT.finditer(content):
        match, line = understood.get(comment.end()), content.count("\n", 0, comment.start()) + 1
        if match is None:
            yield Number(
                line,
                comment.span(),
                "",
                "",
                f"{comment[0]} is not understood: expected a number before it, and in it a file, a colon and a place",
            )
            continue
        written = match["number"]
        try:
            value = read_number(match, root)
        except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
            yield Number(
                line,
                match.span("number"),
                written,
                "",
                f"{written}: {match['file']}: {match['place']} cannot be read: {error!r}",
            )
            continue
        decimals = len(written.partition(".")[2])
        held = f"{value:,.{decimals}f}"
        if set(held) <= set("-0.,"):
            held = held.lstrip("-")
        right = held.replace(",", "") == written.replace(",", "")
        yield Number(
            line,
            match.span("number"),
            written,
            held,
            "" if right else f"{written}{match['unit']}: {match['file']} holds {value:.6g}",
        )


def read_number(match: re.Match, root: Path) -> float:
    """What the comment of a number leads to, in the unit that is written."""
    path = root / match["file"]
    if "/" not in match["file"] and not path.exists():
        path = root / BENCHMARKS / match["file"]
    value = find(_load(path), match["place"]) * float(match["factor"] or 1.0)
    if not math.isfinite(value):
        raise ValueError(f"it is {value}")
    return value + float(f"{match['sign']}{match['summand']}" if match["sign"] else 0.0)


@cache
def _load(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        return Output(json.loads(text.strip().splitlines()[-1]), read_tables(text))
    return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)


class Output(NamedTuple):
    """What a benchmark printed: the object of its last line, and its tables as rows of column to cell."""

    keys: dict[str, Any]
    tables: list[list[dict[str, str]]]


def read_tables(text: str) -> list[list[dict[str, str]]]:
    """The tables that rich drew; a heading of several lines is joined, and one that occurs twice is left out."""
    tables: list[list[dict[str, str]]] = []
    heading: list[list[str]] = []
    columns: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split("[┃│]", line)[1:-1]]
        if line.startswith("┏"):
            heading = []
            tables.append([])
        elif line.startswith("┃"):
            heading.append(cells)
        elif line.startswith("┡"):
            columns = [" ".join(filter(None, parts)) for parts in zip(*heading)]
        elif line.startswith("│"):
            tables[-1].append({name: cell for name, cell in zip(columns, cells) if columns.count(name) == 1})
    return tables


def find(content: Any, place: str) -> float:
    """The number at a place such as `summary.managed[-1].miss_rate`, or `least "p95" of "node"` of an output."""
    if isinstance(content, Output):
        cell = CELL.fullmatch(place)
        if cell:
            return find_cell(content.tables, cell)
        content = content.keys
    for key, position in STEP.findall(place):
        content = content[key] if key else content[int(position)]
    return float(content)


def find_cell(tables: list[list[dict[str, str]]], cell: re.Match) -> float:
    """The number in a column of the rows that fit; ValueError says what there is instead."""
    rows = [row for table in tables for row in table if cell["column"] in row]
    if not rows:
        columns = {name for table in tables for row in table for name in row}
        raise ValueError(f"no such column: expected one of {', '.join(sorted(columns))}")
    fitting = [row[cell["column"]] for row in rows if re.search(cell["row"], " ".join(row.values()))]
    if cell["which"] not in CHOICES or not fitting or (cell["which"] == "the" and len(fitting) > 1):
        raise ValueError(f"{cell['which']} of {len(fitting)} rows: expected the one, or the {' or '.join(CHOICES)}")
    numbers = [float(IN_CELL.findall(text)[int(cell["position"] or 0)].replace(",", "")) for text in fitting]
    return CHOICES[cell["which"]](numbers)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
