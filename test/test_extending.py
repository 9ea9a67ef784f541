"""The package of `docs/extending.md` does what is said there: it is installed and run as it stands."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from bundles import TINY, make_bundle
from documents import ROOT, blocks, documents, files
from perception_client import PerceptionClient
from sysfs_trees import odroid_xu3, odroid_xu3_rails

import dynamic_perception
from dynamic_perception import extensions
from dynamic_perception.cli import main
from dynamic_perception.engines.selection import open_engine
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import read_bundle
from dynamic_perception.profiling.table_file import read_table
from dynamic_perception.simulation.catalogue import find_managers

PAGE = documents()["docs/extending.md"]
PYTHON = files(PAGE, "python")
ONE_CPU = ComputeElement("cpu:1", "cpu", frozenset({0}), 1)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages with `my_robot` in it, as pip puts it there."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name, code in {"my_robot/__init__.py": "", **PYTHON}.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(code)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--disable-pip-version-check",
            "--target",
            site,
            source,
        ],
        check=True,
    )
    return site


@pytest.fixture
def my_robot(site, monkeypatch):
    """The package is installed; it is imported anew by every test that asks for it."""
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_robot"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Red, green and blue images."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 6)):
        for channel, name in enumerate(("blue", "green", "red")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                image = random.integers(0, 100, (32, 32, 3), dtype=np.uint8)
                image[..., channel] += 120
                cv2.imwrite(str(folder / split / name / f"{number}.png"), image)
    return folder


def test_every_kind_of_extension_is_found_once_it_is_installed(my_robot):
    for group in (extensions.ENGINES, extensions.FAMILIES, extensions.MANAGERS, extensions.BOARDS):
        (name,) = extensions.with_extensions(group, ())
        assert extensions.find_extension(group, name).__module__.startswith("my_robot.")


def test_a_family_is_trained_measured_and_answers_alike_in_every_engine(my_robot, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from my_robot.train_thumbnail import train

    bundle = train(str(pictures), tmp_path / "thumbnail", epochs=6)
    assert [s.config.width for s in bundle.subnetworks] == [8, 16, 32]
    assert main(["evaluate", "thumbnail", "--data", str(pictures), "--write"]) == 0
    bundle = read_bundle(tmp_path / "thumbnail")
    assert all(s.accuracy > 0.9 for s in bundle.subnetworks), "red, green and blue are not told apart"
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    logits = []
    for name in ("onnxruntime", "pytorch", "numpy"):
        engine = open_engine(name, bundle)
        engine.prepare([bundle.subnetworks[0].name], [ONE_CPU])
        engine.activate(bundle.subnetworks[0].name, ONE_CPU)
        logits.append(engine.logits(image))
        engine.close()
    assert np.allclose(logits[0], logits[1], atol=1e-4) and np.allclose(logits[0], logits[2], atol=1e-4)
    for command in (
        f"calibrate thumbnail --data {pictures}",
        f"quantise thumbnail --images 4 --data {pictures}",
        "export thumbnail --out graphs",
        "search thumbnail --element cpu:1 --points 3 --evaluations 5 --images 9 --calibration-images 16 "
        f"--frames 3 --data {pictures}",
        "profile thumbnail --most-runs 8 --elements cpu:1 --power-sensor none --out table.yaml",
    ):
        assert main(command.split()) == 0, command


def test_the_perception_node_takes_an_engine_and_a_family_of_another_package(
    my_robot, site, monkeypatch, tmp_path, start_node, ros_node, spin_until
):
    from my_robot.thumbnail_space import ThumbnailSpace

    bundle = make_bundle(tmp_path / "thumbnail", ThumbnailSpace(classes=4))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    node = start_node("perception", {"model": str(bundle.folder), "engine": "numpy", "start_element": "cpu:1"})
    client = PerceptionClient(ros_node, spin_until).connect()
    client.ask(np.zeros((32, 32, 3), np.uint8))
    assert f"engine numpy {np.__version__}" in node.output()


def test_a_bundle_of_a_family_that_is_not_installed_is_refused_with_those_that_are(my_robot, tmp_path, monkeypatch):
    from my_robot.thumbnail_space import ThumbnailSpace

    make_bundle(tmp_path / "thumbnail", ThumbnailSpace(classes=4))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not (Path(entry) / "my_robot").is_dir()])
    with pytest.raises(ValueError, match="family is 'thumbnail': expected one of group_cnn, .*, segmenter$"):
        read_bundle(tmp_path / "thumbnail")


def test_an_engine_answers_like_onnx_runtime_and_is_profiled_by_its_name(my_robot, tmp_path):
    bundle = make_bundle(tmp_path / "tiny", TINY)
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    answers = []
    for name in ("onnxruntime", "numpy"):
        engine = open_engine(name, bundle)
        engine.prepare(["66%"], [ONE_CPU])
        engine.activate("66%", ONE_CPU)
        answers.append((engine.run(image).classes.tolist(), engine.logits(image)))
        engine.close()
    assert answers[0][0] == answers[1][0] and np.allclose(answers[0][1], answers[1][1], atol=1e-4)
    assert (
        main(
            [
                "profile",
                str(bundle.folder),
                "--engine",
                "numpy",
                "--most-runs",
                "20",
                "--elements",
                "cpu:1",
                "--power-sensor",
                "none",
                "--out",
                str(tmp_path / "numpy.yaml"),
            ]
        )
        == 0
    )
    assert read_table(tmp_path / "numpy.yaml").engine == "numpy"


def test_the_platform_file_is_taken_on_that_board_and_refused_on_another(tmp_path, capsys):
    ((name, text),) = files(PAGE, "yaml").items()
    (tmp_path / name).write_text(text)
    command = ["hardware", "--platform", str(tmp_path / name), "--sysfs-root"]
    assert main([*command, str(odroid_xu3_rails(odroid_xu3(tmp_path / "xu3")))]) == 0
    printed = capsys.readouterr().out
    assert "a15" in printed and "1800" in printed and "2000" not in printed.partition("a15")[2].partition("\n")[0]
    assert main([*command, str(tmp_path)]) == 2
    assert f"{name}:3: boards" in capsys.readouterr().err


def test_the_sensor_reads_its_file_and_says_why_it_cannot(my_robot, tmp_path):
    from my_robot.shunt import make_shunt

    sensor = make_shunt(tmp_path / "current")
    assert math.isnan(sensor.read()) and "No such file" in sensor.fault
    (tmp_path / "current").write_text("250\n")
    assert sensor.read() == 3.0 and not sensor.fault


def test_a_board_and_a_manager_are_simulated_by_their_names(my_robot, capsys):
    assert (
        main(
            [
                "simulate",
                "--platform",
                "workshop",
                "--trace",
                "calm",
                "--frames",
                "50",
                "--managers",
                "cheapest",
                "ours",
                "oracle",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "workshop (latency modelled" in printed and "temperature: assumed: 8 K/W, 30 s" in printed
    assert [line.split()[0] for line in printed.splitlines()[-3:]] == ["cheapest", "ours", "oracle"]


def test_a_name_that_nobody_has_is_refused_with_those_that_others_add(my_robot, capsys):
    for command, expected in (
        (["--managers", "magic"], "fixed-smallest, cheapest"),
        (["--platform", "moon"], "expected one of odroid_xu3, jetson_xavier_nx, workshop, or"),
    ):
        assert main(["simulate", *command]) == 2
        assert expected in capsys.readouterr().err


def test_an_extension_that_cannot_be_imported_is_named_with_the_reason(tmp_path, monkeypatch):
    folder = tmp_path / "broken-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[{extensions.MANAGERS}]\nbroken = a_module_that_is_not_there:Manager\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="'broken' is a_module_that_is_not_there:Manager, which cannot be imported"):
        find_managers(["broken"], None)


# What of every change of the package must be true afterwards, in the order of the page.
CHANGED = (
    """
