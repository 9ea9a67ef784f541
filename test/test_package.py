"""The installed package: its metadata, messages, executables, shared files and launch file."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from ament_index_python import get_resource
from ament_index_python.packages import get_package_prefix
from catkin_pkg.package import parse_package
from packaging.requirements import Requirement
from rclpy.serialization import deserialize_message, serialize_message

import dynamic_perception
from dynamic_perception import start
from dynamic_perception.installation import share_folder

SOURCE = Path(__file__).resolve().parents[1]
MODULES = Path(dynamic_perception.__file__).parent
PREFIX = share_folder().parents[1]
MESSAGES = sorted(path.stem for path in (SOURCE / "msg").glob("*.msg"))
NODES = {f"{name}_node": name for name in ("perception", "resource_manager", "hardware_monitor", "camera")}

# What package.xml calls by a rosdep key; every other name in it is a ROS 2 package, on PyPI with "ros-" before it.
PYPI_NAMES = {
    "python3-hypothesis": {"hypothesis"},
    "python3-matplotlib": {"matplotlib"},
    "python3-numpy": {"numpy"},
    "python3-onnxruntime-pip": {"onnxruntime"},
    "python3-opencv": {"opencv-python-headless"},
    "python3-pil": {"pillow"},
    "python3-pytest": {"pytest"},
    "python3-pytest-timeout": {"pytest-timeout"},
    "python3-pytorch-pip": {"torch", "torchvision"},
    "python3-rich": {"rich"},
    "python3-yaml": {"pyyaml"},
}
ONLY_ON_PYPI = {"mcap", "onnx", "plotly", "pymoo", "rosbags", "safetensors"}
ONLY_ON_ROBOTS = {"launch", "launch_ros"}


@pytest.fixture
def manifest():
    return parse_package(str(share_folder() / "package.xml"))


@pytest.fixture
def wheel():
    """What pip knows of the package."""
    distribution = metadata.distribution("dynamic_perception")
    if distribution.read_text("WHEEL") is None:
        pytest.skip("this package was installed by colcon: it has no wheel metadata")
    return distribution


def requirements_of(wheel, extra=""):
    """Names of what the wheel requires: always, or with `extra` only."""
    requirements = [Requirement(line) for line in wheel.requires]
    always = {item.name for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})}
    with_extra = {item.name for item in requirements if item.marker and item.marker.evaluate({"extra": extra})}
    return with_extra - always if extra else always


def pypi_names(dependencies):
    """What `dependencies` of package.xml are called on PyPI."""
    names = {dependency.name for dependency in dependencies} - ONLY_ON_ROBOTS
    return {pypi_name for name in names for pypi_name in PYPI_NAMES.get(name, {"ros-" + name.replace("_", "-")})}


def test_manifest_is_valid(manifest):
    manifest.validate()
    assert manifest.package_format == 3
    assert manifest.licenses == ["Apache-2.0"]
    assert [group.name for group in manifest.member_of_groups] == ["rosidl_interface_packages"]
    assert manifest.get_build_type() == "ament_cmake"


def test_pip_and_manifest_agree_on_the_version(wheel, manifest):
    assert (wheel.metadata["Name"], wheel.version) == (manifest.name, manifest.version)


def test_pip_and_manifest_agree_on_run_dependencies(wheel, manifest):
    assert requirements_of(wheel) - ONLY_ON_PYPI == pypi_names(manifest.exec_depends)


def test_extra_for_tests_holds_test_and_build_tools(wheel, manifest):
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    build_requires = tomllib.loads((SOURCE / "pyproject.toml").read_text())["build-system"]["requires"]
    needed = {Requirement(line) for line in build_requires}
    names = {item.name for item in needed if item.marker is None or item.marker.evaluate()}
    assert requirements_of(wheel) | requirements_of(wheel, "test") >= names | pypi_names(manifest.test_depends)


def test_licence_text_is_installed(wheel):
    licence = next(path for path in wheel.files if path.name == "LICENSE")
    assert licence.read_text() == (SOURCE / "LICENSE").read_text()


@pytest.mark.parametrize(
    "folder, installed",
    [
        ("dynamic_perception", MODULES),
        ("config", share_folder() / "config"),
        ("launch", share_folder() / "launch"),
        ("models", share_folder() / "models"),
    ],
)
def test_installed_files_are_those_of_the_source_tree(folder, installed):
    def list_files(root):
        paths = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
        return {path for path in paths if "__pycache__" not in path.parts}

    def is_generated(path):
        return folder == "dynamic_perception" and (path.parts[0] == "msg" or path.suffix in (".c", ".so"))

    assert {path for path in list_files(installed) if not is_generated(path)} == list_files(SOURCE / folder)


def read_message(name):
    """(constants, fields, line of each) of an installed .msg file."""
    constants, fields, lines = {}, {}, {}
    for line in (share_folder() / "msg" / f"{name}.msg").read_text().splitlines():
        definition, _, comment = (part.strip() for part in line.partition("#"))
        if definition:
            kind, member = definition.split(maxsplit=1)
            name, _, value = member.partition("=")
            (constants if value else fields)[name] = value or kind
            lines[name] = comment
    return constants, fields, lines


@pytest.mark.parametrize("name", MESSAGES)
def test_message_has_its_constants_and_fields(name):
    message = getattr(importlib.import_module("dynamic_perception.msg"), name)
    constants, fields, _ = read_message(name)
    assert list(message.get_fields_and_field_types()) == list(fields)
    assert {constant: float(getattr(message, constant)) for constant in constants} == {
        constant: float(value) for constant, value in constants.items()
    }


@pytest.mark.parametrize("name", MESSAGES)
def test_message_goes_through_the_middleware_serialisation(name):
    message = getattr(importlib.import_module("dynamic_perception.msg"), name)()
    for field, kind in message.get_fields_and_field_types().items():
        if kind == "double":
            setattr(message, field, 0.25)
        elif kind == "string":
            setattr(message, field, "50 %")
        elif kind == "uint64":
            setattr(message, field, 2**64 - 1)
    assert deserialize_message(serialize_message(message), type(message)) == message


@pytest.mark.parametrize("name", MESSAGES)
def test_message_members_are_explained(name):
    _, fields, comments = read_message(name)
    assert [member for member, comment in comments.items() if not comment] == []
    numbers = [field for field, kind in fields.items() if kind.startswith("float")]
    assert [field for field in numbers if not re.match(r"\[[^\]]+\] ", comments[field])] == [], "a unit is missing"


def test_ament_index_finds_the_package(monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(PREFIX))
    assert Path(get_package_prefix("dynamic_perception")) == PREFIX
    interfaces, _ = get_resource("rosidl_interfaces", "dynamic_perception")
    assert {f"msg/{name}.msg" for name in MESSAGES} <= set(interfaces.split())


@pytest.mark.parametrize("executable, module", NODES.items())
def test_node_executable_runs_its_module_in_this_python(executable, module, tmp_path):
    stand_in = tmp_path / "dynamic_perception" / "nodes"
    stand_in.mkdir(parents=True)
    (stand_in.parent / "__init__.py").touch()
    (stand_in / "__init__.py").touch()
    shutil.copy(start.__file__, stand_in.parent)
    (stand_in / f"{module}.py").write_text("import sys\n\ndef main():\n    print(sys.prefix, *sys.argv[1:])\n")

    command = [PREFIX / "lib" / "dynamic_perception" / executable, "--ros-args", "-r", "image:=/left image"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert output == f"{sys.prefix} --ros-args -r image:=/left image\n"


@pytest.mark.parametrize("module", NODES.values())
def test_node_module_has_a_main(module):
    assert callable(importlib.import_module(f"dynamic_perception.nodes.{module}").main)


def test_command_shows_its_help():
    command = [PREFIX / "bin" / "dynamic-perception", "--help"]
    assert "demo" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Runs the launch file with arguments, on executables that only tell how they were started.

    Returns, for each executable, its arguments with every parameter file replaced by its text.
    """
    pytest.importorskip("launch_ros", reason="launch_ros is not installed (it is not on PyPI)")
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchDescription, LaunchService

    (tmp_path / "share").symlink_to(PREFIX / "share")
    executables = tmp_path / "lib" / "dynamic_perception"
    executables.mkdir(parents=True)
    for executable in NODES:
        (executables / executable).write_text(f"""#!{sys.executable}
import json, pathlib, sys
read = lambda word, before: pathlib.Path(word).read_text() if before == "--params-file" else word
words = [read(word, before) for before, word in zip(sys.argv, sys.argv[1:])]
pathlib.Path(__file__ + ".json").write_text(json.dumps(words))
""")
        (executables / executable).chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join([str(tmp_path), str(PREFIX)]))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))

    def run(**arguments):
        source = PythonLaunchDescriptionSource(str(share_folder() / "launch" / "dynamic_perception.launch.py"))
        service = LaunchService()
        service.include_launch_description(
            LaunchDescription(
                [
                    IncludeLaunchDescription(source, launch_arguments=arguments.items()),
                ]
            )
        )
        assert service.run() == 0
        return {path.stem: json.loads(path.read_text()) for path in executables.glob("*.json")}

    return run


