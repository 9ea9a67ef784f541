"""Every parameter of every node, as data: the nodes declare from it, and the configuration file and README are
tested against it.

A parameter is either `changeable` at run time, and then really takes effect, or read-only after start.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter

from dynamic_perception.hardware.helper_protocol import DEFAULT_SOCKET
from dynamic_perception.pictures import PIXEL_LIMIT


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter.

    Attributes:
        name: as in the parameter file.
        default: also fixes the type; lists are given as lists.
        text: one sentence for people, with the unit in brackets where there is one.
        minimum, maximum: closed range of a number; None for no bound on that side.
        choices: the allowed values of a string; empty for any.
        changeable: whether it can be set while the node runs.
    """

    name: str
    default: Any
    text: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    changeable: bool = False

    @property
    def type(self) -> Parameter.Type:
        """The type that is declared."""
        return Parameter.Type.from_parameter_value(self.default)

    def in_type(self, value: Any) -> Any:
        """`value` in the declared type where it is only written in another one, else as it is.

        A whole number is taken for a double, also in a list; a list without entries, which has no type or, out of a
        file, no value, for one of the declared type.
        """
        if isinstance(self.default, float):
            return float(value) if type(value) is int else value
        if not isinstance(self.default, list):
            return value
        if value is None or (isinstance(value, Sized) and not isinstance(value, str) and not len(value)):
            return []
        whole = isinstance(value, Sequence) and all(type(entry) is int for entry in value)
        return [float(entry) for entry in value] if whole and isinstance(self.default[0], float) else value

    def descriptor(self) -> ParameterDescriptor:
        """The same for rclpy, which enforces range and read-only by itself."""
        descriptor = ParameterDescriptor(name=self.name, description=self.text, read_only=not self.changeable)
        if self.choices:
            descriptor.additional_constraints = f"one of: {', '.join(self.choices)}"
        if self.minimum is not None or self.maximum is not None:
            if isinstance(self.default, int):
                descriptor.integer_range = [
                    IntegerRange(
                        from_value=int(-(2**63) if self.minimum is None else self.minimum),
                        to_value=int(2**63 - 1 if self.maximum is None else self.maximum),
                    )
                ]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(
                        from_value=float("-inf") if self.minimum is None else float(self.minimum),
                        to_value=float("inf") if self.maximum is None else float(self.maximum),
                    )
                ]
        return descriptor


COMMON = (ParameterSpec("autostart", True, "Configure and activate at start; false: wait for a lifecycle manager."),)

PERCEPTION = (
    ParameterSpec("model", "group_cnn_cifar10", "Name of a shipped model bundle, or path of a bundle folder."),
    ParameterSpec(
        "engine",
        "auto",
        "What runs the network: onnxruntime, openvino, pytorch, or one that another package "
        "adds; auto: the fastest when this machine was profiled, else onnxruntime.",
    ),
    ParameterSpec(
        "engine.memory_budget",
        256 * 2**20,
        "[byte] What the weights of all subnetworks that are ready to run "
        "may take together; others are built when they are commanded.",
        minimum=0,
    ),
    ParameterSpec("start_subnetwork", "", "Subnetwork before the first command; empty: the largest."),
    ParameterSpec(
        "start_element",
        "",
        "Compute element before the first command, as <cluster>:<threads>; empty: the "
        "first cluster with all its threads.",
    ),
    ParameterSpec("fallback_subnetwork", "", "Subnetwork when commands stay away; empty: the smallest."),
    ParameterSpec("fallback_element", "", "Compute element when commands stay away; empty: start_element."),
    ParameterSpec(
        "command_timeout",
        3.0,
        "[s] Without a command for so long the fallback point is taken; 0: never.",
        minimum=0.0,
        changeable=True,
    ),
    ParameterSpec(
        "deadline",
        0.0,
        "[s] From frame stamp to answer, until a message on deadline or target says otherwise; 0: none.",
        minimum=0.0,
        changeable=True,
    ),
    ParameterSpec(
        "image_reliability",
        "auto",
        "Reliability of the image subscription; auto copies the publisher's.",
        choices=("auto", "reliable", "best_effort"),
    ),
    ParameterSpec(
        "image_pixel_limit",
        PIXEL_LIMIT,
        "[pixel] A compressed frame of more is refused before it is decoded.",
        minimum=1,
        changeable=True,
    ),
    ParameterSpec("top_k", 3, "Number of classes in an answer.", minimum=1, changeable=True),
    ParameterSpec("warm_up_runs", 3, "Inferences per subnetwork and compute element at configuration.", minimum=1),
    ParameterSpec(
        "clocks_enabled", False, "Let commands set CPU and GPU clocks; they are put back on deactivation and exit."
    ),
    ParameterSpec(
        "cpu_frequency_min", 0.0, "[Hz] Lowest CPU clock that may be set; 0: the hardware's own limit.", minimum=0.0
    ),
    ParameterSpec(
        "cpu_frequency_max", 0.0, "[Hz] Highest CPU clock that may be set; 0: the hardware's own limit.", minimum=0.0
    ),
    ParameterSpec(
        "gpu_frequency_min", 0.0, "[Hz] Lowest GPU clock that may be set; 0: the hardware's own limit.", minimum=0.0
    ),
    ParameterSpec(
        "gpu_frequency_max", 0.0, "[Hz] Highest GPU clock that may be set; 0: the hardware's own limit.", minimum=0.0
    ),
    ParameterSpec(
        "clocks.helper_socket",
        str(DEFAULT_SOCKET),
        "Socket of `dynamic-perception clock-helper`, which sets "
        "the clocks that this node may not write itself; empty: never ask it.",
    ),
    ParameterSpec("sysfs_root", "/sys", "Where the kernel's view of the hardware is mounted."),
)

