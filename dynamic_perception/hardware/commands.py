"""`dynamic-perception hardware`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from dynamic_perception.hardware.discovery import discover_machine
from dynamic_perception.hardware.inventory import machine_tables, machine_yaml
from dynamic_perception.hardware.platform_file import find_platform_file
from dynamic_perception.hardware.power import find_power_sensors
from dynamic_perception.hardware.sensors import scan_temperatures


def add_hardware(commands: argparse._SubParsersAction) -> None:
    """Add the `hardware` command."""
    parser = commands.add_parser(
        "hardware",
        help="show what this machine has: compute elements, clocks, power rails, temperatures, batteries",
        description="Show what this machine has, and what its sensors read now. A sensor that cannot be believed shows "
        "the reason in place of a number. With --yaml, print a platform file to begin with.",
    )
    parser.add_argument("--sysfs-root", type=Path, default=Path("/sys"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--yaml", action="store_true", help="print YAML, which --platform takes, in place of tables")
    parser.add_argument(
        "--platform",
        type=Path,
        metavar="FILE",
        help="names, thread counts, clock ranges and power rails to use in place of what the machine "
        "tells: a file, or the name of one of config/platforms/, such as odroid_xu3",
    )
    parser.set_defaults(run_command=run_hardware)


def run_hardware(arguments: argparse.Namespace) -> int:
    """Print what was found."""
    root = arguments.sysfs_root
    if not root.is_dir():
        raise ValueError(f"--sysfs-root is {root}: expected a folder")
    sensors = find_power_sensors(root)
    machine = discover_machine(root, find_platform_file(arguments.platform) if arguments.platform else None)
    if arguments.yaml:
        print(machine_yaml(machine), end="")
    else:
        Console().print(machine_tables(machine, scan_temperatures(root), sensors))
    return 0
