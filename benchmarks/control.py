"""How well points are chosen: the resource manager in virtual time, against an oracle, governors and others.

    .venv/bin/python benchmarks/control.py [--seeds N] [--platform P]

Every trace (`simulation/families.py`) is run by every manager on the same modelled board.  Means are over families x
seeds; "worst" is the worst single trace.  The settings of ours were tuned on seeds 0 to 23, those of ALERT on 0 to 2;
the seeds of this report are 3000 and up, and no others; those from 2000 were looked at while ours was built.  Nothing
here is measured on a board: latency, power and energy are the modelled table's.

Definitions, so that nobody can misread them.  Energy is that of the inferences (power of the table's rails x duration),
per answered frame.  "Least energy": minimise energy, keep deadline and floor of accuracy.  "Most accuracy": maximise
accuracy, keep deadline and energy budget.
    energy_over_oracle        least energy: ours / oracle's, of the frames in which both are in time and at the floor
    error_over_oracle         most accuracy: ours / oracle's error (1 - accuracy), of the frames in which both are in
                              time and within the budget
    energy_over_throttled_oracle, error_over_throttled_oracle    ours over those of an oracle that heat slows down as it
                              slows ours; the oracle itself never gets hot.  The same traces, so a ratio to this one and
                              one to the other differ by the price of heat
    causal_energy_over_oracle, causal_error_over_oracle, causal_miss_rate    the same of the causal bound, which knows
                              all of the coming frame but its noise and overhead, has nothing to learn and no heat to
                              mind: what it takes more than the oracle, no manager avoids
    energy_over_causal, error_over_causal    ours over the causal bound's, of the frames in which both keep all limits
    miss_rate                 share of all frames that ours does not answer within the deadline, mean of both objectives
    miss_rate_oracle          the same of the oracle: what no choice could have answered in time
    energy_vs_schedutil       ours / schedutil's energy.  Schedutil: largest network that fits at full clock, fastest
                              element, with util_est (Linux since 4.17).  Ours has its accuracy as a floor that is never
                              given up, and the longest deadline with which its mean latency is no more than
                              schedutil's; it minds neither heat nor battery, as little as schedutil does, and the
                              kernel throttles both
    latency_vs_schedutil      mean latency of the same runs, ours / schedutil's
    energy_vs_alert           least energy: ours / ALERT's, of the frames in which both are in time and at the floor;
                              ours minds neither heat nor battery, as little as ALERT does
    miss_vs_alert             share of missed deadlines of such runs, ours / ALERT's, mean of both objectives (below 1:
                              fewer)
    error_vs_network_only     ours / network only's error, of the frames in which both are in time; ours has the network
                              only's mean energy as the budget of every frame, and minds neither heat nor battery
    two_networks_energy_vs_schedutil, two_networks_latency_vs_schedutil    as above, of two networks on one board
    recovery_frames_after_step   every element, or one cluster, is slowed 1.3 to 2 times: the number of the frame, that
                              of the step being 1, from which on 5 in a row are in time; 95th percentile over steps and
                              objectives
Further keys: `*_worst`; `limits_rate`: in time, but below the floor or over the budget (mean of both objectives);
`energy_vs_schedutil_best_element`: against schedutil on the element of least energy at full clock on which the network
fits; `energy_vs_schedutil_no_util_est`: against kernels before 4.17; `board_power_vs_schedutil`: with the resting power
between inferences; `two_networks_misses_vs_schedutil`: difference of miss rates.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from dynamic_perception.report.progress import progress_bar
from dynamic_perception.simulation.boards import Board, find_board, knows_energy
from dynamic_perception.simulation.catalogue import MANAGERS
from dynamic_perception.simulation.comparison import (
    against_governor,
    against_shared_governor,
    recovery_frames,
    step_trace,
)
from dynamic_perception.simulation.families import FAMILIES, make_trace
from dynamic_perception.simulation.governors import Schedutil, SchedutilSettings
from dynamic_perception.simulation.oracle import Oracle
from dynamic_perception.simulation.ours import Ours
from dynamic_perception.simulation.summary import energy_ratio, error_ratio, keeps_limits, summarise
from dynamic_perception.simulation.two_networks import make_shared_trace
from dynamic_perception.simulation.virtual_machine import Run, VirtualMachine

TUNING_SEEDS = range(0, 24)
FIRST_REPORT_SEED = 3000
STEPS_PER_SEED = 4
COMPARED = {
    name: MANAGERS[name]
    for name in (
        "oracle",
        "throttled-oracle",
        "causal-bound",
        "ours",
        "ours-default",
        "alert",
        "alert-published",
        "network-only",
        "schedutil",
        "performance",
        "powersave",
        "fixed-largest",
        "fixed-smallest",
    )
}
# The battery's policy is minded by these; the oracle of the others does not mind it either.
MIND_BUDGETS = ("oracle", "throttled-oracle", "causal-bound", "ours", "ours-default")
OBJECTIVES = ("energy", "accuracy")
RATIOS = {"energy": energy_ratio, "accuracy": error_ratio}


class Report:
    """Collects one number per trace under a name and family."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = {}

    def add(self, name: str, family: str, value: float) -> None:
        self._values.setdefault(name, {}).setdefault(family, []).append(value)

    def of(self, name: str, family: str | None = None) -> np.ndarray:
        families = self._values.get(name, {})
        values = [value for key, found in families.items() if family in (None, key) for value in found]
        return np.array([value for value in values if not np.isnan(value)])

    def mean(self, name: str, family: str | None = None) -> float:
        values = self.of(name, family)
        return float(values.mean()) if len(values) else float("nan")

    def worst(self, name: str, family: str | None = None) -> float:
        values = self.of(name, family)
        return float(values.max()) if len(values) else float("nan")


