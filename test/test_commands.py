"""Every command that the README and the pages of `docs/` tell people to type works as it is written there.

Each belongs to one rule below: it is really run here, with small inputs in place of those that it names; another test
runs it, which is looked for; or it needs something that is not here, for the reason that is given, and then every name
in it is compared with what it is the name of.  A command without a rule fails.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from bundles import make_bundle, make_profile
from documents import BLOCK, INLINE, ROOT, commands, documents
from runs import make_results
from sysfs_trees import odroid_xu3

from dynamic_perception import cli
from dynamic_perception.networks.bundle import read_bundle
from dynamic_perception.nodes.parameters import NODE_PARAMETERS
from dynamic_perception.report.results_file import write_results

LAUNCH = (ROOT / "launch" / "dynamic_perception.launch.py").read_text()
TYPED = {command: name for name, text in documents().items() for command in commands(text)}
SUBCOMMANDS = next(action for action in cli.make_parser()._actions if action.choices).choices
ADDED_OPTION = re.compile(r'add_argument\(\s*"(--[\w-]+)"')
BENCHMARK = re.compile(r"(?:sudo )?\.venv/bin/python (benchmarks/(\w+)\.py)(.*)")
SMALL = {  # what a benchmark is run with here, in place of what it says
    "decision": "--decisions 200",
    "dynamic_range": "--most-runs 8",
    "profile": "tiny --most-runs 8 --elements cpu:1",
    "memory": "tiny --switches 200",
    "switching": "tiny --switches 60 --engines onnxruntime",
}
SMALL_AND_SLOW = {
    "manager": "--duration 2",
    "networks": "--rounds 1 --threads 1",
    "control": "--seeds 1",
    "engines": "--rounds 1 --threads 1",
    "node": "--duration 2 --bundle group_cnn_cifar10",
    "record": "--duration 2 --bundle group_cnn_cifar10",
    "replay": "--frames 20 --bundle tiny --subnetwork 33%",
    "soak": "--minutes 0.4",
}
NEEDS_MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
NOT_HERE = {  # as root, and minutes of a scenario on a machine at rest: what they measure is run by these
    "clock_chain": "test_emulated_cpufreq.py::test_half_the_clock_gives_a_busy_process_half_the_time",
    "kill": "test_clocks.py::test_what_a_killed_node_of_another_home_left_is_found",
    "closed_loop": "test_demo.py::test_a_short_demo_plays_both_runs_and_leaves_its_results",
}


# Really run -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """What commands name, but small: bundles, a table, results, and images of two classes in DIR."""
    folder = tmp_path_factory.mktemp("commands")
    make_profile(folder / "profile.yaml", make_bundle(folder / "tiny"))
    write_results(folder / "results", make_results())
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 6)):
        for number, name in enumerate(("dark", "bright")):
            (folder / "DIR" / split / name).mkdir(parents=True)
            for image in range(count):
                pixels = 150 * number + random.integers(0, 100, (32, 32, 3))
                cv2.imwrite(str(folder / "DIR" / split / name / f"{image}.png"), pixels.astype(np.uint8))
    odroid_xu3(folder / "sys")
    return folder


@pytest.fixture
def here(shelf, monkeypatch):
    """Commands run in that folder, and leave what they measure there."""
    monkeypatch.chdir(shelf)
    monkeypatch.setenv("XDG_DATA_HOME", str(shelf / "data"))
    return shelf


def run(command: str, replaced: dict[str, str] | None = None, more: str = "") -> int:
    """Run a `dynamic-perception` command in this process, with words replaced and options added."""
    words = shlex.split(command)[1:] + shlex.split(more)
    return cli.main([(replaced or {}).get(word, word) for word in words])


@pytest.mark.parametrize(
    "command, replaced, more, leaves",
    [
        (
            "dynamic-perception profile",
            {},
            "tiny --most-runs 8 --elements cpu:1 --power-sensor none --out p.yaml",
            "p.yaml",
        ),
        (
            "dynamic-perception profile segmenter_camvid",
            {"segmenter_camvid": "tiny"},
            "--most-runs 8 --elements cpu:1 --power-sensor none --engine onnxruntime",
            "data/dynamic_perception/profiles",
        ),
        ("dynamic-perception export group_cnn_cifar10", {"group_cnn_cifar10": "tiny"}, "--out graphs", "graphs"),
        ("dynamic-perception hardware", {}, "", ""),
        (
            "dynamic-perception plan odroid_xu3/group_cnn_cifar10 --deadline 400 --energy 100 --out plan.png",
            {},
            "",
            "plan.png",
        ),
        (
            "dynamic-perception simulate --platform odroid_xu3 --trace bursts "
            "--managers ours alert oracle --out pictures",
            {},
            "--frames 40",
            "pictures/timeline.png",
        ),
        ("dynamic-perception simulate --managers alert ours oracle", {}, "--frames 40", ""),
        ("dynamic-perception report RUN...", {"RUN...": "results"}, "--out report", "report/index.html"),
        ("dynamic-perception explore odroid_xu3/group_cnn_cifar10", {}, "", "explore_group_cnn_cifar10.html"),
        ("dynamic-perception restore", {}, "--sysfs-root sys", ""),
    ],
)
def test_a_command_runs_and_leaves_what_it_says(here, capsys, command, replaced, more, leaves):
    assert command in TYPED, "no document tells to type it any more"
    assert run(command, replaced, more) == 0
    assert capsys.readouterr().out and (here / leaves).exists()


OWN_NETWORK = {  # the commands of a section in their order, and what keeps them small
    "train": "--epochs 1 --batch-size 40 --resolutions 32 48 --width-multiplier 0.25 --random-subnetworks 0 "
    "--subnetworks 2",
    "search": "--evaluations 5 --images 8 --calibration-images 16 --frames 3",
    "evaluate": "",
    "quantise": "--images 4",
    "profile": "--most-runs 8 --power-sensor none --elements cpu:1 --engine onnxruntime",
}


@pytest.mark.parametrize(
    "document, heading, bundle",
    [
        ("README.md", "## Your own network", "models/ofa_mobilenet_v3_DIR"),
        pytest.param("docs/extending.md", "## A network", "models/mine", marks=pytest.mark.slow),
    ],
)
def test_the_commands_for_a_network_of_ones_own_work_one_after_the_other(here, capsys, document, heading, bundle):
    block = BLOCK.search(documents()[document].split(f"{heading}\n", 1)[1])[0]
    typed = commands(block)
    assert typed[0].startswith("dynamic-perception train")
    for command in typed:
        assert run(command.replace("<DIR>", "DIR"), more=OWN_NETWORK[shlex.split(command)[1]]) == 0, command
    assert read_bundle(here / bundle).of_precision("float32")[-1].accuracy > 0


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in SMALL_AND_SLOW)])
def test_a_benchmark_runs_and_prints_every_key_that_a_document_takes_from_it(here, name):
    arguments = (SMALL | SMALL_AND_SLOW)[name]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *shlex.split(arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    printed = json.loads(done.stdout.splitlines()[-1])
    text = "".join(documents().values())
    taken = set(re.findall(rf"<!-- {name}(?:_\w+)?\.txt: (\w+)[ *-]", text)) - {"the", "least", "greatest"}
    assert taken <= set(printed)


@NEEDS_MAKE
def test_make_help_names_every_target_that_a_document_names():
    told = subprocess.run(["make", "-C", ROOT, "--no-print-directory", "help"], capture_output=True, text=True).stdout
    targets = {command.split()[1] for command in TYPED if command.startswith("make ")}
    assert targets - {"help"} <= {line.split()[1] for line in told.splitlines()}


# Compared with what they name -----------------------------------------------------------------------------------------


def parses(command: str) -> None:
    """A `dynamic-perception` command has the options that the program takes."""
    words = shlex.split(command.removeprefix("sudo "))
    cli.make_parser().parse_args(words[1:])


def checks_make(command: str) -> None:
    """A target of the Makefile, and what it hands on to a command that has those options."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory", "-n", "-o", ".venv/installed", *shlex.split(command)[1:]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        if ".venv/bin/dynamic-perception" in line:
            parses(line.strip().lstrip("@").replace(".venv/bin/", "", 1))


