"""Profiling measures every subnetwork of any family on every compute element, each with images of its own size."""

import pytest
from bundles import TINY_SPACES, make_bundle

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.profiling.profiler import ProfileSettings, profile


@pytest.mark.parametrize("space", TINY_SPACES, ids=lambda space: space.family)
def test_every_subnetwork_is_measured_on_every_element(tmp_path, space):
    bundle, elements = make_bundle(tmp_path / "tiny", space), discover_elements()
    engine = OnnxRuntimeEngine(bundle)
    settings, progress = ProfileSettings(runs_per_turn=3, least_runs=2, most_runs=2), []
    table = profile(bundle, engine, elements, settings, progress.append)
    engine.close()
    points = [table[i] for i in range(len(table))]
    assert [(p.subnetwork, p.compute_element, p.accuracy) for p in points] == [
        (s.name, element.name, s.accuracy) for element in elements for s in bundle.subnetworks
    ]
    assert all(0 < p.latency <= p.latency_p95 for p in points)
    assert progress == [1.0]