RESOURCE_MANAGER = (
    ParameterSpec(
        "namespaces",
        [""],
        "Namespaces of the perception nodes that share this machine, below the node's own; one empty name: one "
        "perception node, in the node's own namespace. With names, each network's values of model, profile, weight, "
        "fallback point and target can be set as <namespace>.<parameter>.",
    ),
    ParameterSpec(
        "weight", 1.0, "How much a network's utility counts beside that of others.", minimum=0.001, maximum=1000.0
    ),
    ParameterSpec(
        "profile",
        "",
        "Path of the operating-point table; empty: this machine's table of the model, as "
        "`dynamic-perception profile` writes it, or a shipped one that was measured on such a machine.",
    ),
    ParameterSpec("force_profile", False, "Take a table of another machine or of other weights all the same."),
    ParameterSpec(
        "max_latency",
        0.0,
        "[s] Deadline from frame stamp to answer, until deadline or target says otherwise; 0: none.",
        minimum=0.0,
        changeable=True,
    ),
    ParameterSpec("max_energy", 0.0, "[J] Energy of one inference; 0: no limit.", minimum=0.0, changeable=True),
    ParameterSpec("max_power", 0.0, "[W] Power while an inference runs; 0: no limit.", minimum=0.0, changeable=True),
    ParameterSpec("min_accuracy", 0.0, "[0..1] Accuracy floor; 0: none.", minimum=0.0, maximum=1.0, changeable=True),
    ParameterSpec(
        "min_rate",
        0.0,
        "[Hz] Answers per second that the mean latency must allow; 0: no limit.",
        minimum=0.0,
        changeable=True,
    ),
    ParameterSpec(
        "objective",
        "max_accuracy",
        "What to take among the points that meet every limit.",
        choices=("max_accuracy", "min_energy", "min_latency"),
        changeable=True,
    ),
    ParameterSpec(
        "deadline_probability",
        0.95,
        "[0..1] Probability with which a point must meet the deadline to be taken.",
        minimum=0.5,
        maximum=0.999,
    ),
    ParameterSpec(
        "relax",
        ["accuracy", "energy", "battery", "rate", "deadline"],
        "Limits that are given up, in this order, when no point meets them all; power may be among them, heat "
        "never is.",
    ),
    ParameterSpec("dwell", 5.0, "[s] How long a better point must have been possible before it is taken.", minimum=0.0),
    ParameterSpec(
        "most_up",
        3,
        "How many more demanding points are taken within a minute, but for those that are asked for.",
        minimum=1,
        maximum=1000,
    ),
    ParameterSpec(
        "battery_thresholds",
        [0.30, 0.15],
        "[0..1] Charge below which the power cap of the same place in battery_power_caps holds, in falling order.",
    ),
    ParameterSpec("battery_power_caps", [0.75, 0.5], "[0..1] Power caps as shares of the table's highest power."),
    ParameterSpec(
        "battery_capacity", 0.0, "[J] Energy of the full battery, which a mission needs; 0: not known.", minimum=0.0
    ),
    ParameterSpec(
        "battery_reserve", 0.05, "[0..1] Charge that is to be left when a mission ends.", minimum=0.0, maximum=0.9
    ),
    ParameterSpec("other_load", 0.0, "[W] What everything but the networks takes from the battery.", minimum=0.0),
    ParameterSpec(
        "mission_duration",
        0.0,
        "[s] From activation, or from when it is set, the battery is to last so long; 0: no mission.",
        minimum=0.0,
        changeable=True,
    ),
    ParameterSpec(
        "thermal_control_temperature",
        75.0,
        "[°C] Temperature that the thermal budget regulates to.",
        minimum=0.0,
        maximum=120.0,
    ),
    ParameterSpec(
        "thermal_switch_on_temperature",
        60.0,
        "[°C] Temperature below which heat does not limit the power.",
        minimum=0.0,
        maximum=120.0,
    ),
    ParameterSpec(
        "thermal_critical_temperature",
        90.0,
        "[°C] Temperature above which only the coolest point runs.",
        minimum=0.0,
        maximum=150.0,
    ),
    ParameterSpec(
        "sustainable_power",
        0.0,
        "[W] Power of the network that the board can bear for ever at the control temperature; "
        "0: half of the table's highest.",
        minimum=0.0,
    ),
    ParameterSpec(
        "thermal_gains",
        [0.0, 0.0, 0.0],
        "[W/K] Gains of the thermal budget: above the control temperature, below it, and of the integral, per second; "
        "0: Linux's default. Smaller ones for a sensor that follows the power within seconds.",
    ),
    ParameterSpec(
        "thermal_integral_cutoff",
        0.0,
        "[K] The integral of the thermal budget only grows while the control temperature is less than this away.",
        minimum=0.0,
        maximum=100.0,
    ),
    ParameterSpec(
        "temperature_zones",
        [""],
        "Names (header.frame_id) of the temperatures that count, at most 32; one empty text: all but those whose name "
        "says that they measure something else than a processor, such as a disk.",
    ),
    ParameterSpec("battery_timeout", 30.0, "[s] Battery readings older than this are stale; 0: never.", minimum=0.0),
    ParameterSpec(
        "temperature_timeout", 5.0, "[s] Temperature readings older than this are stale; 0: never.", minimum=0.0
    ),
    ParameterSpec("report_timeout", 5.0, "[s] Inference reports older than this are stale; 0: never.", minimum=0.0),
    ParameterSpec(
        "battery_stale_policy",
        "keep",
        "When the battery is not heard of any more: keep its last cap, take the fallback point, or ignore the battery.",
        choices=("keep", "fallback", "ignore"),
    ),
    ParameterSpec(
        "temperature_stale_policy",
        "keep",
        "When a temperature is not heard of any more: keep its last cap, but not one below the sustainable power and "
        "not for more than a minute, or take the fallback point.",
        choices=("keep", "fallback"),
    ),
    ParameterSpec(
        "report_stale_policy",
        "keep",
        "When no inference reports come any more: keep deciding, or take the fallback point.",
        choices=("keep", "fallback"),
    ),
)