def checks_launch(command: str) -> None:
    """The launch file is there and declares these arguments."""
    _, _, package, file, *arguments = shlex.split(command)
    assert package == "dynamic_perception" and (ROOT / "launch" / file).is_file()
    declared = re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', LAUNCH)
    assert {argument.partition(":=")[0] for argument in arguments} <= set(declared)


def checks_node(command: str) -> None:
    """The executable is installed, the parameters are declared and of that type, the topics are the node's."""
    words = shlex.split(command)
    executable = Path(words[0]).name if words[0].startswith(".venv/lib/dynamic_perception/") else words[3]
    node = executable.removesuffix("_node")
    assert f"scripts/{executable}" in (ROOT / "CMakeLists.txt").read_text()
    specs = {spec.name: spec for spec in NODE_PARAMETERS[node]}
    topics = {
        row.split("|")[3].strip(" `") for row in documents()["README.md"].splitlines() if row.startswith(f"| {node} | ")
    }
    for option, value in itertools.pairwise(words):
        name, _, given = value.partition(":=")
        if option == "-p":
            kind = type(specs[name].default)
            assert isinstance(yaml.safe_load(given), kind), f"{name} is {given}: expected {kind.__name__}"
        elif option == "-r":
            assert name in topics


def checks_topic(command: str) -> None:
    """The topic is in the table of the README with that type, which has these fields."""
    words = shlex.split(command)
    topic, kind, fields = words[-3:]
    assert f"`{topic.strip('/')}` | {kind} |" in documents()["README.md"]
    package, _, name = kind.split("/")
    getattr(import_module(f"{package}.msg"), name)(**yaml.safe_load(fields))