def test_launch_starts_everything_but_the_camera(launch):
    assert set(launch()) == set(NODES) - {"camera_node"}


def test_launch_starts_the_camera_on_request(launch):
    assert set(launch(camera="true")) == set(NODES)


def test_launch_gives_every_node_the_parameter_file_then_its_arguments(launch):
    configuration = (share_folder() / "config" / "dynamic_perception.yaml").read_text()
    for words in launch(use_sim_time="true", autostart="false").values():
        text = "".join(words)
        assert text.index(configuration) < text.index("use_sim_time: true")
        assert text.index(configuration) < text.index("autostart: false")


@pytest.mark.parametrize(
    "arguments, overridden",
    [
        ({}, set()),
        ({"model": "other"}, {"perception_node", "resource_manager_node"}),
    ],
)
def test_launch_overrides_the_model_only_when_it_is_given(launch, tmp_path, arguments, overridden):
    (tmp_path / "empty.yaml").write_text("/**:\n  ros__parameters: {}\n")
    started = launch(params_file=str(tmp_path / "empty.yaml"), **arguments)
    assert {name for name, words in started.items() if "model:" in "".join(words)} == overridden


def test_launch_puts_every_node_into_the_namespace(launch):
    for words in launch(namespace="robot1").values():
        assert "__ns:=/robot1" in words


