"""One run of the scenario: starts the nodes, plays the user, the load and the missing sensors, and records it all."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from dynamic_perception.demo.emulated_clock import EmulatedClock
from dynamic_perception.demo.interruption import Interruption
from dynamic_perception.demo.processes import ProcessFault, ProcessGroup
from dynamic_perception.demo.scenario import PHASES, START_CHARGE, Deadlines, Scenario, compute_deadlines
from dynamic_perception.hardware.emulated_cpufreq import EMULATION
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.nodes.observer import Observer
from dynamic_perception.report.live_table import Display
from dynamic_perception.report.recorded_run import RecordedRun
from dynamic_perception.simulation.platform_model import PlatformModel

START_TIMEOUT = 60.0  # [s] for nodes to load, meet and answer the first frames; generous for a busy machine
STOP_TIMEOUT = 8.0  # [s] for nodes to end by themselves
FIRST_FRAMES = 20  # that are answered at the calm deadline before the run begins
SETTLING = 0.3  # of the first phase, whose frames do not count for the deadlines
SPIN_PERIOD = 0.02  # [s]
SENSOR_PERIOD = 0.2  # [s] of the modelled sensors
DISPLAY_PERIOD = 0.25  # [s]
PICTURE_AT, PICTURE_UNTIL = 0.6, 0.9  # of a phase, between which a picture is taken
LAST_ANSWERS = 0.3  # [s] after the end, for what is still on its way


@dataclass(frozen=True)
class Plan:
    """What both runs have in common.

    Attributes:
        bundle, table, profile: the network, its operating points, and their file.
        camera: parameters of the camera, but for its frame rate.
        iou_source: what the answers are measured against, for people; empty: nobody knows the truth.
        scenario: what happens.
        load_processes: that take the cores.
        temperature_modelled, battery_modelled: whether the machine has no such sensor.
        namespace: of the nodes.
        engine: that perception runs; "auto": as it does by itself.
        clock: that perception runs under and sets; None: the machine's own, which nobody sets.
    """

    bundle: ModelBundle
    table: OperatingPointTable
    profile: Path
    camera: Mapping[str, object]
    iou_source: str
    scenario: Scenario
    load_processes: int
    temperature_modelled: bool
    battery_modelled: bool
    namespace: str
    engine: str
    clock: EmulatedClock | None


class ScenarioRun:
    """Plays the scenario once.

    Args:
        plan: of both runs.
        title: for people.
        managed: with the resource manager; otherwise at a fixed subnetwork.
        processes: starts the nodes.
        interruption: may end the run at any time.
        display: shows it.
        deadlines: those of an earlier run; None: measure the overhead in the first phase and compute them.
        fixed: the subnetwork of a run without the manager; empty: the largest.
    """

    def __init__(
        self,
        plan: Plan,
        title: str,
        managed: bool,
        processes: ProcessGroup,
        interruption: Interruption,
        display: Display,
        deadlines: Deadlines | None = None,
        fixed: str = "",
    ):
        self.deadlines = deadlines
        self._fixed = fixed
        self.record = RecordedRun(
            title,
            managed,
            plan.scenario.spans,
            temperature_source="modelled" if plan.temperature_modelled else "measured",
            battery_source="modelled" if plan.battery_modelled else "measured",
            iou_source=plan.iou_source,
            energy_source=plan.table.provenance.get("energy", "unknown"),
            clock_source=EMULATION if plan.clock else "",
        )
        self._plan = plan
        self._processes = processes
        self._interruption = interruption
        self._display = display
        self._namespace = f"{plan.namespace}/{'managed' if managed else 'fixed'}"
        self._board = PlatformModel(plan.scenario.board, plan.scenario.start_temperature, START_CHARGE)
        self._board_advanced = math.nan  # [s] since the start; NaN: not yet
        self._board_energy = 0.0  # [J] until then
        self._sensors_due = -math.inf  # [s] steady

    def play(self) -> list[str]:
        """Run from the first process to the last; what the processes did wrong, in sentences.

        Raises:
            ProcessFault: a process ended early, or frames did not flow.
        """
        self._start_nodes()
        context = Context()
        context.init()
        executor = SingleThreadedExecutor(context=context)
        observer = Observer(context, self._namespace, self.record, self._plan.table, self._plan.bundle)
        executor.add_node(observer)
        try:
            self._wait_for_frames(observer, executor)
            self._play_scenario(observer, executor)
        finally:
            self._processes.stop_load()
            executor.shutdown()
            observer.destroy_node()
            context.try_shutdown()
        return self._processes.stop_nodes(STOP_TIMEOUT)

    def _start_nodes(self) -> None:
        model = str(self._plan.bundle.folder.resolve())
        label = "managed" if self.record.managed else "fixed"
        nodes: dict[str, dict[str, object]] = {
            "camera": {**self._plan.camera, "frame_rate": self._plan.scenario.frame_rate},
            "perception": {"model": model, "engine": self._plan.engine}
            | ({} if self.record.managed else {"command_timeout": 0.0, "start_subnetwork": self._fixed}),
            "hardware_monitor": {},
        }
        if self.record.managed:
            nodes["resource_manager"] = {
                "model": model,
                "profile": str(self._plan.profile.resolve()),
                "dwell": self._plan.scenario.dwell,
            }
        for name, parameters in nodes.items():
            self._processes.start_node(
                name, f"{label}_{name}", self._namespace, parameters, self._plan.clock if name == "perception" else None
            )

    def _wait_for_frames(self, observer: Observer, executor: SingleThreadedExecutor) -> None:
        """Until frames flow at the calm deadline, a manager's first command is answered, and the truth is heard."""
        self._display.say(f"{self.record.title}: starting the nodes")
        readers = 2 if self.record.managed else 1
        asked_at = None  # how many frames had been answered when the deadline was asked for
        end = time.monotonic() + START_TIMEOUT
        while True:
            self._turn(executor)
            self._play_sensors(observer, 0.0)
            if asked_at is None and observer.deadline_readers() >= readers:
                observer.publish_deadline(1 / self._plan.scenario.frame_rate)
                asked_at = observer.reports_heard
            missing = [
                what
                for what, there in (
                    ("answered no frame", asked_at is not None and observer.reports_heard >= asked_at + FIRST_FRAMES),
                    ("answered no command", self.record.answers or not self.record.managed),
                    ("gave no answer whose truth is known", observer.answers_compared or not self.record.iou_source),
                )
                if not there
            ]
            if not missing:
                return
            if time.monotonic() > end:
                raise ProcessFault(
                    self._processes.node("perception").describe(f"{missing[0]} within {START_TIMEOUT:g} s")
                )

    def _play_scenario(self, observer: Observer, executor: SingleThreadedExecutor) -> None:
        scenario = self._plan.scenario
        observer.begin()
        started = time.monotonic()
        current, display_due, picture_wanted = -1, DISPLAY_PERIOD, False
        while (now := time.monotonic() - started) < scenario.duration:
            self._turn(executor)
            number = scenario.phase_at(now)
            if number != current:
                current, picture_wanted = number, True
                self._enter(number, observer)
            span = scenario.spans[number]
            way = (now - span.start) / (span.end - span.start)
            if picture_wanted and way >= PICTURE_AT:
                picture_wanted = False
                observer.begin_picture()
            if way >= PICTURE_UNTIL:
                observer.end_picture()
            self._play_sensors(observer, now)
            if now >= display_due:
                display_due = now + DISPLAY_PERIOD
                self._display.show(self.record, now)
        end = time.monotonic() + LAST_ANSWERS
        while time.monotonic() < end:
            self._turn(executor)
        self._display.show(self.record, scenario.duration)

    def _turn(self, executor: SingleThreadedExecutor) -> None:
        executor.spin_once(timeout_sec=SPIN_PERIOD)
        self._interruption.check()
        self._processes.check()

    def _enter(self, number: int, observer: Observer) -> None:
        """Bring about what a phase consists of."""
        phase = PHASES[number]
        if phase.load:
            self._processes.start_load(self._plan.load_processes)
        else:
            self._processes.stop_load()
        if number == 0:
            return  # its deadline was asked for before the start
        if self.deadlines is None:
            settled = SETTLING * self._plan.scenario.spans[0].end
            frames = [frame for frame in self.record.frames if frame.time >= settled]
            if not frames:
                raise ProcessFault(self._processes.node("perception").describe("answered no frame in the calm phase"))
            self.deadlines = compute_deadlines(
                frames, self._plan.table, self._plan.bundle.subnetworks[-1].name, self._plan.scenario.frame_rate
            )
        observer.publish_deadline(self.deadlines.of(phase))

    def _play_sensors(self, observer: Observer, now: float) -> None:
        """The modelled board at `now` [s] since the start, for the sensors that the machine does not have."""
        if time.monotonic() < self._sensors_due:
            return
        self._sensors_due = time.monotonic() + SENSOR_PERIOD
        if not math.isnan(self._board_advanced) and now > self._board_advanced:
            duration = now - self._board_advanced
            power = (observer.energy - self._board_energy) / duration
            self._board.advance(duration, power, self._plan.scenario.surroundings(now))
        self._board_advanced, self._board_energy = now, observer.energy
        if self._plan.temperature_modelled:
            observer.publish_temperature(self._board.temperature)
        if self._plan.battery_modelled:
            observer.publish_charge(self._board.charge)
