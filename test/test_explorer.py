"""The trade-off explorer chooses in the browser what the manager chooses on the robot."""

import json
import math
import random

import numpy as np
import pytest
from browser import Browser
from tables import board, point, table

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.planning import make_plan
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.target import Objective, Target
from dynamic_perception.profiling.table_choice import find_shipped
from dynamic_perception.profiling.table_file import ProfileFile, read_table
from dynamic_perception.report.explorer import make_columns, write_explorer

LIMITS = {"deadline": 1000, "energy": 1000, "power": 1, "accuracy": 1}  # and what a shown value is of one in SI units
SET = """(() => {
  const wanted = %s;
  for (const name of %s) {
    const on = document.getElementById(`${name}-on`), number = document.getElementById(`${name}-number`);
    const slider = document.getElementById(`${name}-slider`);
    on.checked = false;
    if (wanted[name] === undefined || on.disabled) continue;
    const [control, value] = wanted[name];
    (control === "slider" ? slider : number).value = value;
    (control === "slider" ? slider : number).dispatchEvent(new Event("input"));
  }
  const objective = document.querySelector(`input[value=${wanted.objective}]`);
  objective.checked = true;
  objective.dispatchEvent(new Event("input"));
  return {target: explorer.target(), ...document.getElementById("chosen").dataset,
          name: document.getElementById("chosen-name").textContent};
})()"""


def file_of(points: OperatingPointTable) -> ProfileFile:
    return ProfileFile(points, "a <model>", "0" * 64, "onnxruntime", "1", {"cpu_model": "a machine"}, {})


def unknown_in_parts() -> OperatingPointTable:
    """Points of unknown power and energy among others, some of which are equal."""
    rows = [
        point(f"{25 * i}%", f"cpu:{j}", 1e-3 * i / j, 1.0 * j, 0.7 + 0.05 * i, latency_p95=1.3e-3 * i / j)
        for i in (1, 2, 3, 4)
        for j in (1, 2)
    ]
    points = table([*rows, *rows[:3]])
    power, energy = points.power.copy(), points.energy.copy()
    power[[1, 4]], energy[[1, 6]] = math.nan, math.nan
    return OperatingPointTable(
        **{
            name: getattr(points, name)
            for name in (
                "subnetwork",
                "compute_element",
                "cpu_frequency",
                "gpu_frequency",
                "latency",
                "latency_p95",
                "latency_p99",
                "accuracy",
            )
        },
        power=power,
        energy=energy,
        provenance=points.provenance,
    )


def random_wish(rng: random.Random, points: OperatingPointTable) -> dict:
    """Some limits, by slider or by number; numbers are often just the value of a point."""
    columns = {"deadline": points.latency, "energy": points.energy, "power": points.power, "accuracy": points.accuracy}
    wish = {"objective": rng.choice(list(Objective)).name.lower()}
    for name, column in columns.items():
        known = column[np.isfinite(column)]
        if rng.random() < 0.35 or not len(known):
            continue
        if rng.random() < 0.5:
            wish[name] = ("slider", rng.random())
        else:
            value = float(rng.choice(known)) * (rng.choice([1.0, 1.0, 0.5, 0.95, 1.05]) if name != "accuracy" else 1.0)
            wish[name] = ("number", repr(value * LIMITS[name]))
    return wish


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.mark.parametrize(
    ("points", "count"),
    [
        (lambda: read_table(find_shipped("odroid_xu3/group_cnn_cifar10")).table, 300),
        (board, 100),
        (unknown_in_parts, 200),
    ],
    ids=["odroid_xu3", "board", "unknown in parts"],
)
def test_the_page_chooses_as_the_manager_does(browser, tmp_path, points, count):
    points = points()
    write_explorer(tmp_path / "page.html", file_of(points), "table.yaml")
    browser.open(tmp_path / "page.html")
    browser.wait_for("document.getElementById('chosen').dataset.row !== undefined")
    browser.evaluate("Plotly.update = () => {}")  # what is chosen is looked at here, not what is drawn
    rng = random.Random(1)
    feasible = 0
    for _ in range(count):
        wish = random_wish(rng, points)
        shown = browser.evaluate(SET % (json.dumps(wish), json.dumps(list(LIMITS))))
        asked = {name: math.nan if value is None else value for name, value in shown["target"].items()}
        target = Target(
            asked["deadline"], asked["energy"], asked["power"], asked["accuracy"], Objective[asked["objective"].upper()]
        )
        plan = make_plan(points, target)
        assert (int(shown["row"]), int(shown["met"])) == (plan.index, plan.met), f"{wish} -> {target}"
        assert set(shown["missed"].split()) == {miss.limit for miss in plan.misses}, f"{wish} -> {target}"
        assert shown["name"].startswith(str(points[plan.index]))
        feasible += plan.feasible
    assert 0.1 * count < feasible < 0.95 * count  # both kinds were tried
    assert browser.errors == [] and browser.requests == []