def test_launch_sets_the_log_level(launch):
    for words in launch(log_level="debug").values():
        assert words[words.index("--log-level") + 1] == "debug"


def test_launch_remaps_the_inputs_of_a_robot(launch):
    started = launch(image_topic="/camera/image_raw", battery_topic="/base/battery")
    assert "image:=/camera/image_raw" in started["perception_node"]
    assert "image/compressed:=/camera/image_raw/compressed" in started["perception_node"]
    assert "battery_state:=/base/battery" in started["resource_manager_node"]
    assert not any(word.startswith("battery_state:=") for word in started["hardware_monitor_node"])


@pytest.mark.parametrize("namespace, battery_topic", [("", "/battery_state"), ("robot1", "/robot1/battery_state")])
def test_launch_keeps_the_hardware_monitor_off_the_topic_of_a_battery_driver(launch, namespace, battery_topic):
    started = launch(namespace=namespace, battery_topic=battery_topic)
    assert f"battery_state:={battery_topic}" in started["resource_manager_node"]
    assert "battery_state:=hardware_monitor/battery_state" in started["hardware_monitor_node"]


@pytest.mark.slow
def test_colcon_build_makes_messages_and_executables(tmp_path):
    colcon = shutil.which("colcon", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if colcon is None:
        pytest.skip("colcon is not installed")
    environment = {
        "AMENT_PREFIX_PATH": sys.prefix,
        "CMAKE_PREFIX_PATH": sys.prefix,
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    build = [colcon, "--log-base", "log", "build", "--base-paths", SOURCE, "--build-base", "build"]
    subprocess.run([*build, "--install-base", "install"], cwd=tmp_path, env=environment, check=True)

    script = """
. install/local_setup.sh
python3 -c 'from dynamic_perception import msg; print(msg.__file__, msg.OperatingPointCommand.REASON_MANUAL)'
"""
    output = subprocess.run(["sh", "-ec", script], cwd=tmp_path, env=environment, check=True, capture_output=True)
    module, constant = output.stdout.decode().split()
    installed = tmp_path / "install" / "dynamic_perception"
    assert (installed in Path(module).parents, constant) == (True, "7")
    assert {path.name for path in (installed / "lib" / "dynamic_perception").iterdir()} == set(NODES)
