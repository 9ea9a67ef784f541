"""A CPU clock for the demo on machines without one: emulated, with operating points that were measured under it."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from dynamic_perception.demo.processes import POLL_PERIOD, child_of_this
from dynamic_perception.engines.selection import DEFAULT, installed_version
from dynamic_perception.hardware.compute_element import discover_elements, platform_fingerprint
from dynamic_perception.hardware.cpufreq import find_policies
from dynamic_perception.hardware.emulated_cpufreq import EMULATION, EmulatedCpufreq
from dynamic_perception.hardware.gpus import SYSFS
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.profiling.table_choice import differences, measured_engine
from dynamic_perception.profiling.table_file import ProfileFile, emulated_profile, read_table, write_table

CLOCKS = (1000e6, 1400e6, 2000e6)  # [Hz] of the table; fewer than the policy has, so that a first demo begins soon
# What a point at a lower clock has to take of the time that it should take. The quota counts CPU time by periods of
# 5 ms: an inference of 1 ms may end before it has used up its share, or wait for the next period, as chance has it.
LEAST_SLOWED = 0.8
MOST_RUNS = 60  # inferences of a point; all 36 of the shipped segmenter's take half a minute on a machine at rest
PREFIX = "dynamic_perception_clock_"
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)
RUN = "import sys; from dynamic_perception.cli import main; sys.exit(main(sys.argv[1:]))"


class EmulatedClock:
    """The clock from its construction to `close`, in a folder of its own, so that two demos never meet.

    Attributes:
        root: the sysfs tree.
        element: name of the only compute element whose inferences the clock slows as it should: that of all threads.

    Raises:
        OSError: it cannot be had here; says what is needed.
    """

    def __init__(self):
        if any(policy.writable() for policy in find_policies(SYSFS)):
            raise OSError("it has one of its own that could be set, which the demo does not do")
        self._child: subprocess.Popen | None = None
        _remove_abandoned()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}_"))
        self.root = self._folder / "sys"
        try:
            self._cpufreq = EmulatedCpufreq(self.root)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self.element = discover_elements(self.root)[-1].name

    def command(self, command: list[str]) -> list[str]:
        """The same command under this clock."""
        return self._cpufreq.command(command)

    def run(self, command: list[str]) -> int:
        """Run a command that sets this clock, and shows its progress on stderr; its exit code."""
        ends_with_this = child_of_this()

        def prepare() -> None:  # in the child, between fork and exec
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)
            ends_with_this()

        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)  # a child that `close` does not know could join late
        try:
            self._child = subprocess.Popen(
                self.command(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=prepare,
            )  # Ctrl-C is the demo's
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)
        while self._child.poll() is None:
            time.sleep(POLL_PERIOD)
        return self._child.returncode

    def close(self) -> None:
        """End what runs, and leave nothing behind; again is harmless, also while it is under way."""
        if self._child is not None and self._child.returncode is None:
            try:  # with nothing but system calls: a signal may have come in the middle of `poll`
                os.kill(self._child.pid, signal.SIGKILL)
                os.waitpid(self._child.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # it has ended meanwhile
        self._cpufreq.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _remove_abandoned() -> None:
    """Remove the folders of demos that were killed; each is named after its process."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        process = folder.name.removeprefix(PREFIX).partition("_")[0]
        with suppress(FileNotFoundError):  # another demo that starts now has removed it
            found = folder.lstat()
            mine = found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode)
            if mine and not (process.isdecimal() and Path("/proc", process).exists()):
                shutil.rmtree(folder, ignore_errors=True)


def start_clock(console: Console) -> EmulatedClock | None:
    """An emulated clock, or None and the reason on the console."""
    try:
        clock = EmulatedClock()
    except OSError as error:
        console.print(
            f"clock: left to the machine, because {error.strerror or error}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return None
    console.print(f"clock: {EMULATION}, and set by the manager", markup=False, highlight=False)
    return clock


def open_emulated_table(bundle: ModelBundle, clock: EmulatedClock, console: Console) -> tuple[Path, ProfileFile]:
    """The operating points of `bundle` under this clock, measured now in a process of its own if that was not done.

    Raises:
        OSError: they could not be measured.
    """
    path, engine = emulated_profile(bundle.name), _engine_of(bundle)
    if path.exists():
        file = read_table(path)
        why = _why_not(file, bundle, clock, engine)
        if not why:
            return path, _leave_out_unslowed(path, file)
        console.print(
            f"{path} {why}: measuring the operating points again", markup=False, highlight=False, soft_wrap=True
        )
    else:
        console.print(
            "no operating points of this network under the emulated clock yet: measuring them once", soft_wrap=True
        )
    arguments = [
        "profile",
        str(bundle.folder),
        "--out",
        str(path),
        "--sysfs-root",
        str(clock.root),
        "--engine",
        engine,
        "--elements",
        clock.element,
        "--clocks",
        *(f"{hertz / 1e6:g}" for hertz in CLOCKS),
        "--most-runs",
        str(MOST_RUNS),
        "--restart",
    ]
    code = clock.run([sys.executable, "-c", RUN, *arguments])
    if code != 0:
        raise OSError(f"the operating points under the emulated clock could not be measured (exit code {code})")
    return path, _leave_out_unslowed(path, read_table(path))


def _leave_out_unslowed(path: Path, file: ProfileFile) -> ProfileFile:
    """Without the points that this clock does not slow as it should, in the file too; it says which."""
    points = [file.table[row] for row in range(len(file.table))]
    # Of each subnetwork the last one stays: that of its highest clock, which nothing slows.
    cycles = {
        (point.subnetwork, point.compute_element): point.latency * point.cpu_frequency
        for point in sorted(points, key=lambda point: point.cpu_frequency)
    }
    kept, marked = [], []
    for point in points:
        expected = cycles[point.subnetwork, point.compute_element] / point.cpu_frequency
        if point.latency >= LEAST_SLOWED * expected:
            kept.append(point)
        else:
            marked.append(
                {
                    "subnetwork": point.subnetwork,
                    "compute_element": point.compute_element,
                    "cpu_frequency": point.cpu_frequency,
                    "latency": float(f"{point.latency:.4g}"),
                    "why": "too short for the quota to slow it as the clock says",
                }
            )
    if not marked:
        return file
    file = replace(
        file,
        table=OperatingPointTable.from_points(kept, file.table.provenance),
        conditions={**file.conditions, "marked": [*file.conditions.get("marked", ()), *marked]},
    )
    write_table(path, file)
    return file


def _engine_of(bundle: ModelBundle) -> str:
    """The one that the perception node takes without an emulated clock."""
    try:
        return measured_engine(bundle, platform_fingerprint())
    except (OSError, ValueError):
        return DEFAULT


def _why_not(file: ProfileFile, bundle: ModelBundle, clock: EmulatedClock, engine: str) -> str:
    """Why a table cannot be used; empty: it can."""
    differing = differences(file, bundle, platform_fingerprint())
    if differing:
        return " and ".join(differing)
    if (file.engine, file.engine_version) != (engine, installed_version(engine)):
        return f"was measured with {file.engine} {file.engine_version}"
    marked = {(m["subnetwork"], m["compute_element"], m["cpu_frequency"]) for m in file.conditions.get("marked", ())}
    here = {(s.name, clock.element, hertz) for s in bundle.subnetworks for hertz in CLOCKS}
    if here - marked != _points(file.table) - marked:
        return "has other operating points than this process may use"
    return ""


def _points(table: OperatingPointTable) -> set[tuple[str, str, float]]:
    return set(zip(table.subnetwork, table.compute_element, table.cpu_frequency.tolist()))