HARDWARE_MONITOR = (
    ParameterSpec("publish_rate", 1.0, "[Hz] How often sensors are read and published.", minimum=0.1, maximum=50.0),
    ParameterSpec(
        "temperature_include",
        [""],
        "Names of temperature sensors that are published in any case, as `dynamic-perception hardware` calls them; * "
        "stands for any letters.",
    ),
    ParameterSpec("temperature_exclude", [""], "Names of temperature sensors that are never published."),
    ParameterSpec(
        "platform", "", "Platform file, or the name of a shipped one, whose temperatures count too; empty: none."
    ),
)

CAMERA = (
    ParameterSpec(
        "source",
        "auto",
        "auto (a V4L2 device, else the synthetic scene), synthetic, a device such as "
        "/dev/video0 or '0', a video file, an image, or a folder of images.",
    ),
    ParameterSpec(
        "frame_rate",
        30.0,
        "[Hz] Frames per second; 0: as the source gives them, or as fast as possible.",
        minimum=0.0,
        maximum=1000.0,
        changeable=True,
    ),
    ParameterSpec("loop", True, "Start again at the end of a file or folder; false: stop publishing there."),
    ParameterSpec(
        "lossless",
        False,
        "Send the next frame as soon as the last one's inference_report has come, and not "
        "before; frame_rate does not count then.",
    ),
    ParameterSpec("width", 640, "[pixel] Width of a synthetic scene, and asked of a device.", minimum=16, maximum=8192),
    ParameterSpec(
        "height", 480, "[pixel] Height of a synthetic scene, and asked of a device.", minimum=16, maximum=8192
    ),
    ParameterSpec("frame_id", "camera", "Coordinate frame that the images are stamped with."),
    ParameterSpec("seed", 1, "Seed of the synthetic scene.", minimum=0),
    ParameterSpec(
        "scene",
        "road",
        "Which synthetic scene: a road, with the label of every pixel on truth, or drawings of ten objects.",
        choices=("road", "objects"),
    ),
)

SHARED_WITH = {  # parameters that a node takes from another node's list, because they must agree
    "resource_manager": ("model", "fallback_subnetwork", "fallback_element"),
    "hardware_monitor": ("sysfs_root",),
}

NODE_PARAMETERS: dict[str, tuple[ParameterSpec, ...]] = {
    "perception": COMMON + PERCEPTION,
    "resource_manager": COMMON
    + RESOURCE_MANAGER
    + tuple(spec for spec in PERCEPTION if spec.name in SHARED_WITH["resource_manager"]),
    "hardware_monitor": COMMON
    + HARDWARE_MONITOR
    + tuple(spec for spec in PERCEPTION if spec.name in SHARED_WITH["hardware_monitor"]),
    "camera": COMMON + CAMERA,
}

KNOWN_NAMES = frozenset(spec.name for specs in NODE_PARAMETERS.values() for spec in specs)
