"""The command `dynamic-perception`: every subcommand is added and run by the part of the package it belongs to."""

from __future__ import annotations

import argparse
import sys

from dynamic_perception.demo.commands import add_demo
from dynamic_perception.engines.commands import add_export
from dynamic_perception.hardware.clock_commands import add_clock_helper, add_emulate_cpufreq, add_restore
from dynamic_perception.hardware.commands import add_hardware
from dynamic_perception.networks.commands import add_import_ofa
from dynamic_perception.profiling.commands import add_profile
from dynamic_perception.profiling.plan_command import add_plan
from dynamic_perception.replay.commands import add_record, add_replay
from dynamic_perception.report.commands import add_explore, add_report
from dynamic_perception.simulation.commands import add_simulate
from dynamic_perception.training.commands import add_calibrate, add_evaluate, add_train
from dynamic_perception.training.quantise_command import add_quantise
from dynamic_perception.training.search_command import add_search

COMMANDS = (
    add_demo,
    add_hardware,
    add_profile,
    add_plan,
    add_simulate,
    add_explore,
    add_report,
    add_record,
    add_replay,
    add_train,
    add_evaluate,
    add_calibrate,
    add_quantise,
    add_search,
    add_import_ofa,
    add_export,
    add_restore,
    add_clock_helper,
    add_emulate_cpufreq,
)
INTERRUPTED = 130  # the shell's convention: 128 + SIGINT


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it gives has the function that runs the chosen one as `run_command`."""
    parser = argparse.ArgumentParser(
        prog="dynamic-perception",
        description="Keeps a robot's perception inside its deadline, power and temperature limits while it runs.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code.  Wrong input is one sentence on stderr and exit code 2."""
    chosen = make_parser().parse_args(arguments)
    try:
        return chosen.run_command(chosen)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
