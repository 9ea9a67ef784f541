"""GPUs of systems on a chip, on sysfs trees of real machines."""

import math

import pytest
from sysfs_trees import (
    XU3_GPU,
    container,
    devfreq,
    jetson_orin_nx,
    jetson_xavier_nx,
    laptop,
    odroid_xu3,
    raspberry_pi_5,
    write_files,
)

from dynamic_perception.hardware.gpus import find_gpus

STEPS = [300_000_000, 600_000_000]


def models(root):
    return [gpu.model for gpu in find_gpus(root)]


@pytest.mark.parametrize(
    "tree, model, clocks",
    [
        (odroid_xu3, "11800000.gpu", XU3_GPU),
        (jetson_xavier_nx, "17000000.gv11b", [114_750_000, 204_000_000, 1_109_250_000]),
        (jetson_orin_nx, "17000000.gpu", [306_000_000, 510_000_000, 918_000_000]),
    ],
)
def test_the_gpu_of_a_board_is_found_beside_its_buses_and_video_engines(tmp_path, tree, model, clocks):
    (gpu,) = find_gpus(tree(tmp_path))
    assert (gpu.name, gpu.kind, gpu.model) == ("gpu", "devfreq", model)
    assert gpu.frequencies == tuple(map(float, clocks)) and gpu.stepped and gpu.current() == clocks[1]
    assert gpu.path == tmp_path / "class/devfreq" / model


@pytest.mark.parametrize(
    "node",
    [
        "17000000.ga10b",
        "17000000.gp10b",
        "57000000.gpu",
        "ff9a0000.gpu",
        "11800000.mali",
        "fb000000.gpu-panthor",
        "3d00000.qcom,kgsl-3d0",
        "soc:gpu",
    ],
)
def test_gpus_are_known_by_the_names_that_drivers_give_them(tmp_path, node):
    devfreq(tmp_path, node, STEPS)
    assert models(tmp_path) == [node]


@pytest.mark.parametrize(
    "node",
    [
        "15340000.vic",
        "soc:bus-wcore",
        "dmc",
        "fdab0000.npu",
        "soc:qcom,gpubw",
        "10c20000.memory-controller",
        "154c0000.nvenc",
        "soc:qcom,kgsl-busmon",
    ],
)
def test_other_devices_with_a_clock_are_no_gpus(tmp_path, node):
    devfreq(tmp_path, node, STEPS)
    assert models(tmp_path) == []


def test_an_adreno_that_only_its_own_class_shows_is_found(tmp_path):
    write_files(
        tmp_path / "class/kgsl/kgsl-3d0/devfreq",
        {"available_frequencies": "490000000 257000000", "cur_freq": 257_000_000},
    )
    (gpu,) = find_gpus(tmp_path)
    assert gpu.frequencies == (257e6, 490e6) and gpu.current() == 257e6


def test_several_gpus_are_numbered(tmp_path):
    devfreq(tmp_path, "1000.gpu", STEPS)
    devfreq(tmp_path, "2000.gpu", STEPS)
    assert [gpu.name for gpu in find_gpus(tmp_path)] == ["gpu0", "gpu1"]


def test_without_a_list_of_steps_the_limits_are_the_ends_of_a_range(tmp_path):
    (devfreq(tmp_path, "1000.gpu", STEPS) / "available_frequencies").unlink()
    (gpu,) = find_gpus(tmp_path)
    assert gpu.frequencies == (300e6, 600e6) and not gpu.stepped


@pytest.mark.parametrize("content", ["", "-256", "0", "10", "1" * 70_000, "12 GHz", "nan"])
def test_a_clock_that_cannot_be_true_is_unknown(tmp_path, content):
    write_files(
        devfreq(tmp_path, "1000.gpu", STEPS),
        dict.fromkeys(("cur_freq", "available_frequencies", "min_freq", "max_freq"), content),
    )
    (gpu,) = find_gpus(tmp_path)
    assert gpu.frequencies == () and math.isnan(gpu.current())


@pytest.mark.parametrize("tree", [container, laptop, raspberry_pi_5])
def test_a_machine_without_a_gpu_clock_has_no_gpu(tmp_path, tree):
    assert find_gpus(tree(tmp_path)) == ()
