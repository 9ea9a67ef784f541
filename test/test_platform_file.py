"""Platform files, checked against machines."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sysfs_trees import (
    jetson_agx_orin,
    jetson_orin_nx,
    jetson_xavier_nx,
    laptop,
    odroid_xu3,
    odroid_xu3_rails,
    raspberry_pi_5,
)

from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.hardware.discovery import discover_machine, load_platform
from dynamic_perception.hardware.platform_file import find_platform_file
from dynamic_perception.installation import share_folder

SHIPPED = {
    "odroid_xu3": odroid_xu3,
    "jetson_xavier_nx": jetson_xavier_nx,
    "jetson_orin_nx": jetson_orin_nx,
    "jetson_agx_orin": jetson_agx_orin,
    "raspberry_pi_5": raspberry_pi_5,
}


@pytest.fixture
def xu3(tmp_path):
    """The board's sysfs tree with its rails."""
    return odroid_xu3_rails(odroid_xu3(tmp_path / "sys"))


@pytest.fixture
def write(tmp_path):
    """Write a platform file."""

    def write_text(text):
        (tmp_path / "board.yaml").write_text(text)
        return tmp_path / "board.yaml"

    return write_text


def elements_of(root, file):
    """What the file makes of the machine, by the machine's own names."""
    return {element.found_as: element for element in discover_machine(root, file).elements}


# What a file changes -------------------------------------------------------------------------------------------------


def test_a_file_renames_limits_and_connects_elements_and_leaves_the_rest(xu3, write):
    file = write(
        "schema: 1\nelements:\n  cpu4:\n    name: a15\n    threads: [4, 1]\n"
        "    frequency_range: [6.0e8, 1.8e9]\n    power_rail: ina231_power1_0-0040\n"
    )
    elements = elements_of(xu3, file)
    big, little = elements["cpu4"], elements["cpu0"]
    assert (big.name, big.threads, big.power_rail) == ("a15", (1, 4), "ina231_power1_0-0040")
    assert (big.frequencies[0], big.frequencies[-1], len(big.frequencies)) == (600e6, 1.8e9, 13)
    assert (little.name, little.threads, len(little.frequencies)) == ("cpu0", (1, 2, 4), 13)


def test_a_range_without_steps_is_cut_at_the_limits(tmp_path, write):
    file = write("schema: 1\nelements: {cpu: {frequency_range: [1.25e9, 9.9e9]}}")
    (cpu,) = elements_of(laptop(tmp_path / "sys"), file).values()
    assert cpu.frequencies == (1.25e9, 3.4e9)


def test_the_compute_elements_have_the_names_and_threads_of_the_file(xu3, write):
    said = load_platform(write("schema: 1\nelements: {cpu4: {name: a15, threads: [3]}, gpu: {name: gpu_mali}}"), xu3)
    names = [element.name for element in discover_elements(xu3, range(8), gpus=True, said=said)]
    assert names == ["a15:3", "cpu0:1", "cpu0:2", "cpu0:4", "gpu_mali:1"]