from dynamic_perception.management.manager import ResourceManager
from dynamic_perception.management.target import Objective, Target
from tables import point, table

points = [point("25%", latency=0.02, power=1.0), point("50%", latency=0.004, power=4.0), point("75%", latency=0.003,
          power=9.0)]  # 20, 16 and 27 mJ: least energy 50 %; times the latency: 400, 64 and 81
manager = ResourceManager(table(points))
manager.set_target(0.0, Target(objective=Objective.MIN_ENERGY_DELAY))
assert manager.decide(0.0).index == 1, manager.decide(0.0)
points[2] = point("75%", latency=0.002, power=9.0)  # 18 mJ, but 36
manager = ResourceManager(table(points))
manager.set_target(0.0, Target(objective=Objective.MIN_ENERGY_DELAY))
assert manager.decide(0.0).index == 2

from dynamic_perception.management.joint import JointManager
manager = JointManager()
for name in ("front", "rear"):
    manager.add_application(0.0, name, table(points), Target(objective=Objective.MIN_ENERGY_DELAY))
assert {decision.point.subnetwork for decision in manager.decide(0.0).values()} == {"75%"}
""",
    """
from dynamic_perception.management.manager import ResourceManager
from tables import point, table

points = [point("25%", cpu_frequency=1.0e9), point("100%", accuracy=0.9, cpu_frequency=2.0e9)]
assert ResourceManager(table(points)).decide(0.0).point.subnetwork == "25%"
""",
    """
from dynamic_perception.nodes.manager_inputs import read_settings
from dynamic_perception.nodes.parameters import RESOURCE_MANAGER

values = {spec.name: spec.default for spec in RESOURCE_MANAGER}
assert read_settings(values.__getitem__, 10.0).margin == 0.1
assert read_settings({**values, "margin": 0.3}.__getitem__, 10.0).margin == 0.3
""",
)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("number", range(len(CHANGED)), ids=("objective", "limit", "setting"))
def test_a_change_of_the_package_does_what_the_page_says(tmp_path, number):
    changes = blocks(PAGE, "diff")
    assert len(changes) == len(CHANGED)
    shutil.copytree(
        ROOT / "dynamic_perception", tmp_path / "dynamic_perception", ignore=shutil.ignore_patterns("__pycache__")
    )
    messages = Path(dynamic_perception.__path__[0]) / "msg"
    (tmp_path / "dynamic_perception" / "msg").symlink_to(messages)
    run = {"cwd": tmp_path, "capture_output": True, "text": True}
    assert subprocess.run([sys.executable, "-c", CHANGED[number]], env=_environment(tmp_path), **run).returncode, (
        "it holds without the change too"
    )
    applied = subprocess.run(["git", "apply", "--unidiff-zero", "-"], input=changes[number], **run)
    assert applied.returncode == 0, applied.stderr
    done = subprocess.run([sys.executable, "-c", CHANGED[number]], env=_environment(tmp_path), **run)
    assert done.returncode == 0, done.stderr


def _environment(folder):
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT / 'test'}"}
