"""What happens in the demo, and when: phases, deadlines, and the surroundings of the modelled board.

On every machine and with every network other deadlines are calm or tight: they are computed from the overhead around
the inference and the slow-down of it, measured in the calm phase, and from the latencies of the machine's table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.report.recorded_run import Frame, PhaseSpan
from dynamic_perception.simulation.platform_model import PlatformSettings, Surroundings

FRAME_RATES = (30.0, 20.0, 15.0, 12.0, 10.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)  # [Hz]

ROOM = 2.0  # times what a frame needs at the largest subnetwork
SLOWER = 1.1  # times as long: less of a difference between two operating points is lost in the noise

# The modelled board is cooled and fed so that the largest subnetwork at the frame rate heats it by LARGEST_RISE, and
# takes LARGEST_SHARE of the battery during a run: on any machine the same picture, whatever its operating points draw.
LARGEST_RISE = 22.0  # [K]
LARGEST_SHARE = 0.30  # [0..1]
TIME_CONSTANT = 0.025  # of the run's duration
DWELL = 0.004  # of the run's duration: how long the manager waits at first before it steps up
RAMP = 0.35  # of a phase, in which the ambient temperature goes from the last phase's to its own

CALM_AMBIENT, HOT_AMBIENT = 35.0, 68.0  # [°C] hot: the largest subnetwork would pass the critical 90, the smallest not
START_CHARGE = 0.62  # [0..1]
OTHER_DRAIN, FAST_DRAIN, CHARGING = 0.02, 0.30, 0.25  # [0..1] of the battery over a phase: usual, draining, charger


@dataclass(frozen=True)
class Phase:
    """A part of the scenario.

    Attributes:
        name: short, as pictures show it.
        text: one sentence.
        share: of the duration.
        deadline: which of the `Deadlines` holds.
        load: whether busy processes take the cores.
        ambient: [°C] of the modelled board.
        drain, charge: [0..1] of the battery that other consumers take, and the charger gives, in this phase.
    """

    name: str
    text: str
    share: float
    deadline: str = "calm"
    load: bool = False
    ambient: float = CALM_AMBIENT
    drain: float = OTHER_DRAIN
    charge: float = 0.0


PHASES = (
    Phase("calm", "A generous deadline and an idle machine.", 0.14),
    Phase("tight deadline", "A deadline that the largest subnetwork cannot keep.", 0.15, deadline="tight"),
    Phase("CPU load", "Other processes really take the cores.", 0.18, deadline="roomy", load=True),
    Phase("heat", "A second source of heat under the board.", 0.19, ambient=HOT_AMBIENT),
    Phase("battery", "The rest of the robot drains the battery.", 0.17, deadline="economy", drain=FAST_DRAIN),
    Phase("recovery", "Cool again, on the charger, with the calm deadline.", 0.17, charge=CHARGING),
)


@dataclass(frozen=True)
class Deadlines:
    """The deadlines [s] of a run and what they were computed from.

    Attributes:
        calm: one frame period, so that an answer is there before the next frame.
        tight: what 90 % of the frames need around the inference, and half of the way from the smallest to the largest
            subnetwork's latency.
        roomy: ROOM times what the largest subnetwork needs with all this, which an idle machine keeps without trouble;
            at most calm, or else frames would be skipped that met every deadline.
        economy: as tight, but half of the way from the largest subnetwork's fastest operating point to its most frugal;
            at most calm, and calm where the most frugal one is as fast.
        overhead_median, overhead_p90: [s] measured from the frame's stamp to the answer, without the inference.
        frames: how many were measured.
        slow_down: median of the inference's latency over the profiled one: between frames, caches become cold.
        smallest, largest, frugal: [s] latencies of the table that were used, before the slow-down.
    """

    calm: float
    tight: float
    roomy: float
    economy: float
    overhead_median: float
    overhead_p90: float
    frames: int
    slow_down: float
    smallest: float
    largest: float
    frugal: float

    def of(self, phase: Phase) -> float:
        """The deadline [s] of a phase."""
        return getattr(self, phase.deadline)


def choose_frame_rate(table: OperatingPointTable, largest: str) -> float:
    """The highest of FRAME_RATES [Hz] at which the largest subnetwork at its fastest fits ROOM times between frames."""
    fastest = min(table.latency[index] for index in range(len(table)) if table.subnetwork[index] == largest)
    return next((rate for rate in FRAME_RATES if ROOM * fastest <= 1 / rate), FRAME_RATES[-1])


def compute_deadlines(
    frames: Sequence[Frame], table: OperatingPointTable, largest: str, frame_rate: float
) -> Deadlines:
    """Deadlines for this machine.

    Args:
        frames: of the calm phase, at least one.
        table: of at least two subnetworks.
        largest: name of the largest one.
        frame_rate: [Hz] of the camera.
    """
    rows = [table[index] for index in range(len(table))]
    of_largest = [point for point in rows if point.subnetwork == largest]
    smallest = min(point.latency for point in rows if point.subnetwork != largest)
    fastest = min(point.latency for point in of_largest)
    frugal = min(of_largest, key=lambda point: (point.power, point.latency)).latency
    profiled = [table.latency_at(frame.subnetwork, frame.element, frame.cpu_frequency) for frame in frames]
    slow_down = float(np.median([frame.inference / latency for frame, latency in zip(frames, profiled)]))
    # Not a higher quantile: the tail is the machine's noise of the moment, and differs most from phase to phase.
    median, p90 = (float(value) for value in np.quantile([f.latency - f.inference for f in frames], (0.5, 0.9)))
    calm = 1 / frame_rate
    economy = p90 + slow_down * (fastest + frugal) / 2 if frugal > SLOWER * fastest else calm
    return Deadlines(
        calm=calm,
        tight=p90 + slow_down * (smallest + fastest) / 2,
        roomy=min(calm, ROOM * (p90 + slow_down * fastest)),
        economy=min(calm, economy),
        overhead_median=median,
        overhead_p90=p90,
        frames=len(frames),
        slow_down=slow_down,
        smallest=smallest,
        largest=fastest,
        frugal=frugal,
    )


@dataclass(frozen=True)
class Scenario:
    """The phases over `duration` [s].

    Attributes:
        frame_rate: [Hz] of the camera.
        reference_power: [W] the largest subnetwork's mean power at that rate.
    """

    duration: float
    frame_rate: float
    reference_power: float

    @cached_property
    def spans(self) -> tuple[PhaseSpan, ...]:
        """The phases with their times."""
        ends = np.cumsum([phase.share for phase in PHASES]) / sum(phase.share for phase in PHASES) * self.duration
        starts = [0.0, *ends[:-1]]
        return tuple(
            PhaseSpan(phase.name, phase.text, float(start), float(end))
            for phase, start, end in zip(PHASES, starts, ends)
        )

    @cached_property
    def board(self) -> PlatformSettings:
        """The modelled board."""
        return PlatformSettings(
            thermal_resistance=LARGEST_RISE / self.reference_power,
            time_constant=TIME_CONSTANT * self.duration,
            battery_capacity=self.reference_power * self.duration / LARGEST_SHARE,
        )

    @property
    def dwell(self) -> float:
        """[s] for the manager."""
        return DWELL * self.duration

    @property
    def start_temperature(self) -> float:
        """[°C] of the board that has run the largest subnetwork for long."""
        return CALM_AMBIENT + LARGEST_RISE

    def phase_at(self, time: float) -> int:
        """Number of the phase at `time` [s]; before the start the first, after the end the last."""
        return next((i for i, span in enumerate(self.spans) if time < span.end), len(PHASES) - 1)

    def surroundings(self, time: float) -> Surroundings:
        """What acts on the modelled board at `time` [s]."""
        number = self.phase_at(time)
        phase, span = PHASES[number], self.spans[number]
        before = PHASES[number - 1].ambient if number else phase.ambient
        way = min(1.0, max(0.0, (time - span.start) / (RAMP * (span.end - span.start))))
        watts = self.board.battery_capacity / (span.end - span.start)
        return Surroundings(
            ambient=before + way * (phase.ambient - before),
            other_load=phase.drain * watts,
            charger=phase.charge * watts,
        )


def reference_power(table: OperatingPointTable, largest: str, frame_rate: float) -> float:
    """[W] mean power of the largest subnetwork's thirstiest operating point at that rate; ValueError if not known."""
    energies = [table.energy[index] for index in range(len(table)) if table.subnetwork[index] == largest]
    if np.isnan(energies).all():
        raise ValueError("the operating-point table knows no energy, which the modelled board needs: profile again")
    return float(np.nanmax(energies)) * frame_rate
