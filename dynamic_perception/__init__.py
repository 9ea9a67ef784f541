"""Keeps a robot's neural network inside its deadline, power and temperature limits while it runs."""

import os

# ONNX Runtime's builds from PyPI look up their maker's collector and keep a device id, unless this is set before the
# library loads.  This is the one place that runs before any other module of the package.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
