"""Setting clocks through the clock helper, where this process may not write them itself."""

from __future__ import annotations

import select
import socket
from pathlib import Path

from dynamic_perception.hardware.clock_files import Clock
from dynamic_perception.hardware.clock_owner import ClockSetter, FrequencyRange
from dynamic_perception.hardware.helper_protocol import Request, parse_answer

ANSWER_TIMEOUT = 0.5  # [s] a helper that tries a busy clock again needs a tenth of it


class HelperConnection:
    """The connection of one process to the helper, for all its clocks; what it set lasts as long as the connection.

    Args:
        path: the helper's socket.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self._socket: socket.socket | None = None
        self._users = 0
        self.number = 0  # of connections so far: what was set over an earlier one is lost

    def join(self) -> str:
        """Connect, if nobody has before; gives why that is not possible.  Then `ask` tries it again."""
        self._users += 1
        try:
            self._connect()
        except OSError as error:
            return error.strerror
        return ""

    def leave(self) -> None:
        """Hang up when nobody is left."""
        self._users -= 1
        if self._users == 0:
            self._hang_up()

    def ask(self, request: Request) -> tuple[bool, str]:
        """Have a request carried out, after connecting again where the helper was started anew.

        Returns:
            Whether it was carried out; why not, or what differs from it, empty when it was done to the letter.
        """
        try:
            self._connect()
            self._socket.sendall(request.line())
            answer = parse_answer(self._read_line())
        except (OSError, ValueError) as error:
            self._hang_up()  # so that no late answer is taken for that of the next request
            why = getattr(error, "strerror", None) or error
            return False, f"clock not changed: the clock helper at {self.path}: {why}"
        if not answer["ok"]:
            return False, f"clock not changed: the clock helper refuses: {answer.get('reason')}"
        return True, str(answer.get("message", ""))

    def is_alive(self) -> bool:
        """Whether the helper is still at the other end."""
        if self._socket is None:
            return False
        try:
            readable, _, _ = select.select([self._socket], [], [], 0.0)
            return not readable or self._socket.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False

    def _connect(self) -> None:
        if self.is_alive():
            return
        self._hang_up()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_TIMEOUT)
        try:
            connection.connect(str(self.path))
        except OSError as error:
            connection.close()
            raise OSError(
                error.errno,
                f"{error.strerror}: start `dynamic-perception clock-helper` as root, and put this user into its group",
            ) from None
        self._socket = connection
        self.number += 1

    def _read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            received = self._socket.recv(4096)
            if not received:
                raise OSError("it has hung up")
            line += received
        return line

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class HelperClock(ClockSetter):
    """Sets a clock through the helper, which saves what was found, owns the clock, and puts it back.

    Args:
        clock: to set; it is read directly, which needs no rights.
        connection: to the helper.
        allowed: what may be set.
    """

    def __init__(self, clock: Clock, connection: HelperConnection, allowed: FrequencyRange):
        super().__init__(clock, allowed)
        self._connection = connection
        self._joined = False
        self._set_over = 0  # number of the connection that set it last

    def open(self) -> tuple[str, ...]:
        if self._joined:
            return ()
        self._joined = True
        fault = self._connection.join()
        return (fault or f"{self.clock.folder} is set through the clock helper at {self._connection.path}",)

    def restore(self) -> list[str]:
        if not self._joined:
            return []
        faults = self._put_back(0.0) if self._changed else []
        self._connection.leave()
        self._joined, self._changed = False, False
        return faults

    def _is_open(self) -> bool:
        return self._joined

    def _is_held(self) -> bool:
        """The helper puts a clock back when its connection ends, and after a kill its next start does."""
        return super()._is_held() and self._connection.is_alive() and self._connection.number == self._set_over

    def _hold(self, target: int, deadline: float) -> str:
        carried_out, message = self._connection.ask(Request("policy", self.clock.name, self.clock.unit * target))
        self._changed, self._set_over = self._changed or carried_out, self._connection.number
        return message if self._connection.is_alive() else f"no permission for {self.clock.folder}; {message}"

    def _put_back(self, deadline: float) -> list[str]:
        _, message = self._connection.ask(Request("policy", self.clock.name, 0.0))
        self._changed = bool(message)
        return [message] if message else []
