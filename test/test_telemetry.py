"""No process of this package talks to anybody beyond its ROS domain."""

import os
import shutil
import subprocess
import sys

import pytest
from bundles import make_bundle

# Runs in network and mount namespaces of its own: no route leads out, and the only name server is this program.
WATCH = """
import fcntl, os, select, socket, struct, subprocess, sys, time
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up and running
with open(sys.argv[1], "w") as file:
    file.write("nameserver 127.0.0.1\\n")
subprocess.run(["mount", "--bind", sys.argv[1], os.path.realpath("/etc/resolv.conf")], check=True)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
child = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL)
end = time.monotonic() + 40.0
while time.monotonic() < end and child.poll() is None:
    if select.select([server], [], [], 0.2)[0]:
        print("asked for", server.recv(512), flush=True)
print("ended", child.poll(), flush=True)
child.kill()
"""
INFER = """
import os, sys, time
{change}
import numpy as np
from pathlib import Path
from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import read_bundle
bundle = read_bundle(Path(sys.argv[1]))
engine = OnnxRuntimeEngine(bundle)
element = ComputeElement("cpu:1", "cpu", tuple(sorted(os.sched_getaffinity(0))), 1)
name = bundle.subnetworks[0].name
engine.prepare([name], [element], warm_up_runs=1)
engine.activate(name, element)
end = time.monotonic() + 30.0
while time.monotonic() < end:
    engine.run(np.zeros((*bundle.input_size(name), 3), np.uint8))
    time.sleep(0.2)
"""


def look_ups(tmp_path, change: str) -> str:
    program = [sys.executable, "-c", INFER.format(change=change), str(make_bundle(tmp_path / "tiny").folder)]
    watch = [sys.executable, "-c", WATCH, str(tmp_path / "resolv.conf"), *program]
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment["XDG_CACHE_HOME"] = environment["HOME"] = str(tmp_path)
    done = subprocess.run(["unshare", "--net", "--mount", *watch], env=environment, capture_output=True, text=True)
    if "Operation not permitted" in done.stderr:
        pytest.skip("making namespaces takes root")
    assert "ended 0" in done.stdout, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="takes unshare of util-linux")
@pytest.mark.parametrize("telemetry, asks", [("", False), ("os.environ['ORT_DISABLE_TELEMETRY'] = '0'", True)])
def test_inference_looks_nobody_up_unless_it_is_told_to(tmp_path, telemetry, asks):
    assert ("asked for" in look_ups(tmp_path, telemetry)) == asks


@pytest.mark.parametrize("module", ["", ".cli", ".engines.onnx_runtime"])
def test_telemetry_is_off_before_the_library_loads(module):
    program = f"import dynamic_perception{module}, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


def test_whoever_wants_the_telemetry_can_have_it():
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    program = "import dynamic_perception, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]
