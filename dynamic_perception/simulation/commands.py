"""`dynamic-perception simulate`: managers compared on a board and a trace that are not there."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dynamic_perception.report.progress import progress_bar
from dynamic_perception.simulation.boards import Board, find_board, knows_energy
from dynamic_perception.simulation.catalogue import MANAGERS, USUAL, find_managers
from dynamic_perception.simulation.families import FAMILIES, FRAMES, make_trace
from dynamic_perception.simulation.summary import energy_ratio, error_ratio, summarise
from dynamic_perception.simulation.trace import Trace, load_trace
from dynamic_perception.simulation.virtual_machine import Run, VirtualMachine


def add_simulate(commands: argparse._SubParsersAction) -> None:
    """Add the `simulate` command."""
    parser = commands.add_parser(
        "simulate",
        help="compare managers in virtual time, without the board",
        description="Let managers choose operating points for the same frames in virtual time, and compare energy, "
        "accuracy and missed deadlines, with an oracle as the bound. Latency, power and energy are the platform's "
        "table's; the same seed gives the same trace.",
    )
    parser.add_argument(
        "--platform",
        default="odroid_xu3",
        metavar="P",
        help="odroid_xu3, jetson_xavier_nx, or a profile's file (default: %(default)s)",
    )
    parser.add_argument(
        "--trace",
        default="mixed",
        metavar="T",
        help=f"a family ({', '.join(FAMILIES)}), or a file "
        "(.npz or .yaml, as simulation/trace.py describes it) (default: %(default)s)",
    )
    parser.add_argument(
        "--managers",
        nargs="+",
        default=list(USUAL),
        metavar="M",
        help=f"of {', '.join(MANAGERS)} (default: {' '.join(USUAL)})",
    )
    parser.add_argument(
        "--objective",
        choices=("energy", "accuracy"),
        default="energy",
        help="least energy at the trace's floor of accuracy, or most accuracy within its budget of "
        "energy (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of a family's trace and of the sensors (default: %(default)s)"
    )
    parser.add_argument("--frames", type=int, default=FRAMES, help="of a family's trace (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="draw timeline, energy against error and misses there, "
        "and keep the trace as trace.npz and the runs as results.json, for `report`",
    )
    parser.set_defaults(run_command=run_simulate)


def run_simulate(arguments: argparse.Namespace) -> int:
    """Simulate, print, draw."""
    board = find_board(arguments.platform)
    trace = find_trace(arguments.trace, board, arguments.seed, arguments.frames)
    managers = find_managers(arguments.managers, board)
    if arguments.objective == "energy" and not knows_energy(board):
        raise ValueError(
            f"objective is energy, but {board.name} knows no energy: expected --objective accuracy, or a "
            "profile with energies"
        )
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    machine, runs = VirtualMachine(board, trace, arguments.seed), []
    with progress_bar() as bar:
        for manager in bar.track(managers, description="managers"):
            runs.append(machine.run(manager, arguments.objective))
    console = Console()
    print_comparison(console, board, trace, runs, arguments.objective)
    if arguments.out is not None:
        # These take a second to import.
        from dynamic_perception.report.results_file import write_results
        from dynamic_perception.report.simulated_results import simulated_results
        from dynamic_perception.report.simulation_pictures import draw_all

        trace.save(arguments.out / "trace.npz")
        results = simulated_results(f"{board.name}, {trace.family}", board, runs)
        console.print(f"wrote {write_results(arguments.out, results)}", soft_wrap=True)
        for path in draw_all(board, runs, arguments.objective, arguments.out):
            console.print(f"drew {path}", soft_wrap=True)
    return 0


def find_trace(name: str, board: Board, seed: int, frames: int) -> Trace:
    """A family's trace, or that of a file; ValueError says what there is."""
    if frames < 1:
        raise ValueError(f"frames is {frames}: expected at least 1")
    if seed < 0:
        raise ValueError(f"seed is {seed}: expected 0 or more")
    if name in FAMILIES:
        return make_trace(name, board, seed, frames)
    if not Path(name).is_file():
        raise ValueError(f"no trace '{name}': expected one of {', '.join(FAMILIES)}, or a file")
    return load_trace(name)


def print_comparison(console: Console, board: Board, trace: Trace, runs: list[Run], objective: str) -> None:
    """One line per manager; ratios to the oracle where it took part."""
    sources = ", ".join(f"{name} {source}" for name, source in board.table.provenance.items())
    console.print(
        f"{board.name} ({sources}), trace {trace.family}, seed {trace.seed}: {len(trace)} frames in "
        f"{trace.arrival[-1]:.0f} s",
        style="bold",
        highlight=False,
        soft_wrap=True,
    )
    for name, source in board.sources.items():
        console.print(f"  {name}: {source}", highlight=False, soft_wrap=True, style="dim")
    wanted = {
        "energy": "least energy at the floor of accuracy",
        "accuracy": "most accuracy within the budget of energy",
    }
    ratio_name = {"energy": "energy /\noracle", "accuracy": "error /\noracle"}[objective]
    table = Table(
        title=f"{wanted[objective]}, deadline {_range(1e3 * trace.deadline)} ms",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for heading in (
        "manager",
        "mJ",
        "accuracy\n%",
        "ms",
        "missed\n%",
        {"energy": "below\nfloor %", "accuracy": "over\nbudget %"}[objective],
        ratio_name,
        "°C",
        "board\nW",
        "moves",
    ):
        table.add_column(heading, justify="left" if heading == "manager" else "right", no_wrap=True)
    oracle = next((run for run in runs if run.manager == "oracle"), None)
    for run in runs:
        summary = summarise(run)
        ratio = {"energy": energy_ratio, "accuracy": error_ratio}[objective](run, oracle) if oracle else math.nan
        broken = summary.floor_rate if objective == "energy" else summary.overspent_rate
        table.add_row(
            run.manager,
            _number(1e3 * summary.energy, ".1f"),
            f"{100 * summary.accuracy:.2f}",
            f"{1e3 * summary.latency:.1f}",
            f"{100 * summary.miss_rate:.2f}",
            f"{100 * broken:.2f}",
            _number(ratio, ".3f"),
            f"{summary.hottest:.0f}",
            _number(summary.board_power, ".2f"),
            str(summary.moves),
        )
    console.print(table)


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _range(values) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if math.isclose(low, high) else f"{low:.3g} to {high:.3g}"
