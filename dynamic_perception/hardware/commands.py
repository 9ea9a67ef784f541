"""`dynamic-perception restore`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dynamic_perception.hardware.clocks import default_state_folder, restore_saved


def add_restore(commands: argparse._SubParsersAction) -> None:
    """Add the `restore` command."""
    parser = commands.add_parser(
        "restore", help="put back the clocks that a killed node left changed",
        description="Put governor and clock limits back as they were before the perception node changed them. Nodes do "
                    "so themselves when they end; this is for after a SIGKILL. Refused while a node owns the clocks.")
    parser.add_argument("--sysfs-root", type=Path, default=Path("/sys"), metavar="DIR", help="default: %(default)s")
    parser.set_defaults(run_command=run_restore)


def run_restore(arguments: argparse.Namespace) -> int:
    """Put back what is saved, say what was done; exit code 1 when something is left to put back."""
    result = restore_saved(default_state_folder(arguments.sysfs_root))
    for line in result.lines:
        print(line)
    return 0 if result.complete else 1
