"""`dynamic-perception clock-helper`: sets clocks for nodes that are not root.  The protocol is in `helper_protocol`.

One thread: the daemon waits for its sockets, reads a line, answers it.  Every client owns the clocks
that it set, through the same `ClockOwner` as a node that may write them itself: saved before the first change, locked
against every other process, put back when the connection ends, and after a SIGKILL by the next start.
"""

from __future__ import annotations

import grp
import os
import pwd
import selectors
import socket
import stat
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from dynamic_perception.hardware.clock_files import BUSY_LIMIT, ClockFiles
from dynamic_perception.hardware.clock_owner import ClockOwner, FrequencyRange
from dynamic_perception.hardware.clock_places import state_folder, state_folders
from dynamic_perception.hardware.clocks import restore_saved
from dynamic_perception.hardware.compute_element import discover_elements, find_element
from dynamic_perception.hardware.cpufreq import find_policies
from dynamic_perception.hardware.devfreq import find_devices
from dynamic_perception.hardware.helper_protocol import LINE_LIMIT, Refused, Request, done, parse_request, refused

CLIENTS, CLIENTS_OF_A_USER = 64, 16  # connections at once
TRY_AGAIN = 2.0  # [s] between two tries to put back what others left
CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


@dataclass(frozen=True)
class HelperSettings:
    """What the helper may do.

    Attributes:
        socket: path of its socket, mode 0660.
        group: id of the group that may use it, beside root.
        sysfs_root: where the kernel's view of the hardware is mounted.
        state_folder: what was found is saved there until it is put back; None: the machine's place, which nodes share.
        names: the allow-list: policies and devfreq devices; None: every cpufreq policy.
        allowed: frequencies that may be set.
        rate: [1/s] requests of one user for each clock in the list, and how many of them at once.
    """

    socket: Path
    group: int
    sysfs_root: Path
    state_folder: Path | None
    names: frozenset[str] | None = None
    allowed: FrequencyRange = FrequencyRange()
    rate: float = 20.0


@dataclass
class Allowance:
    """How many requests a user has left: `rate` a second, at most `rate` saved up."""

    rate: float
    left: float = field(init=False)
    refilled: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        self.left = self.rate

    def take(self) -> bool:
        """Whether there was one left."""
        now = time.monotonic()
        self.left = min(self.rate, self.left + self.rate * (now - self.refilled))
        self.refilled = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


@dataclass
class Client:
    """One connection, and the clocks that it set."""

    connection: socket.socket
    pid: int
    uid: int
    received: bytes = b""
    owners: dict[str, ClockOwner] = field(default_factory=dict)