def test_threads_that_this_process_has_no_cpus_for_become_as_many_as_it_has(xu3, write):
    said = load_platform(write("schema: 1\nelements: {cpu4: {threads: [1, 3, 4]}}"), xu3)
    assert [element.name for element in discover_elements(xu3, [4, 5], said=said)] == ["cpu4:1", "cpu4:2"]


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", ": schema is None: expected 1"),
        ("schema: 2", ":1: schema is 2: expected 1"),
        ("[1, 2]", ":1: the file is [1, 2]: expected a mapping of schema, boards, elements, found"),
        ("schema: 1\nclusters: {}", ":2: clusters is not known here: expected one of schema, boards, elements, found"),
        ("schema: 1\nelements:\n  cpu7: {}", ":3: elements.cpu7 is not known here: expected one of cpu4, cpu0, gpu"),
        (
            "schema: 1\nelements:\n  cpu4:\n    clock: 1",
            ":4: elements.cpu4.clock is not known here: expected one of name, threads, frequency_range, power_rail",
        ),
        ("schema: 1\nelements:\n  cpu4: {}\n  cpu4: {}", ":4: elements.cpu4 is 'given twice': expected each key once"),
        ("schema: 1\nelements:\n  cpu4:", ":3: elements.cpu4 is None: expected a mapping of name"),
        ("schema: 1\nelements: {cpu4: {name: 'a 15'}}", "elements.cpu4.name is 'a 15': expected a letter, then"),
        (
            "schema: 1\nelements: {cpu4: {name: gpu_fast}}",
            "is 'gpu_fast': expected a name that does not begin with 'gpu'",
        ),
        ("schema: 1\nelements: {gpu: {name: mali}}", "is 'mali': expected a name that begins with 'gpu'"),
        ("schema: 1\nelements: {cpu4: {name: cpu0}}", "elements.cpu4.name is 'cpu0': expected a name that no other"),
        (
            "schema: 1\nelements: {cpu4: {threads: [0]}}",
            "threads is [0]: expected a list of different numbers from 1 to 4",
        ),
        ("schema: 1\nelements: {cpu4: {threads: [1, 5]}}", "threads is [1, 5]: expected a list of different numbers"),
        ("schema: 1\nelements: {cpu4: {threads: [true]}}", "threads is [True]: expected a list of different numbers"),
        ("schema: 1\nelements: {cpu4: {threads: []}}", "threads is []: expected a list of different numbers"),
        ("schema: 1\nelements: {gpu: {threads: [2]}}", "threads is [2]: expected [1], as a GPU has no threads to set"),
        ("schema: 1\nelements: {cpu4: {frequency_range: 1.8e9}}", "is '1.8e9': expected [lowest, highest] in Hz"),
        ("schema: 1\nelements: {cpu4: {frequency_range: [2.0e9, 1.0e9]}}", "expected [lowest, highest] in Hz"),
        ("schema: 1\nelements: {cpu4: {frequency_range: [.nan, 1.0e9]}}", "expected [lowest, highest] in Hz"),
        (
            "schema: 1\nelements: {cpu4: {frequency_range: [1800, 2000]}}",
            "a range with a clock of cpu4 in it: 2e+08 3e+08",
        ),
        (
            "schema: 1\nelements: {cpu4: {frequency_range: [1.01e9, 1.02e9]}}",
            "expected a range with a clock of cpu4 in it",
        ),
        ("schema: 1\nelements: {cpu4: {power_rail: VDD}}", "is 'VDD': expected one of ina231_power1_0-0040, ina231"),
        ("schema: 1\nboards: [Jetson]", "boards is ['Jetson']: expected a part of 'Hardkernel Odroid XU3', which this"),
        ("schema: 1\nboards: Odroid", "boards is 'Odroid': expected a list of parts of board names"),
        ("schema: 1\nelements: {cpu4: [", ":2: "),
        ("schema: 1\nelements: 2024-99-99", ": expected a YAML file"),
        ("a: &a [*a]\nschema: 1", ":1: a is not known here"),
    ],
)
def test_what_cannot_be_is_refused_with_file_line_key_value_and_what_is_allowed(xu3, write, text, complaint):
    file = write(text)
    with pytest.raises(ValueError) as refused:
        discover_machine(xu3, file)
    assert str(refused.value).startswith(f"{file}:") and complaint in str(refused.value)


def test_a_rail_is_refused_where_the_machine_shows_none(tmp_path, write):
    with pytest.raises(ValueError, match="is 'VDD_IN': expected no rail, as this machine shows none"):
        discover_machine(raspberry_pi_5(tmp_path / "sys"), write("schema: 1\nelements: {cpu: {power_rail: VDD_IN}}"))


WORDS = st.sampled_from(
    [
        "schema",
        "elements",
        "cpu4",
        "gpu",
        "name",
        "threads",
        "frequency_range",
        "power_rail",
        "boards",
        "found",
        "1",
        "[1, 2]",
        "{}",
        "~",
        "1.0e9",
        "&a",
        "*a",
        "? ",
        ": ",
        ", ",
        "\n",
        "  ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "!!python/object:os.system",
        "\x00",
        "é",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, max_size=20))
def test_no_text_raises_anything_but_a_complaint_that_names_the_file(tmp_path, words):
    if not (tmp_path / "sys").exists():
        odroid_xu3(tmp_path / "sys")
    file = tmp_path / "board.yaml"
    file.write_text("schema: 1\n" + "".join(words))
    try:
        discover_machine(tmp_path / "sys", file)
    except ValueError as complaint:
        assert str(file) in str(complaint)


# Shipped files -------------------------------------------------------------------------------------------------------


def test_every_shipped_file_is_tried_here():
    assert {path.stem for path in (share_folder() / "config" / "platforms").iterdir()} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_fits_its_board(tmp_path, name):
    assert discover_machine(SHIPPED[name](tmp_path), find_platform_file(Path(name))).elements


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_is_refused_on_another_machine(tmp_path, name):
    with pytest.raises(ValueError, match="boards is .*: expected a part of 'unknown', which this machine is"):
        discover_machine(laptop(tmp_path), find_platform_file(Path(name)))