def test_points_that_miss_a_limit_fade_and_the_chosen_one_has_a_ring(browser, tmp_path):
    points = board()
    write_explorer(tmp_path / "page.html", file_of(points), "table.yaml")
    browser.open(tmp_path / "page.html")
    browser.wait_for("document.getElementById('chosen').dataset.row !== undefined")
    browser.evaluate(
        SET % (json.dumps({"objective": "max_accuracy", "deadline": ("number", "6")}), json.dumps(list(LIMITS)))
    )
    browser.wait_for("document.getElementById('plot').layout.shapes.length === 1")
    drawn = browser.evaluate(
        "document.getElementById('plot').data.filter(t => t.meta && !t.yaxis.slice(1))"
        ".map(t => [t.meta.rows, t.marker.opacity])"
    )
    lit = {row for rows, opacities in drawn for row, opacity in zip(rows, opacities) if opacity > 0.5}
    assert lit == set(np.flatnonzero(points.latency <= 6e-3))
    ring = browser.evaluate("document.getElementById('plot').data.at(-3).x[0]")
    assert ring == pytest.approx(1e3 * points.latency[make_plan(points, Target(6e-3)).index])


@pytest.mark.parametrize(("name", "text"), [("deadline", "-3"), ("deadline", "0"), ("accuracy", "1.5")])
def test_an_impossible_limit_is_refused_at_its_field_and_limits_nothing(browser, tmp_path, name, text):
    write_explorer(tmp_path / "page.html", file_of(board()), "table.yaml")
    browser.open(tmp_path / "page.html")
    browser.wait_for("document.getElementById('chosen').dataset.row !== undefined")
    wish = {"objective": "max_accuracy", name: ("number", text)}
    browser.evaluate(SET % (json.dumps(wish), json.dumps(list(LIMITS))))
    assert browser.evaluate(f"explorer.target().{name}") is None
    assert "expected" in browser.evaluate(f"document.getElementById('{name}-number').validationMessage")


def test_the_terminal_command_is_the_one_that_chooses_the_same(browser, tmp_path):
    write_explorer(tmp_path / "page.html", file_of(board()), "some table.yaml")
    browser.open(tmp_path / "page.html")
    browser.wait_for("document.getElementById('chosen').dataset.row !== undefined")
    browser.evaluate(
        SET % (json.dumps({"objective": "min_energy", "deadline": ("number", "12.5")}), json.dumps(list(LIMITS)))
    )
    assert browser.evaluate("document.getElementById('command').textContent") == (
        "dynamic-perception plan 'some table.yaml' --deadline 12.5 --objective min_energy"
    )


def test_a_table_without_energy_has_no_slider_for_it(browser, tmp_path):
    points = board()
    nothing = OperatingPointTable(
        **{
            **{
                name: getattr(points, name)
                for name in (
                    "subnetwork",
                    "compute_element",
                    "cpu_frequency",
                    "gpu_frequency",
                    "latency",
                    "latency_p95",
                    "latency_p99",
                    "accuracy",
                    "power",
                )
            },
            "energy": np.full(len(points), np.nan),
        },
        provenance=points.provenance,
    )
    write_explorer(tmp_path / "page.html", file_of(nothing), "table.yaml")
    browser.open(tmp_path / "page.html")
    browser.wait_for("document.getElementById('chosen').dataset.row !== undefined")
    assert browser.evaluate("document.getElementById('energy-slider').disabled")
    assert not browser.evaluate("document.getElementById('deadline-slider').disabled")
    assert browser.errors == []


def test_the_page_knows_the_latency_that_is_kept_with_the_asked_probability():
    points = table([point(latency=2e-3, latency_p95=3e-3), point("50%", latency=4e-3)])
    assured = make_columns(points, ManagerSettings())["assured"]
    assert assured == pytest.approx([3e-3, 4e-3])
    assert make_columns(points, ManagerSettings(deadline_probability=0.5))["assured"] == pytest.approx([2e-3, 4e-3])


def test_names_cannot_end_the_script(tmp_path):
    write_explorer(tmp_path / "page.html", file_of(table([point("</script><b>")])), "</script>")
    page = (tmp_path / "page.html").read_text()
    assert page.count("</script>") == 2 and "<b>" not in page.split("</head>")[1].split("<script>")[1]