def compare(board: Board, family: str, seed: int, report: Report) -> None:
    """All managers on one trace."""
    trace = make_trace(family, board, seed)
    machine = VirtualMachine(board, trace, seed)
    for objective in OBJECTIVES:
        runs: dict[str, Run] = {name: machine.run(make(board), objective) for name, make in COMPARED.items()}
        bound, free = (
            machine.run(manager, objective) for manager in (Oracle(board, budgets=False), Ours(board, budgets=False))
        )
        for name, run in runs.items():
            reference = runs["oracle"] if name in MIND_BUDGETS else bound
            report.add(f"{objective} over oracle: {name}", family, RATIOS[objective](run, reference))
            report.add(f"misses: {name}", family, float(1 - run.met.mean()))
            report.add(f"limits: {name}", family, float((run.met & ~keeps_limits(run, objective)).mean()))
            report.add(f"{objective} misses: {name}", family, float(1 - run.met.mean()))
            report.add(f"{objective} limits: {name}", family, float((run.met & ~keeps_limits(run, objective)).mean()))
        for name in ("throttled-oracle", "causal-bound"):
            report.add(f"{objective} over {name}", family, RATIOS[objective](runs["ours"], runs[name]))
        report.add("misses: ours, no budgets", family, float(1 - free.met.mean()))
        if objective == "energy":
            report.add("energy vs ALERT", family, energy_ratio(free, runs["alert"]))
        else:
            report.add("error vs network only", family, _at_same_energy(machine, runs["network-only"]))


def _at_same_energy(machine: VirtualMachine, other: Run) -> float:
    """Error of ours over that of `other`, with its mean energy as the budget."""
    budget = summarise(other).energy
    if np.isnan(budget):
        return float("nan")
    trace = replace(machine.trace, max_energy=budget)
    ours = VirtualMachine(machine.board, trace, 0).run(Ours(machine.board, budgets=False), "accuracy")
    both = ours.met & other.met
    return float((1 - ours.accuracy[both]).sum() / (1 - other.accuracy[both]).sum()) if both.any() else float("nan")


def compare_governors(board: Board, family: str, seed: int, report: Report) -> None:
    """Ours at each governor's accuracy and latency."""
    trace = make_trace(family, board, seed)
    for name, governor in (
        ("schedutil", Schedutil(board)),
        ("best element", Schedutil(board, True)),
        ("no util_est", Schedutil(board, settings=SchedutilSettings(util_est=False))),
    ):
        matched = against_governor(board, trace, governor, seed)
        for value in ("energy", "latency", "board_power", "accuracy_gain", "miss_gain"):
            report.add(f"{value} vs {name}", family, getattr(matched, value))