class ClockHelper:
    """Serves from its construction to `close`.

    Raises:
        OSError: the socket cannot be made, or another helper serves it.
        ValueError: the allow-list names what is not there.
    """

    def __init__(self, settings: HelperSettings):
        self._settings = settings
        self._clocks = _allowed_clocks(settings)
        self._rate = settings.rate * max(1, len(self._clocks))  # a command can be for all of them
        self._clients: list[Client] = []
        self._allowances: dict[int, Allowance] = {}
        self._left_behind = True  # by processes that were killed, until all of it is put back
        self._said: tuple[str, ...] = ()
        self._put_back_others()
        self._listener = _listen(settings.socket, settings.group)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        _log(f"serves {', '.join(self._clocks) or 'no clock: this machine has none'} on {settings.socket}")

    def serve(self, wake: int) -> None:
        """Serve until there is something to read from the file descriptor `wake`."""
        self._selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(TRY_AGAIN if self._left_behind else None):
                if key.fd == wake:
                    return
                if key.data is None:
                    self._accept()
                elif key.data in self._clients:
                    self._read(key.data)
            if self._left_behind and time.monotonic() >= self._try_at:
                self._put_back_others()

    def _put_back_others(self) -> None:
        """Put back what killed processes left; again later while somebody else holds one of the clocks."""
        result = restore_saved(self._folders(), self._settings.sysfs_root)
        if result.lines != self._said:
            for line in result.lines:
                _log(line)
        self._said, self._left_behind = result.lines, not result.complete
        self._try_at = time.monotonic() + TRY_AGAIN

    def _folders(self) -> tuple[Path, ...]:
        given = self._settings.state_folder
        return (given,) if given else state_folders(self._settings.sysfs_root)

    def close(self) -> None:
        """Put everything back and go."""
        for client in list(self._clients):
            self._drop(client)
        self._selector.close()
        self._listener.close()
        self._settings.socket.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # it has gone again, or there is no file descriptor left
            _log(f"a connection failed: {error}")
            return
        connection.setblocking(False)
        pid, uid, gid = CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        )
        why_not = self._why_not(uid, gid)
        if why_not:
            _log(f"process {pid} of user {uid} refused: {why_not}")
            _send(connection, refused(why_not))
            connection.close()
            return
        client = Client(connection, pid, uid)
        self._clients.append(client)
        self._allowances.setdefault(uid, Allowance(self._rate))
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _why_not(self, uid: int, gid: int) -> str:
        if not _may_use(uid, gid, self._settings.group):
            return f"user {uid} is neither root nor in group {self._settings.group}"
        if len(self._clients) >= CLIENTS or sum(client.uid == uid for client in self._clients) >= CLIENTS_OF_A_USER:
            return f"too many connections: at most {CLIENTS_OF_A_USER} of a user and {CLIENTS} in all"
        return ""

    def _read(self, client: Client) -> None:
        try:
            received = client.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            return self._drop(client)
        *lines, client.received = (client.received + received).split(b"\n")
        for line in lines:
            sent = _send(client.connection, self._answer(client, line))
            if not sent or len(line) >= LINE_LIMIT:
                return self._drop(client)
        if len(client.received) >= LINE_LIMIT:
            _send(client.connection, refused(f"line too long: at most {LINE_LIMIT} bytes"))
            self._drop(client)

    def _answer(self, client: Client, line: bytes) -> bytes:
        try:
            if len(line) >= LINE_LIMIT:
                raise Refused(f"line too long: at most {LINE_LIMIT} bytes")
            if not self._allowances[client.uid].take():
                raise Refused(f"too many requests: at most {self._rate:g} a second")
            return self._carry_out(client, parse_request(line))
        except Refused as reason:
            return refused(str(reason))

    def _carry_out(self, client: Client, request: Request) -> bytes:
        """All clocks of the request, or none.

        Raises:
            Refused: one of them is not allowed, owned by somebody else, or does not reach this frequency.
        """
        clocks = [self._clocks[name] for name in self._names(request)]
        if request.frequency == 0.0:
            faults = [fault for clock in clocks for fault in self._give_back(client, clock.name)]
        else:
            for clock in clocks:
                self._check_range(clock, request.frequency)
            self._own(client, clocks)
            deadline = time.monotonic() + BUSY_LIMIT
            faults = [fault for clock in clocks for fault in client.owners[clock.name].set(request.frequency, deadline)]
        return done(min(clock.current() for clock in clocks), "; ".join(faults))

    def _names(self, request: Request) -> list[str]:
        names = [request.name]
        if request.target == "element":
            try:
                cpus = set(find_element(self._elements(), request.name).cpus)
            except ValueError as error:
                raise Refused(str(error)) from None
            names = [policy.name for policy in find_policies(self._settings.sysfs_root) if policy.cpus & cpus]
        for name in names:
            if name not in self._clocks:
                raise Refused(f"'{name}' is not allowed: expected one of {', '.join(self._clocks)}")
        if not names:
            raise Refused(f"element '{request.name}' has no clock that can be set")
        return names

    def _elements(self):
        cpus = frozenset().union(*(policy.cpus for policy in find_policies(self._settings.sysfs_root)))
        return discover_elements(self._settings.sysfs_root, cpus) if cpus else ()

    def _owner(self, clock: ClockFiles, others: tuple[Path, ...] = ()) -> ClockOwner:
        given, root = self._settings.state_folder, self._settings.sysfs_root
        return ClockOwner(clock, given or state_folder(root), root, self._settings.allowed, others)

    def _check_range(self, clock: ClockFiles, frequency: float) -> None:
        available = self._owner(clock).available()
        if not available:
            raise Refused(f"'{clock.name}' has no frequency that is allowed")
        if not available[0] <= frequency <= available[-1]:
            raise Refused(
                f"frequency is {frequency:g}: expected {available[0]:g} to {available[-1]:g} Hz for '{clock.name}'"
            )

    def _own(self, client: Client, clocks: list[ClockFiles]) -> None:
        """Make the client the owner of all these clocks, or raise Refused and leave it as it was."""
        added = [clock for clock in clocks if clock.name not in client.owners]
        others = self._folders() if added else ()
        new = [self._owner(clock, others) for clock in added]
        try:
            for owner in new:
                name = owner.clock.name
                other = next((other.pid for other in self._clients if name in other.owners), None)
                if other is not None:
                    raise Refused(f"process {other} sets the clock '{name}' already")
                for line in owner.open():
                    _log(line)
        except (Refused, OSError, ValueError) as error:
            for owner in new:
                owner.restore()
            raise Refused(str(error)) from None
        client.owners.update({owner.clock.name: owner for owner in new})

    def _give_back(self, client: Client, name: str) -> list[str]:
        owner = client.owners.pop(name, None)
        return owner.restore() if owner else []

    def _drop(self, client: Client) -> None:
        """The connection has ended: put back what the client set."""
        for name in list(client.owners):
            for fault in self._give_back(client, name):
                _log(fault)
        self._selector.unregister(client.connection)
        client.connection.close()
        self._clients.remove(client)


def _allowed_clocks(settings: HelperSettings) -> dict[str, ClockFiles]:
    policies: tuple[ClockFiles, ...] = find_policies(settings.sysfs_root)
    if settings.names is None:
        return {policy.name: policy for policy in policies}
    there = {clock.name: clock for clock in (*find_devices(settings.sysfs_root), *policies)}
    missing = settings.names - set(there)
    if missing:
        raise ValueError(f"'{min(missing)}' is no clock here: expected some of {', '.join(there) or '(none)'}")
    return {name: clock for name, clock in there.items() if name in settings.names}


def _may_use(uid: int, gid: int, group: int) -> bool:
    """Root, the helper's own user, and the members of the group."""
    if uid in (0, os.geteuid()) or gid == group:
        return True
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return False
    return group in os.getgrouplist(user.pw_name, user.pw_gid)


def _listen(path: Path, group: int) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)  # so that there is no moment at which everybody may connect
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.umask(before)
    if os.stat(path).st_gid != group:
        os.chown(path, -1, group)
    listener.listen(16)
    listener.setblocking(False)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket of a helper that was killed; OSError when it lives, or when this is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(f"{path} is not a socket: remove it, or give another path with --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.connect(str(path))
        except OSError:
            path.unlink()
        else:
            raise OSError(f"another clock helper serves {path} already")


def _send(connection: socket.socket, answer: bytes) -> bool:
    """Whether the whole answer went out."""
    try:
        return connection.send(answer) == len(answer)
    except OSError:
        return False


def group_id(name: str) -> int:
    """Number of a group.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(
            f"group '{name}' does not exist: make it (groupadd --system {name}), or give another one with --group"
        ) from None


def _log(text: str) -> None:
    print(f"clock-helper: {text}", file=sys.stderr, flush=True)
