"""README, configuration file and messages say what the nodes really do."""

import re
from pathlib import Path

import pytest
import yaml
from bundles import TINY_SEGMENTER, make_bundle, make_profile
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters
from rclpy.parameter import parameter_value_to_python

from dynamic_perception.installation import share_folder
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.nodes.parameters import (
    CAMERA,
    COMMON,
    HARDWARE_MONITOR,
    NODE_PARAMETERS,
    PERCEPTION,
    RESOURCE_MANAGER,
)
from dynamic_perception.training.commands import data_of

README = (Path(__file__).parents[1] / "README.md").read_text()
OF_EVERY_NODE = re.compile(r"/(rosout|parameter_events|diagnostics|transition_event)$|/\w+/(transition_event)$")
OF_A_SEGMENTER = {"segmentation", "overlay"}
OF_A_CLASSIFIER = {"classification"}
SECTIONS = {
    "every node": COMMON,
    "perception": PERCEPTION,
    "resource_manager": RESOURCE_MANAGER,
    "hardware_monitor": HARDWARE_MONITOR,
    "camera": CAMERA,
}


def table_after(heading: str) -> list[list[str]]:
    """Cells of the first table after `heading`."""
    rows = []
    for line in README.split(heading, 1)[1].splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif rows:
            break
    return rows[2:]


@pytest.fixture(scope="module")
def parameters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documentation")
    bundle = make_bundle(folder / "tiny")
    profile = make_profile(folder / "profile.yaml", bundle)
    return {
        "perception": {"model": str(bundle.folder)},
        "camera": {"source": "synthetic", "lossless": True},
        "resource_manager": {"model": str(bundle.folder), "profile": str(profile)},
        "hardware_monitor": {},
    }


@pytest.fixture
def declares(ros_node, spin_until, namespace):
    """Compares the topics of running nodes with those rows of the README's table that are not of `others`."""

    def declared(nodes):
        found = set()
        for node in nodes:
            try:
                published = ros_node.get_publisher_names_and_types_by_node(node, namespace)
                subscribed = ros_node.get_subscriber_names_and_types_by_node(node, namespace)
            except Exception as error:  # rclpy has no public class for "the node is not there yet"
                assert "NodeNameNonExistentError" in type(error).__name__
                return found
            for direction, topics in (("out", published), ("in", subscribed)):
                found |= {
                    (node, direction, topic.removeprefix(f"{namespace}/"), kind)
                    for topic, kinds in topics
                    for kind in kinds
                    if not OF_EVERY_NODE.search(topic)
                }
        return found

    def compare(nodes, others):
        expected = {
            (node, direction, topic.strip("`"), kind)
            for node, direction, topic, kind, _ in table_after("## Topics")
            if node in nodes and topic.strip("`") not in others
        }
        try:
            spin_until(lambda: declared(nodes) == expected, "the nodes to declare the topics of the README")
        finally:
            assert declared(nodes) == expected

    return compare


def test_the_topic_table_is_what_the_nodes_declare(start_node, declares, parameters):
    for name, values in parameters.items():
        start_node(name, values)
    declares(list(parameters), OF_A_SEGMENTER | {"image/compressed"})  # which is only subscribed to with a publisher


def test_the_topic_table_is_what_a_node_with_a_segmenter_declares(start_node, declares, tmp_path):
    start_node("perception", {"model": str(make_bundle(tmp_path / "tiny", TINY_SEGMENTER).folder)})
    declares(["perception"], OF_A_CLASSIFIER | {"image", "image/compressed"})


