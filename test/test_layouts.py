"""The layouts for Foxglove and PlotJuggler show topics and fields that exist."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from bags import make_store

ROOT = Path(__file__).parents[1]
FOXGLOVE = json.loads((ROOT / "config" / "foxglove" / "layout.json").read_text())
PLOTJUGGLER = ElementTree.parse(ROOT / "config" / "plotjuggler" / "layout.xml").getroot()
ROW = re.compile(r"^\| \w+ \| (?:in|out) \| `([\w/]+)` \| ([\w/]+) \|", re.MULTILINE)
TOPICS = dict(ROW.findall((ROOT / "README.md").read_text())) | {"diagnostics": "diagnostic_msgs/msg/DiagnosticArray"}


def split_topic(path: str, separator: str) -> tuple[str, list[str]]:
    """The topic at the start of a path, the longest that there is, and the fields after it."""
    for topic in sorted(TOPICS, key=len, reverse=True):
        if path == f"/{topic}" or path.startswith(f"/{topic}{separator}"):
            return topic, [name for name in path[len(topic) + 1 :].split(separator) if name]
    raise AssertionError(f"{path}: no such topic; there are {', '.join(TOPICS)}")


def type_of(topic: str, fields: list[str]) -> str:
    """What the last of nested fields is."""
    definitions = make_store().fielddefs
    kind = TOPICS[topic]
    for name in fields:
        of_message = dict(definitions[kind][1])
        assert name in of_message, f"/{topic}: {kind} has no field {name}, but {', '.join(of_message)}"
        node, described = of_message[name]
        kind = described if int(node) == 2 else described[0]
    return kind


def foxglove_paths() -> list[tuple[str, str]]:
    """(panel, message path) of everything that is shown."""
    found = []
    for panel, config in FOXGLOVE["configById"].items():
        found += [(panel, path["value"]) for path in config.get("paths", ())]
        found += [(panel, config[key]) for key in ("topicPath", "topicToRender") if key in config]
        if "imageMode" in config:
            found.append((panel, config["imageMode"]["imageTopic"]))
    return found


def panels_of(layout) -> list[str]:
    if isinstance(layout, str):
        return [layout]
    return panels_of(layout["first"]) + panels_of(layout["second"])


@pytest.mark.parametrize(("panel", "path"), foxglove_paths())
def test_what_foxglove_shows_exists(panel, path):
    path, *modifiers = path.split(".@")
    assert all(re.fullmatch(r"mul\([\d.]+\)", modifier) for modifier in modifiers)
    topic, fields = split_topic(path, ".")
    kind = type_of(topic, fields)
    if panel.startswith("Plot!"):
        assert kind.startswith(("float", "uint", "int"))
    elif panel.startswith("StateTransitions!"):
        assert kind in ("string", "bool", "uint8")
    elif panel.startswith("Image!"):
        assert kind == "sensor_msgs/msg/Image"


def test_every_panel_of_foxglove_has_its_place():
    placed = panels_of(FOXGLOVE["layout"])
    assert sorted(placed) == sorted(FOXGLOVE["configById"]) and len(set(placed)) == len(placed)


@pytest.mark.parametrize("path", [curve.get("name") for curve in PLOTJUGGLER.iter("curve")])
def test_what_plotjuggler_shows_exists_and_is_a_number(path):
    topic, fields = split_topic(path, "/")
    assert type_of(topic, fields).startswith(("float", "uint", "int", "bool"))


def test_every_plot_of_plotjuggler_has_a_name_with_a_unit():
    names = [area.get("name") for area in PLOTJUGGLER.iter("DockArea")]
    assert len(names) == 9 and all("[" in name or "frames" in name for name in names)


def test_splitters_hold_as_many_areas_as_they_say():
    for splitter in PLOTJUGGLER.iter("DockSplitter"):
        assert int(splitter.get("count")) == len(list(splitter)) == len(splitter.get("sizes").split(";"))


def test_a_field_that_does_not_exist_is_found():
    with pytest.raises(AssertionError, match="has no field speed"):
        type_of(*split_topic("/inference_report.speed", "."))
    with pytest.raises(AssertionError, match="no such topic"):
        split_topic("/nothing.speed", ".")
