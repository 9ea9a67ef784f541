#!/usr/bin/env python3
"""Makes the figures of the README from the files of real runs, and checks the README's numbers against such files.

Every figure has a result file, kept in the repository, and the command that made it.  Without its file, or with
--again, that command runs first; it measures this machine.  `docs/figures.md` lists them with the machine.

A number of the README names where it comes from in a comment behind it, which no reader sees:

    it missed 0.3 %<!-- docs/results/demo/results.json: summary.managed[-1].miss_rate * 100 --> of the deadlines

File, then the place in it (keys and positions), and by what to multiply it for the unit that is written.  `--check`
says which numbers are not, rounded as they are written, what their file holds; exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
LIST = Path("docs") / "figures.md"
COMMAND = "dynamic-perception"
NUMBER = re.compile(r"(?P<number>-?\d[\d,]*(?:\.\d+)?)(?P<unit>[^<>\d\n]{0,12})<!--\s*(?P<file>\S+\.(?:json|yaml)):\s*"
                    r"(?P<place>[^\s*]+)\s*(?:\*\s*(?P<factor>[\d.e+-]+)\s*)?-->")
STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")


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
    Figure("docs/timeline.png", "docs/results/demo/results.json",
           ("demo", "--headless", "--out", "docs/results/demo"),
           ("report", "{results}", "--out", "{folder}"), "timeline.png"),
    Figure("docs/latency.png", "docs/results/demo/results.json", (),
           ("report", "{results}", "--out", "{folder}"), "latency.png"),
    Figure("docs/trade_off.png", "config/profiles/odroid_xu3/group_cnn_cifar10.yaml", (),
           ("plan", "{results}", "--deadline", "200", "--energy", "150", "--out", "{folder}/trade_off.png"),
           "trade_off.png"),
)


def main(arguments: list[str] | None = None) -> int:
    """Make the figures, or check the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="measure again, though the result files are there")
    parser.add_argument("--check", action="store_true", help="only compare the README's numbers with their files")
    parser.add_argument("--only", metavar="NAME", help="only figures whose path contains NAME")
    chosen = parser.parse_args(arguments)
    if chosen.check:
        faults = check_numbers(ROOT / "README.md", ROOT)
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
    done = subprocess.run([str(program) if program.exists() else COMMAND, *command], cwd=root, stdout=subprocess.PIPE,
                          text=True)
    if done.returncode not in accepted:
        raise subprocess.CalledProcessError(done.returncode, [COMMAND, *command], done.stdout)


def write_list(root: Path) -> None:
    """Write `docs/figures.md`: every figure, its file, its command, and the machine that the file names."""
    rows = ["# Where the figures come from", "", "Written by `scripts/figures.py`.", "",
            "| figure | drawn from | SHA-256 of it | measured by | on |", "|---|---|---|---|---|"]
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


def check_numbers(text: Path, root: Path) -> list[str]:
    """The numbers of `text` that are not what the file they name holds, in sentences."""
    faults = []
    for number, line in enumerate(text.read_text(encoding="utf-8").splitlines(), start=1):
        for match in NUMBER.finditer(line):
            written = match["number"]
            try:
                value = find(_load(root / match["file"]), match["place"]) * float(match["factor"] or 1.0)
            except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
                faults.append(f"{text.name}:{number}: {written}: {match['file']}: {match['place']} cannot be read: "
                              f"{error!r}")
                continue
            decimals = len(written.partition(".")[2])
            if f"{value:,.{decimals}f}".replace(",", "") != written.replace(",", ""):
                faults.append(f"{text.name}:{number}: {written}{match['unit']}: {match['file']} holds {value:.6g}")
    return faults


@lru_cache(maxsize=None)
def _load(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)


def find(content: Any, place: str) -> float:
    """The number at a place such as `summary.managed[-1].miss_rate`."""
    for key, position in STEP.findall(place):
        content = content[key] if key else content[int(position)]
    return float(content)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
