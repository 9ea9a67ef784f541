"""Installs the package with pip: CMake generates and compiles the messages, the wheel holds what CMake installed."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from catkin_pkg.package import parse_package
from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SOURCE = Path(__file__).resolve().parent
MANIFEST = parse_package(str(SOURCE))
UNPACKED_HEADERS = SOURCE / "build" / "python_headers" / "usr" / "include"  # by the Makefile, where none are installed
BUILD_REQUIRES = tomllib.loads((SOURCE / "pyproject.toml").read_text())["build-system"]["requires"]

# A node starts the Python of the prefix it lies in, wherever that is: a shell reads the second line as a command and
# Python reads it as a string. A path in the first line would break on a blank or when a wheel is moved.
NODE_HEADER = """\
#!/bin/sh
'''exec' "$(dirname "$0")/../../bin/python3" "$0" "$@"
' '''
"""


class BinaryDistribution(Distribution):
    """Gives the wheel the tags of this Python and platform, for the message libraries."""

    def has_ext_modules(self):
        return True


class BuildWithCMake(build_py):
    """Takes the Python modules and every other installed file from a CMake install tree."""

    def run(self):
        build_tree = Path(self.get_finalized_command("build").build_temp).resolve() / "cmake"
        prefix = build_tree / "prefix"
        install_with_cmake(build_tree, prefix)

        modules = next(prefix.glob(f"**/{MANIFEST.name}/msg/__init__.py")).parents[1]
        package = Path(self.build_lib) / MANIFEST.name
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(modules, package, ignore=shutil.ignore_patterns("__pycache__"))

        for node in (prefix / "lib" / MANIFEST.name).iterdir():
            node.write_text(NODE_HEADER + node.read_text().partition("\n")[2])
        self.distribution.data_files = list_data_files(prefix, modules.parent)


def install_with_cmake(build_tree, prefix):
    """Configure, compile and install the source tree into `prefix`."""
    import cmake

    ros_prefix = Path(find_spec("ament_package").origin).parents[4]
    environment = {**os.environ, "AMENT_PREFIX_PATH": str(ros_prefix), "CMAKE_PREFIX_PATH": str(ros_prefix)}
    executable = Path(cmake.CMAKE_BIN_DIR) / "cmake"

    configure = [str(executable), "-S", str(SOURCE), "-B", str(build_tree), f"-DPython3_EXECUTABLE={sys.executable}"]
    configure += [f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF"]
    if not Path(sysconfig.get_path("include"), "Python.h").exists() and UNPACKED_HEADERS.is_dir():
        version = "python{}.{}".format(*sys.version_info[:2])
        configure.append(f"-DPython3_INCLUDE_DIR={UNPACKED_HEADERS / version}")
        environment["CPATH"] = str(UNPACKED_HEADERS)  # Debian's pyconfig.h includes another one relative to it

    # A build tree survives neither another place of the sources nor another ROS 2, and pip's isolated environments
    # have another path every time. Without isolation it is kept, and a change of one module takes seconds.
    record = build_tree / "configured_for.txt"
    expected = f"{ros_prefix}\n{shlex.join(configure)}\n"
    if not record.is_file() or record.read_text() != expected:
        shutil.rmtree(build_tree, ignore_errors=True)
        subprocess.run(configure, env=environment, check=True)
        record.write_text(expected)
    shutil.rmtree(prefix, ignore_errors=True)
    build = [str(executable), "--build", str(build_tree), "--target", "install", "--parallel", str(os.cpu_count())]
    subprocess.run(build, env=environment, check=True)


def list_data_files(prefix, modules):
    """(folder relative to the environment, files) of everything below `prefix` but modules and the console script."""
    files_of = {}
    for path in sorted(prefix.rglob("*")):
        if path.is_file() and modules not in path.parents and path.parent != prefix / "bin":
            files_of.setdefault(str(path.parent.relative_to(prefix)), []).append(str(path.relative_to(SOURCE)))
    return list(files_of.items())


setup(
    name=MANIFEST.name,
    version=MANIFEST.version,
    description=" ".join(MANIFEST.description.split()),
    license=MANIFEST.licenses[0],
    maintainer=MANIFEST.maintainers[0].name,
    python_requires=">=3.10,<3.15",
    packages=[MANIFEST.name],
    distclass=BinaryDistribution,
    cmdclass={"build_py": BuildWithCMake},
    install_requires=[
        "matplotlib",
        "mcap",
        "numpy",
        "onnx",
        "onnxruntime",
        "pillow",
        "opencv-python-headless",  # the other one needs the libraries of a desktop
        "plotly",
        "pyyaml",
        "rich",
        "pymoo",
        "rosbags",
        "safetensors",
        "torch",
        "torchvision",
        "ros-ament-index-python",
        "ros-builtin-interfaces",
        "ros-diagnostic-msgs",
        "ros-lifecycle-msgs",
        "ros-rclpy[fastrtps]~=9.1",
        "ros-rosidl-default-runtime~=1.7",
        "ros-rosgraph-msgs",
        "ros-sensor-msgs",
        "ros-std-msgs",
        "ros-std-srvs",
    ],
    extras_require={
        "nvidia": ["nvidia-ml-py"],
        "openvino": ["openvino"],
        "test": [
            "colcon-common-extensions",
            "hypothesis",
            "mypy",
            "nvidia-ml-py",
            "openvino",
            "psutil",
            "pytest",
            "pytest-timeout",
            "ros-ament-cmake-pytest",
            "ruff==0.17.6",
            "types-PyYAML",
            *BUILD_REQUIRES,
        ],
    },
    entry_points={"console_scripts": ["dynamic-perception = dynamic_perception.start:start_command"]},
)
