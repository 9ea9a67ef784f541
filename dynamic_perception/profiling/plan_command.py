"""`dynamic-perception plan`: which operating point of a table the manager would take, and why not another."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.planning import Plan, RunnerUp, make_plan
from dynamic_perception.management.selection import Relaxed
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.target import Objective, Target
from dynamic_perception.profiling.table_choice import find_shipped
from dynamic_perception.profiling.table_file import ProfileFile, read_table


def add_plan(commands: argparse._SubParsersAction) -> None:
    """Add the `plan` command."""
    parser = commands.add_parser(
        "plan",
        help="say which operating point of a table is taken under given limits, and why",
        description="Choose an operating point by the resource manager's rules, as on an undisturbed machine, and say "
        "what kept it from taking others. Exit code 1 if no point meets every limit: then the limits are given up in "
        "the manager's order.",
    )
    parser.add_argument(
        "table",
        metavar="TABLE",
        help="a file, or <platform>/<model> of a shipped table, such "
        "as odroid_xu3/group_cnn_cifar10; a wrong name lists them",
    )
    limits = parser.add_argument_group("limits, each of which may be left out")
    limits.add_argument("--deadline", type=float, default=math.nan, metavar="ms", help="latency at the most")
    limits.add_argument("--energy", type=float, default=math.nan, metavar="mJ", help="energy per inference at the most")
    limits.add_argument(
        "--power", type=float, default=math.nan, metavar="W", help="power while an inference runs at the most"
    )
    limits.add_argument("--accuracy", type=float, default=math.nan, metavar="0..1", help="accuracy at the least")
    parser.add_argument(
        "--objective",
        choices=[objective.name.lower() for objective in Objective],
        default=Objective.MAX_ACCURACY.name.lower(),
        help="what to take among the points that meet every limit (default: %(default)s)",
    )
    parser.add_argument(
        "--probability",
        type=float,
        default=ManagerSettings.deadline_probability,
        metavar="0.5..1",
        help="with which the deadline must be met (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="draw the trade-off there")
    parser.set_defaults(run_command=run_plan)


def run_plan(arguments: argparse.Namespace) -> int:
    """Choose, print, draw."""
    file = read_table(find_shipped(arguments.table))
    target = Target(
        1e-3 * arguments.deadline,
        1e-3 * arguments.energy,
        arguments.power,
        arguments.accuracy,
        Objective[arguments.objective.upper()],
    )
    plan = make_plan(file.table, target, ManagerSettings(deadline_probability=arguments.probability))
    console = Console()
    print_plan(console, file, target, plan)
    if arguments.out is not None:
        from dynamic_perception.report.trade_off_picture import draw_trade_off  # takes a second to import

        draw_trade_off(_title(file), file.table, target, plan, arguments.out)
        console.print(f"drew {arguments.out}", soft_wrap=True)
    return 0 if plan.feasible else 1


def print_plan(console: Console, file: ProfileFile, target: Target, plan: Plan) -> None:
    """Print what is chosen, how many points each limit excludes, and the runners-up."""
    table = file.table
    sources = ", ".join(
        f"{name} {table.provenance[name]}"
        for name in ("latency", "power", "energy", "accuracy")
        if name in table.provenance
    )

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    say(f"{_title(file)} ({sources})", "bold")
    say(f"asked: {target}")
    say(f"chosen: {_describe(table, plan.index)}", "bold green" if plan.feasible else "bold yellow")
    for miss in plan.misses:
        say(f"  no point meets every limit: {miss}", "yellow")
    if plan.excluded:
        counts = ", ".join(f"{limit} {count}" for limit, count in plan.excluded.items())
        say(f"{plan.met} of {len(table)} points meet every limit; excluded by {counts}")
    _print_runners_up(console, table, "better by the objective, but excluded", plan.better)
    _print_runners_up(console, table, "next best of those that meet as much", plan.next_best)


def _print_runners_up(console: Console, table: OperatingPointTable, title: str, points: Sequence[RunnerUp]) -> None:
    if not points:
        return
    rows = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    rows.add_column("point", no_wrap=True)
    for name in ("latency\n\\[ms]", "energy\n\\[mJ]", "power\n\\[W]", "accuracy"):
        rows.add_column(name, justify="right", no_wrap=True)
    if any(point.misses for point in points):
        rows.add_column("misses")
    for runner_up in points:
        point = table[runner_up.index]
        rows.add_row(
            str(point),
            f"{1e3 * point.latency:.4g}",
            f"{1e3 * point.energy:.4g}",
            f"{point.power:.3g}",
            f"{point.accuracy:.4g}",
            ", ".join(map(_by_how_much, runner_up.misses)),
        )
    console.print(rows)


def _by_how_much(miss: Relaxed) -> str:
    """As a part of the limit; accuracies as the difference."""
    if math.isnan(miss.got):
        return f"{miss.limit} not known"
    if miss.limit == "accuracy":
        return f"accuracy {miss.got - miss.asked:+.2g}"
    return f"{miss.limit} {100 * (miss.got / miss.asked - 1):+.2g} %"


def _describe(table: OperatingPointTable, index: int) -> str:
    point = table[index]
    return (
        f"{point}: {1e3 * point.latency:.4g} ms, {1e3 * point.energy:.4g} mJ, {point.power:.3g} W, "
        f"accuracy {point.accuracy:.4g}"
    )


def _title(file: ProfileFile) -> str:
    return f"{file.model} on {file.platform.get('cpu_model', 'a machine')}"