def test_the_qos_of_the_topic_table_is_that_of_the_nodes(start_node, ros_node, spin_until, parameters, namespace):
    start_node("perception", parameters["perception"])
    start_node("resource_manager", parameters["resource_manager"])
    rows = [
        row
        for row in table_after("## Topics")
        if row[0] in ("perception", "resource_manager")
        and "image" not in row[2]
        and row[2].strip("`") not in OF_A_SEGMENTER
    ]
    for node, direction, topic, _, text in rows:
        name = f"{namespace}/{topic.strip('`')}"
        find = ros_node.get_publishers_info_by_topic if direction == "out" else ros_node.get_subscriptions_info_by_topic

        def profiles():
            return [info.qos_profile for info in find(name) if info.node_name == node]

        spin_until(profiles, f"{node} on {topic}")
        (profile,) = profiles()
        reliability, durability, _ = text.split(", ")
        assert profile.reliability.name.lower().replace("_", " ") == reliability
        assert profile.durability.name.lower().replace("_", " ") == durability


@pytest.mark.parametrize("section", SECTIONS)
def test_the_parameter_table_is_what_the_nodes_declare(section):
    rows = {name.strip("`"): (default.strip("`"), text) for name, default, text in table_after(f"**{section}**\n")}
    assert list(rows) == [spec.name for spec in SECTIONS[section]]
    for spec in SECTIONS[section]:
        default, text = rows[spec.name]
        assert yaml.safe_load(default) == spec.default
        assert text.startswith(spec.text)
        assert ("*Changeable.*" in text) == spec.changeable


@pytest.mark.parametrize("node", NODE_PARAMETERS)
def test_a_running_node_has_just_these_parameters(node, start_node, call_service, parameters):
    start_node(node, parameters[node])

    def call(kind, name, request):
        return call_service(kind, f"{node}/{name}", request)

    specs = {spec.name: spec for spec in NODE_PARAMETERS[node]}
    names = [
        name
        for name in call(ListParameters, "list_parameters", ListParameters.Request()).result.names
        if not name.startswith(("qos_overrides", "start_type_description_service")) and name != "use_sim_time"
    ]
    assert sorted(names) == sorted(specs)
    described = call(DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names)).descriptors
    assert all(d.read_only != specs[d.name].changeable and d.description == specs[d.name].text for d in described)
    values = call(GetParameters, "get_parameters", GetParameters.Request(names=names)).values
    for name, value in zip(names, values):
        if name not in parameters[node]:
            found = parameter_value_to_python(value)
            assert (list(found) if isinstance(specs[name].default, list) else found) == specs[name].default


def test_the_configuration_file_holds_every_parameter_with_its_default_and_sentence():
    path = share_folder() / "config" / "dynamic_perception.yaml"
    values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    specs = {spec.name: spec for specs in SECTIONS.values() for spec in specs}
    assert values == {name: spec.default for name, spec in specs.items()}
    prose = " ".join(
        line.strip().lstrip("# ") for line in path.read_text().splitlines() if line.strip().startswith("#")
    )
    assert all(" ".join(spec.text.split()) in prose for spec in specs.values())


def test_every_launch_argument_is_in_the_readme():
    launch = (share_folder() / "launch" / "dynamic_perception.launch.py").read_text()
    declared = re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', launch)
    assert {row[0].strip("`") for row in table_after("## On a robot")} == set(declared)


def test_the_network_table_is_what_the_shipped_bundles_say():
    rows = table_after("## What runs")
    shipped = {path.parent.name for path in (share_folder() / "models").glob("*/model.yaml")}
    assert {name.strip("`") for name, *_ in rows} == shipped
    for name, data, count, macs, accuracy in rows:
        bundle = read_bundle(find_bundle(name.strip("`")))
        of_float32 = bundle.of_precision("float32")
        smallest, largest = of_float32[0], of_float32[-1]
        assert data.split(", ") == data_of(bundle) and count == str(len(bundle.subnetworks))
        assert macs == f"{millions(smallest.macs)} to {millions(largest.macs)}"
        assert accuracy == f"{bundle.metric} {100 * smallest.accuracy:.2f} to {100 * largest.accuracy:.2f} %"


def millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count < 1e8 else f"{count / 1e6:,.0f} M"