def checks_parameter(command: str) -> None:
    """The node has that parameter, it is changeable, and takes that value."""
    _, _, _, node, name, value = shlex.split(command)
    (spec,) = [spec for spec in NODE_PARAMETERS[node.strip("/")] if spec.name == name]
    assert spec.changeable and (not spec.choices or value in spec.choices)


def checks_pip(command: str) -> None:
    """An extra of setup.py; or the packages that package.xml says rosdep does not know, which setup.py wants."""
    setup, manifest = (ROOT / "setup.py").read_text(), (ROOT / "package.xml").read_text()
    extra = re.fullmatch(r"pip install \.\[(\w+)\]", command)
    if extra:
        assert re.search(rf'"{extra[1]}": \[', setup.split("extras_require", 1)[1])
    else:
        unknown = re.search(r"rosdep has no keys for (.*?):", manifest)[1]
        packages = command.split()[2:]
        assert packages == re.split(r", | and ", unknown) and all(f'"{name}",' in setup for name in packages)


def checks_colcon(command: str) -> None:
    """The package of that name."""
    assert command.endswith(" dynamic_perception")
    assert "<name>dynamic_perception</name>" in (ROOT / "package.xml").read_text()


def checks_counters(command: str) -> None:
    """The files that the power sensors read."""
    from dynamic_perception.hardware.power import POWERCAP

    assert f"/sys/{POWERCAP}/intel-rapl:*/energy_uj" in command


def nothing(command: str) -> None:
    """No name of this package is in it."""
    assert "dynamic" not in command.replace("dynamic_perception", "", 1)


def checks_benchmark(command: str) -> None:
    """The script knows these options, and is run above with small ones, or what it measures is run by another test."""
    script, name, options = BENCHMARK.fullmatch(command).groups()
    known = set(ADDED_OPTION.findall((ROOT / script).read_text()))
    assert {word for word in shlex.split(options) if word.startswith("--")} <= known
    assert name in SMALL | SMALL_AND_SLOW | NOT_HERE
    if name in NOT_HERE:
        is_a_test(NOT_HERE[name])


def is_a_test(name: str) -> None:
    """There is a test of that name in that file."""
    file, _, function = name.partition("::")
    assert f"def {function}(" in (ROOT / "test" / file).read_text(), f"no test {name}"


@dataclass(frozen=True)
class Rule:
    """What is known of the commands that match the whole `pattern`.

    Attributes:
        why: what is not here; empty where another test runs them.
        check: compares their names with what they are the names of.
        tests: that run the same with other arguments, as <file>::<test>.
    """

    pattern: str
    check: Callable[[str], None]
    why: str = ""
    tests: tuple[str, ...] = ()