def speeds(board: Board, seeds: range) -> dict[str, float]:
    """Decisions per second: of the machine alone, with the fixed network, and with ours and the oracle."""
    found = {}
    for name in ("fixed-largest", "ours", "alert", "oracle"):
        machines = [VirtualMachine(board, make_trace(family, board, seeds[0]), 0) for family in FAMILIES]
        started = time.perf_counter()
        for machine in machines:
            machine.run(COMPARED[name](board))
        found[name] = sum(len(machine.trace) for machine in machines) / (time.perf_counter() - started)
    return found


def run_all(board: Board, seeds: range) -> Report:
    """Everything that is reported."""
    report = Report()
    with progress_bar() as bar:
        task = bar.add_task(board.name, total=len(seeds) * (2 * len(FAMILIES) + 2))
        for seed in seeds:
            for family in FAMILIES:
                compare(board, family, seed, report)
                bar.advance(task)
                if knows_energy(board):
                    compare_governors(board, family, seed, report)
                bar.advance(task)
            if knows_energy(board):
                shared = against_shared_governor(board, make_shared_trace(board, seed))
                for value in ("energy", "latency", "accuracy_gain", "miss_gain"):
                    report.add(f"{value} vs schedutil", "two networks", getattr(shared, value))
            bar.advance(task)
            for step in range(STEPS_PER_SEED * seed, STEPS_PER_SEED * (seed + 1)):
                machine = VirtualMachine(board, step_trace(board, step), seed)
                for objective in OBJECTIVES:
                    report.add("recovery", "step", recovery_frames(machine.run(Ours(board), objective)))
            bar.advance(task)
    return report


def print_report(console: Console, report: Report) -> None:
    """Tables for people."""
    managers = Table(
        title="mean over all traces (energy and error over the oracle's: of frames in which both keep all limits)"
    )
    for heading in (
        "manager",
        "energy",
        "worst",
        "missed [%]",
        "below floor [%]",
        "error",
        "worst",
        "missed [%]",
        "over budget [%]",
    ):
        managers.add_column(heading, justify="left" if heading == "manager" else "right")
    for name in COMPARED:
        cells = [name]
        for objective in OBJECTIVES:
            ratio = f"{objective} over oracle: {name}"
            cells += [
                f"{report.mean(ratio):.3f}",
                f"{report.worst(ratio):.3f}",
                f"{100 * report.mean(f'{objective} misses: {name}'):.2f}",
                f"{100 * report.mean(f'{objective} limits: {name}'):.2f}",
            ]
        managers.add_row(*cells)
    console.print(managers)
    families = Table(title="ours by family: mean (worst)")
    columns = {
        "energy / oracle": "energy over oracle: ours",
        "energy / throttled": "energy over throttled-oracle",
        "energy / causal": "energy over causal-bound",
        "error / oracle": "accuracy over oracle: ours",
        "error / throttled": "accuracy over throttled-oracle",
        "error / causal": "accuracy over causal-bound",
        "energy / ALERT": "energy vs ALERT",
        "error / network only": "error vs network only",
        "energy / schedutil": "energy vs schedutil",
        "latency / schedutil": "latency vs schedutil",
    }
    for heading in ("family", *columns, "missed [%]", "oracle [%]", "ALERT [%]"):
        families.add_column(heading, justify="left" if heading == "family" else "right")
    for family in (*FAMILIES, "two networks"):
        ratios = [_cell(report, name, family) for name in columns.values()]
        misses = [_cell(report, f"misses: {name}", family, 100.0) for name in ("ours", "oracle", "alert")]
        families.add_row(family, *ratios, *misses)
    console.print(families)


def _cell(report: Report, name: str, family: str, scale: float = 1.0) -> str:
    if not len(report.of(name, family)):
        return ""
    mean, worst = scale * report.mean(name, family), scale * report.worst(name, family)
    return f"{mean:.3f} ({worst:.3f})" if scale == 1.0 else f"{mean:.2f}"


