"""How programs start: what a user gets wrong is one sentence and exit code 1, and a signal ends them at any moment."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bundles import make_bundle, make_profile
from conftest import wait_for
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters

NODES = ("perception", "resource_manager", "hardware_monitor", "camera")
COMMAND = Path(sys.prefix) / "bin" / "dynamic-perception"


def program(name):
    return Path(sys.prefix) / "lib" / "dynamic_perception" / f"{name}_node"


def run(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, **options)


def parameter_file(folder, text):
    path = folder / "parameters.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n{text}\n")
    return path


def assert_refused(result, *named):
    """One sentence of ours, that names what is wrong; exit code 1."""
    sentences = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1, result.stderr
    assert len(sentences) == 1, result.stderr
    assert all(text in sentences[0] for text in named), sentences[0]
    assert "Traceback" not in result.stderr and "/project/src" not in sentences[0]


@pytest.mark.parametrize("name", NODES)
def test_a_parameter_file_that_is_missing_is_named(name, tmp_path):
    path = tmp_path / "nowhere.yaml"
    assert_refused(run(program(name), "--ros-args", "--params-file", path), str(path))


@pytest.mark.parametrize(
    "text",
    [
        "    loop: {{{",
        "  loop: true",
        "    seed: [1, two]",
        "    seed: [1, 2.5]",
        "\t- x",
    ],
)
def test_a_parameter_file_that_is_malformed_or_of_mixed_types_is_refused(tmp_path, text):
    path = parameter_file(tmp_path, text)
    assert_refused(run(program("camera"), "--ros-args", "--params-file", path), str(path))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("loop: 1", "loop"),
        ("frame_rate: fast", "frame_rate"),
        ("frame_rate: [1.0]", "frame_rate"),
        ("frame_rate: true", "frame_rate"),
        ("frame_rate: .nan", "frame_rate"),
        ("seed: 1.5", "seed"),
        ("seed: []", "seed"),
        ("scene: moon", "scene"),
        ("width: -1", "width"),
        ("use_sim_time: 3", "use_sim_time"),
    ],
)
def test_a_value_of_a_wrong_type_or_out_of_range_names_its_parameter(tmp_path, text, name):
    path = parameter_file(tmp_path, f"    {text}")
    assert_refused(run(program("camera"), "--ros-args", "--params-file", path), name)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--nonsense"], "--nonsense"),
        (["-p"], "-p"),
        (["-p", "loop"], "loop"),
        (["-r", "__ns:=9/.."], "9/.."),
        (["-r", "__node:=9a"], "9a"),
    ],
)
def test_ros_arguments_that_are_wrong_are_named(arguments, named):
    assert_refused(run(program("camera"), "--ros-args", *arguments), named)


def test_a_log_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "log")
    assert_refused(run(program("camera"), env={**os.environ, "ROS_LOG_DIR": folder}), folder, "ROS_LOG_DIR")


def test_a_domain_that_is_no_number_is_named():
    assert_refused(run(program("camera"), env={**os.environ, "ROS_DOMAIN_ID": "kitchen"}), "ROS_DOMAIN_ID")


@pytest.mark.parametrize("allowed", [100, 500])
@pytest.mark.parametrize("path", [*map(program, NODES), COMMAND], ids=lambda path: path.name)
def test_too_little_memory_is_said_before_a_library_ends_the_process(path, allowed):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (allowed * 10**6, allowed * 10**6))

    assert_refused(run(path, "--help", preexec_fn=limit), f"{allowed} MB", "ulimit -v")


# Values ----------------------------------------------------------------------------------------------------------


def double(value):
    return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)


@pytest.fixture
def get_parameter(call_service):
    def get(node, name):
        return call_service(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=[name])).values[0]

    return get


@pytest.fixture
def manager(tmp_path, start_node):
    """Start a resource manager with this in its parameter file; wait until it decides."""
    bundle = make_bundle(tmp_path / "tiny")
    profile = make_profile(tmp_path / "profile.yaml", bundle)

    def start(text):
        path = parameter_file(tmp_path, f"    model: {bundle.folder}\n    profile: {profile}\n{text}")
        words = [str(program("resource_manager")), "--ros-args", "--params-file", str(path)]
        process = start_node("resource_manager", program=words)
        process.wait_for_output("command 1")

    return start


def test_a_whole_number_in_a_file_is_a_double_where_one_belongs_also_in_a_list(manager, get_parameter):
    manager("    max_latency: 1\n    battery_thresholds: [1]\n    battery_power_caps: [1]")
    assert get_parameter("resource_manager", "max_latency") == double(1.0)
    thresholds = get_parameter("resource_manager", "battery_thresholds")
    assert (thresholds.type, list(thresholds.double_array_value)) == (ParameterType.PARAMETER_DOUBLE_ARRAY, [1.0])


def test_an_empty_list_in_a_file_is_one_of_the_right_type_and_stays_read_only(manager, get_parameter, call_service):
    manager("    relax: []\n    battery_thresholds: []\n    battery_power_caps: []")
    assert get_parameter("resource_manager", "relax").type == ParameterType.PARAMETER_STRING_ARRAY
    assert get_parameter("resource_manager", "battery_power_caps").type == ParameterType.PARAMETER_DOUBLE_ARRAY
    value = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=["rate"])
    request = SetParameters.Request(parameters=[Parameter(name="relax", value=value)])
    assert not call_service(SetParameters, "resource_manager/set_parameters", request).results[0].successful


def test_a_whole_number_is_a_double_on_the_command_line_and_at_run_time(start_node, call_service, get_parameter):
    start_node("camera", {"source": "synthetic", "frame_rate": 5})
    assert get_parameter("camera", "frame_rate") == double(5.0)
    value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=7)
    request = SetParameters.Request(parameters=[Parameter(name="frame_rate", value=value)])
    assert call_service(SetParameters, "camera/set_parameters", request).results[0].successful
    assert get_parameter("camera", "frame_rate") == double(7.0)


# Signals ---------------------------------------------------------------------------------------------------------


def handles(process, number):
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in status if line.startswith("SigCgt"))
    return int(caught, 16) >> (number - 1) & 1


@pytest.mark.parametrize(
    ("delay", "number"),
    [(delay, (signal.SIGINT, signal.SIGTERM)[turn % 2]) for turn, delay in enumerate([0.0, 0.0, 0.2, 0.5, 1.0, 2.0])],
)
@pytest.mark.parametrize("name", ["perception", "camera"])
def test_a_signal_while_a_node_starts_ends_it_with_code_0_and_no_traceback(start_node, name, delay, number):
    node = start_node(name)
    wait_for(lambda: handles(node.process, signal.SIGTERM), "the handlers of signals")
    time.sleep(delay)  # not for something to happen: the moment is what is tested
    assert node.stop(number) == 0, node.output()
    assert "Traceback" not in node.output() and "terminate called" not in node.output()


@pytest.mark.parametrize("name", NODES)
def test_handlers_of_signals_are_there_before_a_heavy_library_is(start_node, name):
    node = start_node(name)
    wait_for(lambda: handles(node.process, signal.SIGTERM), "the handlers of signals")
    node.process.send_signal(signal.SIGSTOP)
    loaded = Path(f"/proc/{node.process.pid}/maps").read_text()
    node.process.send_signal(signal.SIGCONT)
    assert "_rclpy_pybind11" not in loaded and "numpy" not in loaded


def test_an_interrupt_while_the_command_loads_is_one_word_and_the_code_of_an_interrupt():
    # The shell that runs the tests may ignore interrupts, which children inherit.
    process = subprocess.Popen(
        [COMMAND, "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: "numpy" in Path(f"/proc/{process.pid}/maps").read_text(), "the first library")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (130, "", "interrupted\n")