RULES = (
    # Run by the tests of this file.
    *(
        Rule(re.escape(command), parses, tests=("test_commands.py::test_a_command_runs_and_leaves_what_it_says",))
        for command in (
            "dynamic-perception profile",
            "dynamic-perception profile segmenter_camvid",
            "dynamic-perception export group_cnn_cifar10",
            "dynamic-perception hardware",
            "dynamic-perception report RUN...",
            "dynamic-perception explore odroid_xu3/group_cnn_cifar10",
            "dynamic-perception restore",
        )
    ),
    Rule(
        r"dynamic-perception plan odroid_xu3/.*",
        parses,
        tests=("test_commands.py::test_a_command_runs_and_leaves_what_it_says",),
    ),
    Rule(
        r"dynamic-perception simulate (--platform odroid_xu3|--managers) .*",
        parses,
        tests=("test_commands.py::test_a_command_runs_and_leaves_what_it_says",),
    ),
    Rule(
        r"dynamic-perception (train .*--data DIR.*|(search|evaluate|quantise|profile) models/.*)",
        parses,
        tests=("test_commands.py::test_the_commands_for_a_network_of_ones_own_work_one_after_the_other",),
    ),
    Rule(
        r"make help", checks_make, tests=("test_commands.py::test_make_help_names_every_target_that_a_document_names",)
    ),
    Rule(
        BENCHMARK.pattern,
        checks_benchmark,
        tests=("test_commands.py::test_a_benchmark_runs_and_prints_every_key_that_a_document_takes_from_it",),
    ),
    # Run by others.
    Rule(
        r"dynamic-perception train --architecture segmenter .*",
        parses,
        tests=("test_train_commands.py::test_a_segmenter_is_trained_calibrated_measured_and_written",),
    ),
    Rule(
        r"dynamic-perception quantise segmenter_camvid",
        parses,
        tests=("test_train_commands.py::test_quantise_keeps_what_pays_and_measures_its_accuracy",),
    ),
    Rule(
        r"dynamic-perception import-ofa CHECKPOINT",
        parses,
        tests=("test_ofa_checkpoint.py::test_import_ofa_writes_a_bundle_that_answers_like_the_checkpoint",),
    ),
    Rule(
        r"dynamic-perception record --out run.mcap",
        parses,
        tests=("test_record.py::test_a_recording_is_whole_when_it_is_ended",),
    ),
    Rule(
        r"dynamic-perception replay run.mcap --params-file robot.yaml",
        parses,
        tests=(
            "test_replay.py::test_the_commands_of_last_time_pass",
            "test_replay.py::test_parameters_are_those_of_the_node",
        ),
    ),
    Rule(
        r"dynamic-perception demo --headless --out docs/results/demo",
        parses,
        tests=("test_demo.py::test_a_short_demo_plays_both_runs_and_leaves_its_results",),
    ),
    Rule(
        r"dynamic-perception clock-helper",
        parses,
        why="as a service of root: the tests start it for themselves",
        tests=("test_clock_helper.py::test_a_clock_is_set_and_read_back",),
    ),
    Rule(
        r"sudo dynamic-perception emulate-cpufreq .*",
        parses,
        why="as root, where control groups can be written",
        tests=("test_emulated_cpufreq.py::test_a_command_runs_under_the_clock_and_its_exit_code_is_passed_on",),
    ),
    Rule(
        r"dynamic-perception profile group_cnn_cifar10 --engine numpy .*",
        parses,
        tests=("test_extending.py::test_an_engine_answers_like_onnx_runtime_and_is_profiled_by_its_name",),
    ),
    Rule(
        r"dynamic-perception hardware --platform my_board.yaml",
        parses,
        tests=("test_extending.py::test_the_platform_file_is_taken_on_that_board_and_refused_on_another",),
    ),
    Rule(
        r"dynamic-perception simulate --platform workshop .*",
        parses,
        tests=("test_extending.py::test_a_board_and_a_manager_are_simulated_by_their_names",),
    ),
    Rule(
        r"\.venv/lib/dynamic_perception/camera_node .*source:=drive.mp4.*",
        checks_node,
        tests=(
            "test_camera.py::test_a_video_is_sent_frame_by_frame",
            "test_camera.py::test_without_loop_it_says_when_the_source_has_ended",
        ),
    ),
    Rule(
        r"\.venv/lib/dynamic_perception/camera_node .*source:=frames/.*",
        checks_node,
        tests=("test_camera.py::test_lossless_sends_every_frame_once_and_waits_for_each_report",),
    ),
    Rule(
        r"make (demo|test|test-all|colcon)( DEMO_ARGS=.*)?",
        checks_make,
        why="installs some GB; what it runs then is run by other tests",
        tests=(
            "test_demo.py::test_a_short_demo_plays_both_runs_and_leaves_its_results",
            "test_package.py::test_colcon_build_makes_messages_and_executables",
        ),
    ),
    # What is not here.
    Rule(
        r"ros2 launch dynamic_perception .*",
        checks_launch,
        why="`ros2 launch` is not on PyPI",
        tests=("test_package.py::test_launch_remaps_the_inputs_of_a_robot",),
    ),
    Rule(r"ros2 run dynamic_perception .*", checks_node, why="`ros2 run` is not on PyPI"),
    Rule(r"ros2 topic pub .*", checks_topic, why="`ros2 topic` is not on PyPI"),
    Rule(r"ros2 param set .*", checks_parameter, why="`ros2 param` is not on PyPI"),
    Rule(r"pip install (\.\[\w+\]|(\w+ ?)+)", checks_pip, why="downloads"),
    Rule(r"rosdep install --from-paths src --ignore-src", nothing, why="rosdep and its keys are not here"),
    Rule(
        r"colcon build --packages-select dynamic_perception",
        checks_colcon,
        why="a workspace of ROS 2 is not here",
        tests=("test_package.py::test_colcon_build_makes_messages_and_executables",),
    ),
    Rule(
        r"cd (~/ws/src|\.\.)|git clone <this repository> dynamic_perception|source install/setup.bash",
        nothing,
        why="a workspace of ROS 2 is not here",
    ),
    Rule(r"sudo chmod a\+r .*/energy_uj", checks_counters, why="as root, on a machine with RAPL"),
)
# What is only spoken of: the name of a command, with nothing to type after it.
SPOKEN_OF = rf"dynamic-perception ({'|'.join(SUBCOMMANDS)})|ros2 (bag|launch|run|topic)|colcon build|pip install"