def figures(report: Report) -> dict[str, float]:
    """The last line."""
    two = {
        f"two_networks_{value}_vs_schedutil": report.mean(f"{value} vs schedutil", "two networks")
        for value in ("energy", "latency")
    }

    def of_one(name: str) -> np.ndarray:
        return np.concatenate([report.of(name, family) for family in FAMILIES])

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if len(values) else float("nan")

    found = {
        "energy_over_oracle": report.mean("energy over oracle: ours"),
        "error_over_oracle": report.mean("accuracy over oracle: ours"),
        "energy_over_throttled_oracle": report.mean("energy over throttled-oracle"),
        "error_over_throttled_oracle": report.mean("accuracy over throttled-oracle"),
        "causal_energy_over_oracle": report.mean("energy over oracle: causal-bound"),
        "causal_error_over_oracle": report.mean("accuracy over oracle: causal-bound"),
        "causal_miss_rate": report.mean("misses: causal-bound"),
        "energy_over_causal": report.mean("energy over causal-bound"),
        "error_over_causal": report.mean("accuracy over causal-bound"),
        "miss_rate": report.mean("misses: ours"),
        "miss_rate_oracle": report.mean("misses: oracle"),
        "energy_vs_schedutil": mean(of_one("energy vs schedutil")),
        "latency_vs_schedutil": mean(of_one("latency vs schedutil")),
        "energy_vs_alert": report.mean("energy vs ALERT"),
        "miss_vs_alert": report.mean("misses: ours, no budgets") / max(report.mean("misses: alert"), 1e-12),
        "error_vs_network_only": report.mean("error vs network only"),
        **two,
        "recovery_frames_after_step": float(np.quantile(report.of("recovery"), 0.95)),
        "energy_over_oracle_worst": report.worst("energy over oracle: ours"),
        "error_over_oracle_worst": report.worst("accuracy over oracle: ours"),
        "miss_rate_worst": report.worst("misses: ours"),
        "miss_rate_alert": report.mean("misses: alert"),
        "limits_rate": report.mean("limits: ours"),
        "limits_rate_oracle": report.mean("limits: oracle"),
        "limits_rate_alert": report.mean("limits: alert"),
        "alert_energy_over_oracle": report.mean("energy over oracle: alert"),
        "alert_error_over_oracle": report.mean("accuracy over oracle: alert"),
        "accuracy_gain_vs_schedutil": mean(of_one("accuracy_gain vs schedutil")),
        "miss_gain_vs_schedutil": mean(of_one("miss_gain vs schedutil")),
        "board_power_vs_schedutil": report.mean("board_power vs schedutil"),
        "energy_vs_schedutil_best_element": report.mean("energy vs best element"),
        "latency_vs_schedutil_best_element": report.mean("latency vs best element"),
        "energy_vs_schedutil_no_util_est": report.mean("energy vs no util_est"),
        "latency_vs_schedutil_no_util_est": report.mean("latency vs no util_est"),
        "two_networks_misses_vs_schedutil": report.mean("miss_gain vs schedutil", "two networks"),
        "two_networks_accuracy_gain_vs_schedutil": report.mean("accuracy_gain vs schedutil", "two networks"),
        "recovery_frames_after_step_worst": report.worst("recovery"),
    }
    return {name: round(value, 4) for name, value in found.items()}


def main() -> None:
    """Simulate, print tables for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds", type=int, default=10, metavar="N", help="traces of every family (default: %(default)s)"
    )
    parser.add_argument(
        "--platform",
        default="odroid_xu3",
        metavar="P",
        help="odroid_xu3, jetson_xavier_nx, or a profile's file (default: %(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds is {arguments.seeds}: expected at least 1")
    board = find_board(arguments.platform)
    seeds = range(FIRST_REPORT_SEED, FIRST_REPORT_SEED + arguments.seeds)
    report = run_all(board, seeds)
    console = Console(width=250)
    print_report(console, report)
    rates = speeds(board, seeds)
    console.print(
        f"{board.name}: {len(board.table)} operating points; seeds {seeds[0]} to {seeds[-1]}, ours tuned on "
        f"{TUNING_SEEDS[0]} to {TUNING_SEEDS[-1]}; decisions per second: machine with a fixed network "
        f"{rates['fixed-largest']:,.0f}, with ours {rates['ours']:,.0f}, with ALERT {rates['alert']:,.0f}, "
        f"with the oracle {rates['oracle']:,.0f}",
        highlight=False,
    )
    print(
        json.dumps(
            {
                "platform": board.name,
                "seeds": arguments.seeds,
                **figures(report),
                "decisions_per_second_platform": round(rates["fixed-largest"]),
                "decisions_per_second_ours": round(rates["ours"]),
            }
        )
    )


if __name__ == "__main__":
    main()
