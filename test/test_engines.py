"""Every engine gives the same answers, keeps its threads where they belong, and stays under its memory budget."""

import os
import time
from concurrent.futures import wait
from contextlib import contextmanager

import numpy as np
import onnxruntime
import pytest
import torch
from bundles import TINY, TINY_OFA, TINY_SPACES, make_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamic_perception.engines import selection
from dynamic_perception.engines.engine import BRIEF, Engine, EngineError, Ranking, Ready
from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.engines.selection import compare_engines, installed_engines, open_engine
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.installation import share_folder
from dynamic_perception.networks.bundle import read_bundle

CPUS = tuple(sorted(os.sched_getaffinity(0)))
ONE, TWO = (ComputeElement(f"cpu:{threads}", "cpu", CPUS, threads) for threads in (1, 2))
TIMEOUT = 60  # [s]


@pytest.fixture(params=installed_engines())
def engine_name(request):
    return request.param


@pytest.mark.parametrize("element", [ONE, TWO], ids=lambda element: element.name)
@pytest.mark.parametrize("space", TINY_SPACES, ids=lambda space: space.family)
def test_all_engines_agree(tmp_path, space, element):
    bundle = make_bundle(tmp_path / "tiny", space)
    random = np.random.default_rng(1)
    for subnetwork in bundle.subnetworks:
        images = random.integers(0, 256, (5, *subnetwork.input_size, 3), np.uint8)
        logits, answers = {}, {}
        for name in installed_engines():
            engine = open_engine(name, bundle)
            engine.prepare([subnetwork.name], [element])
            engine.activate(subnetwork.name, element)
            logits[name] = np.array([engine.logits(image) for image in images])
            found = [engine.run(image) for image in images]
            answers[name] = np.array([a.classes if isinstance(a, Ranking) else a for a in found])
            engine.close()
        expected = logits["pytorch"]
        for name in logits:
            assert np.abs(logits[name] - expected).max() <= 1e-3 * np.abs(expected).max(), name
            assert np.mean(answers[name] == answers["pytorch"]) >= 0.999, name


@pytest.mark.skipif(len(CPUS) < 2, reason="this machine offers one CPU, so no element is smaller than it")
class TestThreads:
    """With a network that is large enough for an engine to divide its work."""

    def test_follow_the_element_at_run_time(self, segmenter, engine_name):
        here, there = (ComputeElement(f"cpu{cpu}:1", f"cpu{cpu}", (cpu,), 1) for cpu in CPUS[:2])
        with threads_of(segmenter, engine_name, [here, there, TWO]) as computing:
            for element in (here, there, TWO, here):
                assert all(cpus <= set(element.cpus) for cpus in computing(element))
        assert os.sched_getaffinity(0) == set(CPUS)

    @pytest.mark.parametrize("engine_name", ["onnxruntime", "pytorch"])  # OpenVINO moves its own inside every inference
    def test_of_an_element_do_not_share_cpus(self, segmenter, engine_name):
        with threads_of(segmenter, engine_name, [ONE, TWO]) as computing:
            for element in (ONE, TWO, ONE, TWO):
                used = computing(element)
                assert len(used) == element.threads
                assert sum(map(len, used)) == len(set().union(*used)) == len(CPUS)


@pytest.fixture(scope="module")
def segmenter():
    return read_bundle(share_folder() / "models" / "segmenter_camvid")


@contextmanager
def threads_of(bundle, engine_name, elements):
    """Gives a function: the CPUs of each thread that works for an inference on an element."""
    subnetwork = bundle.of_precision("float32")[0]
    image = np.zeros((*subnetwork.input_size, 3), np.uint8)
    engine = open_engine(engine_name, bundle)
    engine.prepare([subnetwork.name], elements)

    def computing(element):
        engine.activate(subnetwork.name, element)
        engine.run(image)
        for _ in range(20):  # on a busy machine one thread may do the other's work for a while
            before = cpu_times(os.listdir("/proc/self/task"))
            for _ in range(30):
                engine.run(image)
            now = cpu_times(before)
            most = max(now[task] - before[task] for task in now)
            working = [int(task) for task in now if now[task] - before[task] > most / 8]
            if len(working) >= element.threads:
                break
        return [os.sched_getaffinity(task) for task in working]

    try:
        yield computing
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("engine_name", "advice"), [("onnxruntime", "install onnxruntime-gpu"), ("pytorch", "sees no GPU")]
)
def test_a_gpu_that_is_not_there_is_an_error_with_advice(tmp_path, engine_name, advice):
    if torch.cuda.is_available() or "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has a GPU")
    engine = open_engine(engine_name, make_bundle(tmp_path / "tiny", TINY))
    with pytest.raises(EngineError, match=advice):
        engine.make_ready("100%", ComputeElement("gpu:1", "gpu", CPUS, 1))