@pytest.mark.parametrize("command", TYPED)
def test_every_command_has_a_rule_and_the_names_in_it_are_right(command):
    rules = [rule for rule in RULES if re.fullmatch(rule.pattern, command)]
    if not rules:
        assert re.fullmatch(SPOKEN_OF, command), (
            f"{TYPED[command]} tells people to type this, and no rule says how it is tested"
        )
        return
    (rule,) = rules
    assert rule.why or rule.tests
    rule.check(command)
    for test in rule.tests:
        is_a_test(test)


@pytest.mark.parametrize("card", sorted(ROOT.glob("models/*/README.md")), ids=lambda path: path.parent.name)
def test_the_commands_of_a_model_card_have_options_that_there_are(card):
    text = card.read_text()
    for name, value in re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE):
        text = text.replace(f"${name} ", f"{value} ").replace(f'{name}="{value}"\n', "")
    typed = [
        command
        for command in commands(text)
        if command.startswith("dynamic-perception ") and not re.fullmatch(SPOKEN_OF, command)
    ]
    assert typed
    for command in typed:
        parses(command)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.pattern)
def test_no_rule_is_left_over(rule):
    assert any(re.fullmatch(rule.pattern, command) for command in TYPED)


def test_options_that_are_only_spoken_of_are_those_of_some_command():
    known = {
        option for parser in SUBCOMMANDS.values() for action in parser._actions for option in action.option_strings
    }
    scripts = [*(ROOT / "benchmarks").glob("*.py"), ROOT / "scripts" / "figures.py"]
    known |= set(ADDED_OPTION.findall("".join(path.read_text() for path in scripts)))
    for name, text in documents().items():
        for code in INLINE.findall(BLOCK.sub("", text)):
            if not code.startswith(("ros2 ", "colcon ", "rosdep ", "python -m ", "pip ")):
                options = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", code))
                assert options <= known | {"--ros-args"}, f"{name}: `{code}`"


def test_the_call_of_python_that_tests_a_bag_is_one_that_there_is():
    import ast
    import inspect

    from dynamic_perception.replay import testing

    (code,) = [code for language, code in BLOCK.findall(documents()["README.md"]) if language == "python"]
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert len(calls) == 4
    for call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
        function = getattr(testing, name, None) or getattr(testing.CheckedReplay, name)
        given = [None] * len(call.args) + ([None] if isinstance(call.func, ast.Attribute) else [])
        inspect.signature(function).bind(*given, **{keyword.arg: None for keyword in call.keywords})
