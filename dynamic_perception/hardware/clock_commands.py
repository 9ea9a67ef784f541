"""`dynamic-perception restore`, `clock-helper` and `emulate-cpufreq`."""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
from pathlib import Path

from dynamic_perception.hardware.clock_helper import ClockHelper, HelperSettings, group_id
from dynamic_perception.hardware.clock_owner import FrequencyRange
from dynamic_perception.hardware.clock_places import MACHINE_FOLDER
from dynamic_perception.hardware.clocks import restore_saved
from dynamic_perception.hardware.emulated_cpufreq import EmulatedCpufreq
from dynamic_perception.hardware.helper_protocol import DEFAULT_SOCKET

GROUP = "dynamic_perception"


def add_restore(commands: argparse._SubParsersAction) -> None:
    """Add the `restore` command."""
    parser = commands.add_parser(
        "restore",
        help="put back the clocks that a killed node left changed",
        description="Put governors and clock limits back as they were before the perception node changed them. Nodes "
        "do so themselves when they end; this is for after a SIGKILL. Refused for clocks that a node owns.",
    )
    parser.add_argument("--sysfs-root", type=Path, default=Path("/sys"), metavar="DIR", help="default: %(default)s")
    parser.set_defaults(run_command=run_restore)


def run_restore(arguments: argparse.Namespace) -> int:
    """Put back what is saved, say what was done; exit code 1 when something is left to put back."""
    result = restore_saved(sysfs_root=arguments.sysfs_root)
    for line in result.lines:
        print(line)
    return 0 if result.complete else 1


def add_clock_helper(commands: argparse._SubParsersAction) -> None:
    """Add the `clock-helper` command."""
    parser = commands.add_parser(
        "clock-helper",
        help="root's daemon that sets clocks for nodes which are not root",
        description="Serve requests for clock frequencies on a Unix socket, until SIGINT or SIGTERM. Only members of a "
        "group are heard, only clocks and frequencies of an allow-list are set, and what a node has set is "
        "put back when it goes. A systemd unit is in share/dynamic_perception/config/system.",
    )
    parser.add_argument("--socket", type=Path, default=DEFAULT_SOCKET, metavar="PATH", help="default: %(default)s")
    parser.add_argument("--group", default=GROUP, metavar="NAME", help="who may use it (default: %(default)s)")
    parser.add_argument(
        "--allow",
        nargs="+",
        metavar="CLOCK",
        help="cpufreq policies and devfreq devices that may be set (default: every cpufreq policy)",
    )
    for end, word in (("min", "lowest"), ("max", "highest")):
        parser.add_argument(
            f"--{end}", type=float, default=0.0, metavar="HZ", help=f"{word} frequency (default: the hardware's)"
        )
    parser.add_argument(
        "--rate",
        type=_positive,
        default=20.0,
        metavar="N",
        help="requests a second that one user may send for each clock (default: %(default)g)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help=f"where what was found is saved until it is put back (default: {MACHINE_FOLDER}, as of nodes of root)",
    )
    parser.add_argument("--sysfs-root", type=Path, default=Path("/sys"), metavar="DIR", help="default: %(default)s")
    parser.set_defaults(run_command=run_clock_helper)


def run_clock_helper(arguments: argparse.Namespace) -> int:
    """Serve until a signal; then everything is put back."""
    helper = ClockHelper(
        HelperSettings(
            socket=arguments.socket,
            group=group_id(arguments.group),
            sysfs_root=arguments.sysfs_root,
            state_folder=arguments.state,
            names=frozenset(arguments.allow) if arguments.allow else None,
            allowed=FrequencyRange(arguments.min, arguments.max),
            rate=arguments.rate,
        )
    )
    try:
        helper.serve(_signal_pipe())
    finally:
        helper.close()
    return 0


def _signal_pipe() -> int:
    """A file descriptor that can be read from when SIGINT or SIGTERM has come."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # the descriptor says it
    return reader.detach()


def add_emulate_cpufreq(commands: argparse._SubParsersAction) -> None:
    """Add the `emulate-cpufreq` command."""
    parser = commands.add_parser(
        "emulate-cpufreq",
        help="run a command under clocks that can be set, where the machine has none",
        usage="dynamic-perception emulate-cpufreq --root DIR [--cpus N [N ...]] [--threads N] -- COMMAND ...",
        description="Make a sysfs tree with a CPU frequency policy, and run a command in a control group whose CPU "
        "time follows the policy's clock files, so that it is really slower at a lower clock. Power, "
        "temperature and battery in the tree are modelled. Give the tree to nodes as sysfs_root. Needs "
        "root. Ends with the command and its exit code.",
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="the tree; made where it is not there")
    parser.add_argument("--cpus", type=int, nargs="+", metavar="N", help="default: all that may be used")
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="busy threads of the command, whose CPU time is scaled (default: one for each CPU)",
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    parser.set_defaults(run_command=run_emulate_cpufreq)


def run_emulate_cpufreq(arguments: argparse.Namespace) -> int:
    """Run the command; SIGINT and SIGTERM are passed on to it."""
    cpus = frozenset(arguments.cpus) if arguments.cpus else None
    with EmulatedCpufreq(arguments.root, cpus, arguments.threads) as emulated:
        process = subprocess.Popen(emulated.command(arguments.command), start_new_session=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: process.send_signal(number))
        code = process.wait()
    return code if code >= 0 else 128 - code  # the shell's convention


def _positive(text: str) -> float:
    value = float(text)
    if not 1.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a rate: expected at least 1")
    return value