def cpu_times(tasks) -> dict[str, int]:
    """Nanoseconds that each thread has run."""
    times = {}
    for task in tasks:
        try:
            with open(f"/proc/self/task/{task}/schedstat") as file:
                times[task] = int(file.read().split()[0])
        except FileNotFoundError:
            pass  # it ended
    return times


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(budget=st.integers(0, 60_000), steps=st.lists(st.integers(0, 5), max_size=12))
def test_points_are_dropped_and_built_again_under_the_budget(tmp_path, budget, steps):
    bundle = make_bundle(tmp_path / "tiny", TINY)
    points = [(s.name, element) for element in (ONE, TWO) for s in bundle.subnetworks]
    engine = OnnxRuntimeEngine(bundle, budget)
    largest = max(engine.bytes_of(s.name) for s in bundle.subnetworks)
    engine.keep(*points[0])
    engine.activate(*points[0])
    for step in steps:
        if not engine.is_ready(*points[step]):
            engine.request(*points[step]).result(TIMEOUT)
        engine.activate(*points[step])
        assert engine.is_ready(*points[0])
        # The one to keep and the active one stay, whatever they take.
        assert engine.held_bytes <= max(budget, engine.bytes_of(points[0][0]) + largest) + largest
    engine.close()


def test_what_is_prepared_stays_under_the_budget(tmp_path):
    bundle = make_bundle(tmp_path / "tiny", TINY)
    engine = OnnxRuntimeEngine(bundle, 4 * bundle.subnetworks[0].parameters)
    engine.prepare([s.name for s in bundle.subnetworks], [ONE])
    assert engine.is_ready("33%", ONE) and not engine.is_ready("66%", ONE)
    engine.close()


def test_a_point_that_was_asked_for_twice_is_built_once(tmp_path):
    bundle = make_bundle(tmp_path / "tiny", TINY)
    engine = OnnxRuntimeEngine(bundle)
    futures = {engine.request("33%", ONE) for _ in range(5)}
    assert not wait(futures, TIMEOUT).not_done and engine.is_ready("33%", ONE)
    engine.close()


def test_a_graph_that_cannot_be_opened_is_an_engine_error_and_spoils_nothing_else(tmp_path):
    bundle = make_bundle(tmp_path / "tiny", TINY)
    sound = OnnxRuntimeEngine(bundle)._graph_of
    engine = OnnxRuntimeEngine(bundle, graph_of=lambda b, name: b"no graph" if name == "66%" else sound(b, name))
    failures = engine.prepare([s.name for s in bundle.subnetworks], [ONE])
    assert list(failures) == [("66%", "cpu:1")] and engine.is_ready("100%", ONE)
    with pytest.raises(EngineError, match="ONNX Runtime cannot open '66%'"):
        engine.request("66%", ONE).result(TIMEOUT)
    engine.close()


def test_an_engine_that_does_not_exist_or_is_not_installed_is_refused_with_what_to_do(tmp_path, monkeypatch):
    bundle = make_bundle(tmp_path / "tiny", TINY)
    with pytest.raises(ValueError, match="engine is 'tflite': expected one of auto, onnxruntime, openvino, pytorch"):
        open_engine("tflite", bundle)
    module, kind, _, requirement = selection.ENGINES["openvino"]
    monkeypatch.setitem(selection.ENGINES, "openvino", (module, kind, "a_package_that_is_not_there", requirement))
    with pytest.raises(ValueError, match=r"not installed: pip install 'dynamic_perception\[openvino\]'"):
        open_engine("openvino", bundle)


def test_engines_are_compared_from_the_fastest_on(tmp_path):
    times = compare_engines(make_bundle(tmp_path / "tiny", TINY), ONE, ["pytorch", "onnxruntime"])
    assert set(times) == {"pytorch", "onnxruntime"} and list(times.values()) == sorted(times.values())


def test_pytorch_without_a_gpu_refuses_an_element_on_one(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that PyTorch sees")
    engine = open_engine("pytorch", make_bundle(tmp_path / "tiny", TINY))
    with pytest.raises(EngineError, match="sees no GPU for '33%' on 'gpu0'"):
        engine.make_ready("33%", ComputeElement("gpu0", "gpu0", CPUS, 1))
    engine.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU that PyTorch sees")
def test_a_cuda_graph_answers_as_the_cpu_does(tmp_path):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    engine, gpu = open_engine("pytorch", bundle), ComputeElement("gpu0", "gpu0", CPUS, 1)
    image = np.random.default_rng(1).integers(0, 256, (*bundle.input_size("large"), 3), np.uint8)
    engine.prepare(["large"], [ONE, gpu])
    engine.activate("large", ONE)
    expected = engine.logits(image)
    engine.activate("large", gpu)
    assert np.abs(engine.logits(image) - expected).max() <= 1e-3 * np.abs(expected).max()
    engine.close()


@pytest.mark.parametrize(("duration", "refreshed"), [(0.0, 1), (2 * BRIEF, 0)])
def test_a_refresh_runs_the_active_point_once_if_that_is_brief(tmp_path, duration, refreshed):
    runs = []

    class Slow(Engine):
        def build(self, subnetwork, element):
            def run(image):
                runs.append((subnetwork, image.shape))
                time.sleep(duration)

            return Ready(run, run)

    engine = Slow(make_bundle(tmp_path / "tiny"))
    small, large = engine.subnetworks[0], engine.subnetworks[-1]
    engine.prepare([small.name, large.name], [ONE])
    runs.clear()
    engine.activate(large.name, ONE)
    engine.refresh()
    assert runs == refreshed * [(large.name, (*large.input_size, 3))]
