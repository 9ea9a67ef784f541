"""The page opens in a browser without a network and without an error, and tells what it knows under the cursor."""

import re
from dataclasses import replace

import pytest
from browser import Browser
from runs import make_clocked_run, make_results, make_run, make_scored_run

from dynamic_perception.cli import main
from dynamic_perception.report.page import write_page
from dynamic_perception.report.results_file import write_results

PLOTS = ("timeline", "misses", "latencies", "energy_0", "points_0")
HOVERED = "[...document.querySelectorAll('.hoverlayer text')].map(text => text.textContent).join(' ')"


@pytest.fixture(scope="module")
def browser():
    with Browser((1366, 900)) as opened:
        yield opened


@pytest.fixture
def opened(browser, tmp_path):
    def open_page(*all_results):
        browser.errors.clear()
        browser.requests.clear()
        write_page(tmp_path / "index.html", all_results)
        browser.open(tmp_path / "index.html")
        browser.wait_for("document.querySelectorAll('.plot .main-svg').length > 0")
        return browser

    return open_page


def hover(browser, plot, axis, x, y):
    """Move the mouse to a place of a plot given in the values of its axes; what is shown there."""
    browser.evaluate(f"document.getElementById('{plot}').scrollIntoView()")
    place = browser.evaluate(f"""(() => {{
      const plot = document.getElementById('{plot}'), layout = plot._fullLayout, box = plot.getBoundingClientRect();
      const x = layout.{axis[0]}, y = layout.{axis[1]};
      return [box.left + x._offset + x.d2p({x!r}), box.top + y._offset + y.d2p({y!r})];
    }})()""")
    browser.move_mouse(1, 1)
    browser.wait_for(f"{HOVERED} === ''")
    browser.move_mouse(*place)
    browser.wait_for(f"{HOVERED} !== ''")
    return browser.evaluate(HOVERED)


def test_every_plot_is_drawn_without_an_error_or_a_request(opened):
    page = opened(make_results(make_scored_run(), make_run(managed=False)))
    for name in PLOTS:
        assert page.evaluate(f"document.querySelectorAll('#{name} .trace').length") > 0, name
    assert page.errors == [] and page.requests == []


def test_a_frame_tells_all_that_is_known_of_it(opened):
    page = opened(make_results())
    text = hover(page, "timeline", ("xaxis", "yaxis"), 2.8, 3.0)
    for known in (
        "2.80 s: 3.00 ms of 33.30 ms",
        "met",
        "100% on cpu:2",
        "inference 1.50 ms",
        "0 skipped",
        "energy 10.0 mJ, modelled",
        "top-1 of the subnetwork 85.0 %",
        "temperature 59.8 °C, modelled",
        "battery 43.0 %, measured",
    ):
        assert known in text, f"{known} in {text}"


def test_a_change_tells_its_reason_in_words(opened):
    page = opened(make_results())
    text = hover(page, "timeline", ("xaxis", "yaxis3"), 6.0, 0.0)
    assert "thermal: 25% on cpu:1" in text and "not every limit can be met" in text
    assert "soc <b>80 C</b>, 75 C wanted" in text  # as text, not as bold letters
    assert "applied, switched in 0.10 ms" in text


def test_latencies_tell_their_percentiles(opened):
    page = opened(make_results(make_run()))
    text = hover(page, "latencies", ("xaxis", "yaxis"), 2.8, "100%<br>on cpu:2")
    assert "100 frames" in text and "median: 4.50 ms" in text and "95 %: 6.00 ms" in text


