"""What switching inside the Once-for-All MobileNetV3 supernet costs, against separate static networks.

    .venv/bin/python benchmarks/networks.py [--rounds N] [--threads N]

Width 1.0, 1000 classes, one image of 128 px, PyTorch on the CPU.  Weights are random: neither time nor memory depends
on them.  Subnetworks min, mid and max make the smallest, middle and largest choice of kernel, expansion and depth
everywhere.  In every round each is activated in random order and runs `RUNS` times in turn with its static copy.

Definitions, so that nobody can misread them:
    ofa_activate_p50_ms, ofa_activate_p99_ms
        one `activate` of another subnetwork, which was prepared before, after an inference
    bn_bind_p50_ms
        one `activate` of the active subnetwork with other statistics, after an inference
    dynamic_over_static_min, dynamic_over_static_max
        duration of a forward pass of the supernet over that of the static copy right before or after it: the median of
        each subnetwork, and of these the least and the greatest
    shared_bytes
        the supernet with what it keeps for six prepared subnetworks: learned tensors, cached slices, and six sets of
        batch-normalisation statistics
    six_static_bytes
        parameters and statistics of six static copies of the same ones: min, mid, max and those whose kernel, expansion
        and depth are in `OTHERS`
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder, whose profile.py would hide the standard library's from torch

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from dynamic_perception.networks.ofa_mobilenet_v3 import OFAMobileNetV3
from dynamic_perception.networks.ofa_mobilenet_v3_space import OFAMobileNetV3Space
from dynamic_perception.report.progress import progress_bar

RESOLUTION = 128
OTHERS = ((3, 4, 2), (5, 3, 3), (5, 6, 3))
COPIES = 5  # static ones that are made of each, to time it
RUNS = 4  # pairs of forward passes after each activation
WARM_UP_ROUNDS = 5


@torch.inference_mode()
def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads (default: all)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    space = OFAMobileNetV3Space(classes=1000, resolutions=(RESOLUTION,))
    network = OFAMobileNetV3(space, torch.Generator().manual_seed(1))
    points = {"min": space.smallest(), "mid": space.middle(), "max": space.largest()}
    calibration = [
        torch.randn(4, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3)
    ]
    statistics, others, static, copying = {}, {}, {}, {}
    for name, subnet in points.items():
        statistics[name], others[name] = (network.calibrate(subnet, [batch]) for batch in calibration)
        copies = [timed(lambda: network.extract(subnet, statistics[name])) for _ in range(COPIES)]
        static[name], copying[name] = copies[-1][0], np.median([duration for _, duration in copies])

    random = np.random.default_rng(1)
    image = calibration[0][:1]
    activations, bindings = [], []
    dynamic_runs, static_runs = ({name: [] for name in points} for _ in range(2))
    with progress_bar() as bar:
        for turn in bar.track(range(WARM_UP_ROUNDS + arguments.rounds), description="switching"):
            for name in random.permutation(list(points)):
                if network.active == points[name]:  # last of the round before: activating it again would be no switch
                    continue
                _, activation = timed(lambda: network.activate(points[name], statistics[name]))
                pairs = [
                    in_turn(lambda: network(image), lambda: static[name](image), first=run % 2) for run in range(RUNS)
                ]
                _, binding = timed(lambda: network.activate(points[name], others[name]))
                network(image)  # so that the next switch comes after an inference too, as it does on a robot
                if turn >= WARM_UP_ROUNDS:
                    activations.append(activation)
                    bindings.append(binding)
                    dynamic_runs[name] += [dynamic for dynamic, _ in pairs]
                    static_runs[name] += [copied for _, copied in pairs]

    table = Table(
        title=f"OFA MobileNetV3 1.0, {RESOLUTION} px, PyTorch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {arguments.rounds} rounds"
    )
    for heading in ("subnetwork", "MACs", "static copy \\[ms]", "dynamic p50 \\[ms]", "static p50 \\[ms]", "ratio"):
        table.add_column(heading, justify="left" if heading == "subnetwork" else "right")
    ratios = {name: float(np.median(np.divide(dynamic_runs[name], static_runs[name]))) for name in points}
    for name, subnet in points.items():
        milliseconds = [
            1e3 * value for value in (copying[name], np.median(dynamic_runs[name]), np.median(static_runs[name]))
        ]
        table.add_row(
            name, f"{space.macs(subnet):,}", *(f"{value:.2f}" for value in milliseconds), f"{ratios[name]:.3f}"
        )
    Console().print(table)
    shared_bytes, six_static_bytes = memory(space)
    print(
        json.dumps(
            {
                "ofa_activate_p50_ms": 1e3 * float(np.quantile(activations, 0.5)),
                "ofa_activate_p99_ms": 1e3 * float(np.quantile(activations, 0.99)),
                "bn_bind_p50_ms": 1e3 * float(np.quantile(bindings, 0.5)),
                "dynamic_over_static_min": min(ratios.values()),
                "dynamic_over_static_max": max(ratios.values()),
                "shared_bytes": shared_bytes,
                "six_static_bytes": six_static_bytes,
            }
        )
    )


def timed(call: Callable):
    """What `call` returns, and how long it took [s]."""
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def in_turn(dynamic: Callable, static: Callable, first: int) -> tuple[float, float]:
    """Durations [s] of both, the static one measured first if `first` is 1."""
    if first:
        duration = timed(static)[1]
        return timed(dynamic)[1], duration
    return timed(dynamic)[1], timed(static)[1]


def memory(space: OFAMobileNetV3Space) -> tuple[int, int]:
    """Bytes of one supernet with six prepared subnetworks, and of six static copies of these."""
    network = OFAMobileNetV3(space)
    subnets = [
        space.smallest(),
        space.middle(),
        space.largest(),
        *(space.uniform(RESOLUTION, *choices) for choices in OTHERS),
    ]
    shared = sum(tensor.nbytes for tensor in network.tensors().values())
    copied = 0
    for subnet in subnets:
        network.prepare(subnet)
        statistics = {name: torch.zeros(shape) for name, shape in space.statistics_shapes(subnet).items()}
        shared += sum(tensor.nbytes for tensor in statistics.values())
        copied += static_bytes(network.extract(subnet, statistics))
    return shared + network.cached_bytes, copied


def static_bytes(module: nn.Module) -> int:
    """Bytes of its parameters and buffers."""
    return sum(tensor.nbytes for tensor in module.state_dict().values())


if __name__ == "__main__":
    main()
