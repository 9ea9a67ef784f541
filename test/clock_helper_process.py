"""The clock helper as a real process, and a client that speaks its protocol."""

import grp
import json
import os
import socket
import subprocess
import sys
import tempfile

from conftest import STOP_TIMEOUT, wait_for

PROGRAM = [sys.executable, "-c", "import sys; from dynamic_perception.cli import main; sys.exit(main())"]


class HelperProcess:
    """`dynamic-perception clock-helper` on a tree in `folder`/sys, for the group with this number."""

    def __init__(self, folder, *options, group=None, shared_state=False):
        """`shared_state`: what was found is kept where nodes keep it, and not in the folder `state`."""
        self.socket, self.state = folder / "run" / "clocks.sock", folder / "helper_state"
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the object)
        self.process = subprocess.Popen(
            [
                *PROGRAM,
                "clock-helper",
                "--socket",
                self.socket,
                *([] if shared_state else ["--state", self.state]),
                "--sysfs-root",
                folder / "sys",
                "--group",
                grp.getgrgid(os.getgid() if group is None else group).gr_name,
                *options,
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        wait_for(lambda: "serves" in self.output() or self.process.poll() is not None, "the clock helper")

    def output(self):
        self._log.seek(0)
        return self._log.read()

    def stop(self, number):
        self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


class HelperTalk:
    """One connection."""

    def __init__(self, path):
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.settimeout(10.0)
        self.connection.connect(str(path))
        self._file = self.connection.makefile("rb")

    def send(self, data):
        self.connection.sendall(data)

    def read(self):
        """The next answer; None: the helper has hung up."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            line = b""
        return json.loads(line) if line else None

    def ask(self, **request):
        self.send(json.dumps(request).encode() + b"\n")
        return self.read()

    def close(self):
        self._file.close()
        self.connection.close()
