"""README, pages of docs/, configuration file and messages say what the nodes really do, and lead to what is there."""

import re

import pytest
import yaml
from bundles import TINY_SEGMENTER, make_bundle, make_profile
from documents import BLOCK, INLINE, ROOT, documents
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters
from rclpy.parameter import parameter_value_to_python

from dynamic_perception.installation import share_folder
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.nodes.image_messages import ENCODINGS
from dynamic_perception.nodes.parameters import (
    CAMERA,
    COMMON,
    HARDWARE_MONITOR,
    NODE_PARAMETERS,
    PERCEPTION,
    RESOURCE_MANAGER,
)
from dynamic_perception.training.commands import data_of

README = documents()["README.md"]
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


def test_int8_is_as_accurate_and_as_fast_as_the_readme_says():
    points, slowest, fastest = re.search(
        r"within ([\d.]+) points\s+of the float32 accuracy, ([\d.]+) to ([\d.]+) times as fast", README
    ).groups()
    lost = []
    for name in ("segmenter_camvid", "group_cnn_cifar10"):
        bundle = read_bundle(find_bundle(name))
        assert len(bundle.of_precision("int8")) == len(bundle.of_precision("float32"))
        lost += [100 * abs(s.accuracy - bundle.full_precision(s.name).accuracy) for s in bundle.of_precision("int8")]
    assert max(lost) <= float(points)
    rows = [
        line.strip("│").split("│")
        for line in (ROOT / "docs" / "results" / "benchmarks" / "engines.txt").read_text().splitlines()
        if line.startswith("│")
    ]
    steady = {(cells[0].strip(), cells[1].strip()): float(cells[10]) for cells in rows}  # [ms] of the engine
    faster = [
        steady[bundle, name.removesuffix(" int8")] / duration
        for (bundle, name), duration in steady.items()
        if name.endswith(" int8")
    ]
    assert (f"{min(faster):.1f}", f"{max(faster):.1f}") == (slowest, fastest)


def test_the_encodings_of_the_readme_are_those_that_are_decoded():
    text = re.search(r"\*\*Encodings\.\*\* (.*?), with any row padding", README, re.DOTALL)[1]
    text = text.replace(" of 8\n  and 16 bits", "").replace("\n ", "")
    told = [word for part in re.split(r", | and ", text) for word in re.findall(r"[\w*]+", part)]
    assert {name for name in told if name != "bayer_*"} == {n for n in ENCODINGS if not n.startswith("bayer_")}
    assert "bayer_*" in told and {n[-1] for n in ENCODINGS if n.startswith("bayer_")} == {"8", "6"}


def test_five_boards_have_a_platform_file_to_begin_with():
    assert "`config/platforms/` has five to begin with" in README
    assert len(list((share_folder() / "config" / "platforms").glob("*.yaml"))) == 5


def test_the_readme_is_in_the_order_in_which_a_reader_needs_it():
    asked = [
        "Try it",
        "On a robot",
        "On your own camera",
        "Your own network",
        "Your own board",
        "Topics",
        "Parameters",
        "When something is not as expected",
        "Limits",
    ]
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    assert [heading for heading in headings if heading in asked] == asked
    assert README.index("![") < README.index("```sh") < README.index("## On a robot")


@pytest.mark.parametrize("name", documents())
def test_links_of_a_document_lead_somewhere(name):
    folder = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", documents()[name])):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (folder / file).resolve() if file else ROOT / name
        assert path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("name", documents())
def test_files_and_tests_that_a_document_names_are_there(name):
    for code in INLINE.findall(BLOCK.sub("", documents()[name])):
        file, _, test = code.partition("::")
        if re.fullmatch(r"(test|config|docs|benchmarks|scripts|models|msg|launch)/[\w./-]+", file):
            assert (ROOT / file).exists(), code
        elif re.fullmatch(r"\w+/\w+\.py", file):
            assert (ROOT / "dynamic_perception" / file).is_file(), code
        if test:
            assert f"def {test}(" in (ROOT / file).read_text(), code


def test_every_page_is_reached_from_the_readme():
    pages = {name for name in documents() if name != "README.md"}
    assert pages == {name for name in pages if f"]({name})" in README}


def test_the_modules_and_topics_of_the_diagram_are_there():
    (diagram,) = [code for language, code in BLOCK.findall(documents()["docs/design.md"]) if language == "mermaid"]
    modules = 0
    for text in re.findall(r'[\[(]"([^"]+)"', diagram):
        folder = ""
        for word in re.split(r", |<br/>", text):
            found = re.fullmatch(r"(\w+)/(\w+)|(\w+)", word)
            if found and (found[1] or (folder and (ROOT / "dynamic_perception" / folder / f"{word}.py").exists())):
                folder = found[1] or folder
                assert (ROOT / "dynamic_perception" / folder / f"{found[2] or word}.py").is_file(), word
                modules += 1
    assert modules > 20
    topics = {topic.strip("`") for _, _, topic, _, _ in table_after("## Topics")}
    arrows = re.findall(r'(?:--|==) "?([a-z_/, ]+)"? (?:-->|==>)', diagram)
    told = {topic for arrow in arrows for topic in arrow.split(", ")} - {"between two frames"}
    assert len(told) > 8 and told <= topics


def millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count < 1e8 else f"{count / 1e6:,.0f} M"