def test_several_runs_stand_side_by_side_and_what_is_known_differently_in_rows_of_its_own(opened):
    measured = replace(make_run(), energy_source="measured", temperature_source="measured")
    page = opened(make_results(name="robot"), make_results(measured, make_clocked_run(), name="bench"))
    text = page.evaluate("document.querySelector('section').innerText")
    assert "robot: with the manager" in text and "bench: with the manager" in text and "bench: with clocks" in text
    for row in (
        "energy per frame, modelled [mJ]",
        "energy per frame, measured [mJ]",
        "hottest, modelled [°C]",
        "hottest, measured [°C]",
    ):
        assert row in text
    titles = page.evaluate("document.getElementById('timeline').layout.annotations.map(note => note.text)")
    assert {
        "temperature<br>modelled<br>[°C]",
        "temperature<br>measured<br>[°C]",
        "clock<br>[GHz]",
        "power<br>measured<br>[W]",
    } <= set(titles)
    assert page.evaluate("document.querySelectorAll('#energy_1 .trace').length") > 0
    assert page.errors == []


@pytest.mark.parametrize("width", [1366, 1024])
def test_no_two_labels_of_the_timeline_overlap(opened, browser, width):
    browser.size(width, 900)
    page = opened(make_results(make_scored_run(), make_run(managed=False), make_clocked_run()))
    boxes = page.evaluate("""[...document.querySelectorAll('#timeline .infolayer text, #timeline .ytick text, ' +
      '#timeline .xtick text, #timeline .textpoint text, #timeline [class*=y][class$=tick] text')]
      .filter(text => text.textContent.trim()).map(text => [text.textContent, text.getBoundingClientRect()])
      .map(([text, box]) => [text, box.left, box.top, box.right, box.bottom])""")
    browser.size(1366, 900)
    assert len(boxes) > 25
    overlapping = [
        (a[0], b[0])
        for place, a in enumerate(boxes)
        for b in boxes[:place]
        if a[1] + 1 < b[3] and b[1] + 1 < a[3] and a[2] + 2 < b[4] and b[2] + 2 < a[4] and a[1:] != b[1:]
    ]
    assert overlapping == []


def test_what_nodes_say_is_escaped(opened, tmp_path):
    opened(make_results())
    body = re.sub(r"<script>.*?</script>", "", (tmp_path / "index.html").read_text(), flags=re.DOTALL)
    assert "soc &lt;b&gt;80 C&lt;/b&gt;" in body and "a &lt;fast&gt; one" in body and "measured &amp; computed" in body
    assert re.findall(r"https?://|(?:src|href)=\"(?!data:)|url\(|@import", body) == []


def test_frames_say_how_long_after_which_change_they_were_taken(opened):
    run = make_run()
    run.pictures = [replace(run.pictures[0], time=6.5), *run.pictures]
    page = opened(make_results(run))
    captions = page.evaluate("[...document.querySelectorAll('figcaption')].map(c => c.innerText)")
    assert captions[0].startswith("3.0 s, calm, 100%, 3.0 s after a change (startup)")
    assert captions[1].startswith("6.5 s, heat, 100%, 0.5 s after a change (thermal)")


def test_points_that_were_used_are_marked_with_their_share(opened):
    page = opened(make_results(make_run()))
    assert page.evaluate(
        "[...document.querySelectorAll('tr.used')].map(row => row.cells[0].innerText + ' on ' + "
        "row.cells[1].innerText + ' ' + [...row.cells].at(-1).innerText)"
    ) == ["100% on cpu:2 100.0"]


def test_the_command_writes_page_and_pictures(tmp_path, capsys):
    write_results(tmp_path / "a", make_results())
    write_results(tmp_path / "b", make_results(make_clocked_run()))
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "index.html",
        "timeline.png",
        "latency.png",
        "misses.png",
        "energy_modelled.png",
    }
    said = capsys.readouterr().out
    assert "with clocks: 25.0 % of 100 frames missed their deadline" in said and "index.html" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "there is no run at"),
        ("table.yaml", "dynamic-perception explore"),
        ("folder", "is no run: expected a folder with results.json, or a bag"),
    ],
)
def test_what_is_no_run_is_refused_with_what_was_expected(tmp_path, capsys, name, words):
    (tmp_path / "table.yaml").write_text("a: b")
    (tmp_path / "folder").mkdir()
    assert main(["report", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
