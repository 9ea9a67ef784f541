"""`dynamic-perception report` and `dynamic-perception explore`: pages and pictures of what was recorded or profiled."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from dynamic_perception.report.progress import progress_bar

if TYPE_CHECKING:
    from dynamic_perception.profiling.table_file import ProfileFile
    from dynamic_perception.report.results_file import Results


def add_report(commands: argparse._SubParsersAction) -> None:
    """Add the `report` command."""
    parser = commands.add_parser(
        "report",
        help="make a page and pictures of one run or several, side by side",
        description="Make one HTML page, which opens without a network, and PNG pictures: everything over time, "
        "latencies by operating point, missed deadlines, energy and how it is known, the operating points "
        "that were used, why they changed, and frames with their answers. A run is a folder with "
        "results.json, as demo and simulate leave it, or a bag (.mcap, .db3, or its folder).",
        epilog="Exit code: 0; 2 for a run that cannot be read, with a sentence.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="results or a bag")
    parser.add_argument(
        "--table",
        metavar="TABLE",
        help="operating points that bags were recorded with: a file, or "
        "<platform>/<model> of a shipped table; results bring theirs",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the report (default: reports/<date-time>)")
    parser.set_defaults(run_command=run_report)


def add_explore(commands: argparse._SubParsersAction) -> None:
    """Add the `explore` command."""
    parser = commands.add_parser(
        "explore",
        help="make a page to try limits on an operating-point table",
        description="Make one HTML page, which opens without a network, with sliders for deadline, energy, power and "
        "accuracy: points that meet every limit light up, and the one that the resource manager would take "
        "on an undisturbed machine is named with its reason.",
    )
    parser.add_argument(
        "table",
        metavar="TABLE",
        help="a file, or <platform>/<model> of a shipped table, such as "
        "odroid_xu3/group_cnn_cifar10; a wrong name lists them",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="the page (default: explore_<model>.html)")
    parser.set_defaults(run_command=run_explore)


def run_report(arguments: argparse.Namespace) -> int:
    """Read, draw, say where it is."""
    # What takes a second to import comes after --help.
    from dynamic_perception.profiling.table_choice import find_shipped
    from dynamic_perception.profiling.table_file import read_table
    from dynamic_perception.report.charts import draw_charts
    from dynamic_perception.report.page import lead_sentences, write_page
    from dynamic_perception.report.shown_run import show_runs
    from dynamic_perception.report.timeline import draw_timeline

    profile = None if arguments.table is None else read_table(find_shipped(arguments.table))
    out = arguments.out or Path("reports") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    with progress_bar() as bar:
        task = bar.add_task("reading", total=len(arguments.runs) + 3)
        results = []
        for path in arguments.runs:
            results.append(read_run(path, profile))
            bar.advance(task)
        out.mkdir(parents=True, exist_ok=True)
        shown = show_runs(results)
        bar.update(task, description="drawing")
        draw_timeline(shown, out / "timeline.png")
        bar.advance(task)
        charts = draw_charts(shown, out)
        bar.advance(task)
        write_page(out / "index.html", results)
        bar.advance(task)
    console = Console()
    for text in (
        *lead_sentences(shown),
        f"page     {out / 'index.html'}",
        f"pictures {', '.join(str(path) for path in (out / 'timeline.png', *charts))}",
    ):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 0


def run_explore(arguments: argparse.Namespace) -> int:
    """Write the page, say where it is."""
    from dynamic_perception.profiling.table_choice import find_shipped
    from dynamic_perception.profiling.table_file import read_table
    from dynamic_perception.report.explorer import write_explorer

    file = read_table(find_shipped(arguments.table))
    out = arguments.out or Path(f"explore_{file.model}.html")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_explorer(out, file, arguments.table)
    Console().print(f"page     {out}", markup=False, highlight=False, soft_wrap=True)
    return 0


def read_run(path: Path, profile: ProfileFile | None = None) -> Results:
    """The results of a folder, a `results.json` or a bag; `profile`: operating points of a bag.

    Raises:
        ValueError: it is none of these.
    """
    from dynamic_perception.report.results_file import NAME, read_results

    if not path.exists():
        raise ValueError(f"there is no run at {path}: expected a folder with {NAME}, or a bag")
    if path.suffix == ".json" or (path / NAME).exists():
        return read_results(path)
    from dynamic_perception.replay.recorded_bag import is_bag, read_bag

    if is_bag(path):
        return read_bag(path, profile)
    if path.suffix in (".yaml", ".yml"):
        raise ValueError(f"{path} is no run: for an operating-point table there is `dynamic-perception explore`")
    raise ValueError(f"{path} is no run: expected a folder with {NAME}, or a bag (.mcap, .db3, or its folder)")
