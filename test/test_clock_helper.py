"""The clock helper: what it does for members of its group, and that nothing else moves it."""

import json
import math
import os
import random
import shutil
import signal
import stat
import string
import tempfile
from pathlib import Path

import pytest
from clock_helper_process import HelperProcess, HelperTalk
from conftest import wait_for
from sysfs_trees import CPUFREQ, laptop, odroid_xu3, policy_files, write_files

from dynamic_perception.hardware.clocks import ClockControl
from dynamic_perception.hardware.helper_protocol import (
    HIGHEST_FREQUENCY,
    LINE_LIMIT,
    Refused,
    Request,
    parse_answer,
    parse_request,
)

MALFORMED = 100_000
OVER_THE_SOCKET = 5_000
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def board(tmp_path):
    return odroid_xu3(tmp_path / "sys")


@pytest.fixture
def start_helper(board, tmp_path):
    started = []

    def start(*options, folder=tmp_path, group=None):
        started.append(HelperProcess(folder, *options, group=group))
        return started[-1]

    yield start
    for helper in started:
        helper.close()


@pytest.fixture
def talk():
    opened = []

    def connect(helper):
        opened.append(HelperTalk(helper.socket))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def maximum(root, policy="policy4"):
    return int((root / CPUFREQ / policy / "scaling_max_freq").read_text())


# Requests ------------------------------------------------------------------------------------------------------------


def test_a_clock_is_set_and_read_back(start_helper, talk, board):
    client = talk(start_helper())
    assert client.ask(policy="policy4", frequency=1.5e9) == {"ok": True, "actual": 1.5e9, "message": ""}
    assert maximum(board) == 1_500_000


def test_an_element_stands_for_the_clocks_of_its_cpus(start_helper, talk, board):
    client = talk(start_helper())
    assert client.ask(element="cpu4:2", frequency=1.5e9)["actual"] == 1.5e9
    assert maximum(board) == 1_500_000 and maximum(board, "policy0") == 1_400_000


def test_a_gpu_is_set_where_it_is_in_the_list(start_helper, talk, board):
    gpu = write_files(
        board / "class/devfreq/11800000.gpu",
        {
            "governor": "simple_ondemand",
            "min_freq": 177_000_000,
            "max_freq": 600_000_000,
            "available_frequencies": "177000000 420000000 600000000",
        },
    )
    client = talk(start_helper("--allow", "policy4", "11800000.gpu"))
    assert client.ask(policy="11800000.gpu", frequency=420e6)["actual"] == 420e6
    client.close()
    wait_for(lambda: (gpu / "max_freq").read_text() == "600000000\n", "the GPU's clock to be put back")


def test_between_two_steps_the_nearest_is_taken_and_the_answer_says_so(start_helper, talk):
    answer = talk(start_helper()).ask(policy="policy4", frequency=1.52e9)
    assert answer["actual"] == 1.5e9 and "1520 MHz is not available" in answer["message"]


def test_zero_puts_back_and_lets_others_in(start_helper, talk, board):
    helper, before = start_helper(), policy_files(board)
    first, second = talk(helper), talk(helper)
    first.ask(policy="policy4", frequency=1.5e9)
    assert f"process {os.getpid()} sets the clock" in second.ask(policy="policy4", frequency=1e9)["reason"]
    assert first.ask(policy="policy4", frequency=0)["ok"] and policy_files(board) == before
    assert second.ask(policy="policy4", frequency=1e9)["actual"] == 1e9


@pytest.mark.parametrize(
    "request_, reason",
    [
        ({"policy": "policy0", "frequency": 1e9}, "'policy0' is not allowed: expected one of policy4"),
        ({"element": "cpu0:1", "frequency": 1e9}, "'policy0' is not allowed"),
        ({"element": "gpu", "frequency": 1e9}, "compute element 'gpu' does not exist here"),
        ({"policy": "policy4", "frequency": 1.9e9}, "expected 8e+08 to 1.2e+09 Hz"),
        ({"policy": "policy4", "frequency": 1}, "expected 8e+08 to 1.2e+09 Hz"),
        ({"policy": "policy4", "frequency": -1}, "frequency is -1"),
        ({"policy": "policy4", "frequency": True}, "frequency is True"),
        ({"policy": "policy4", "frequency": math.nan}, "frequency is nan"),
        ({"policy": "../policy4", "frequency": 1e9}, "expected a name"),
        ({"policy": "policy4", "element": "cpu4:1", "frequency": 1e9}, "expected just"),
        ({"policy": "policy4", "frequency": 1e9, "governor": "performance"}, "expected just"),
        ({"policy": "policy4"}, "expected just"),
    ],
)
def test_everything_else_is_refused_with_the_reason_and_changes_nothing(start_helper, talk, board, request_, reason):
    before = policy_files(board)
    client = talk(start_helper("--allow", "policy4", "--min", "0.8e9", "--max", "1.2e9"))
    answer = client.ask(**request_)
    assert not answer["ok"] and reason in answer["reason"]
    assert policy_files(board) == before


def test_an_element_is_set_as_a_whole_or_not_at_all(start_helper, talk, tmp_path):
    root = laptop(tmp_path / "machine" / "sys")
    helper = start_helper(folder=tmp_path / "machine")
    holder, client, third = (talk(helper) for _ in range(3))
    holder.ask(policy="policy7", frequency=1e9)
    before = policy_files(root)
    assert "'policy7'" in client.ask(element="cpu:8", frequency=2e9)["reason"]
    assert policy_files(root) == before
    assert third.ask(policy="policy0", frequency=2e9)["ok"]  # the refused one did not keep it


def test_a_clock_that_another_process_owns_is_refused_with_its_number(start_helper, talk, board, tmp_path):
    clocks = ClockControl(board, tmp_path / "state")
    clocks.open()
    answer = talk(start_helper()).ask(policy="policy4", frequency=1e9)
    assert not answer["ok"] and f"process {os.getpid()} sets the clock" in answer["reason"]
    clocks.restore()


def test_requests_beyond_the_rate_are_refused(start_helper, talk):
    client = talk(start_helper("--rate", "5", "--allow", "policy4"))
    answers = [client.ask(policy="policy4", frequency=1e9) for _ in range(30)]
    assert [answer["ok"] for answer in answers[:5]] == [True] * 5
    assert any("too many requests: at most 5 a second" in answer.get("reason", "") for answer in answers)


def test_connections_anew_do_not_get_round_the_rate(start_helper, talk):
    helper = start_helper("--rate", "5", "--allow", "policy4")
    answers = []
    for _ in range(30):
        client = talk(helper)
        answers.append(client.ask(policy="policy4", frequency=0)["ok"])
        client.close()
    assert not all(answers)


def test_too_many_connections_are_refused(start_helper, talk):
    helper = start_helper()
    clients = [talk(helper) for _ in range(17)]
    assert clients[0].ask(policy="policy4", frequency=1e9)["ok"]
    assert "too many connections" in clients[-1].read()["reason"] and clients[-1].read() is None


def test_a_line_that_is_too_long_ends_the_connection(start_helper, talk):
    helper = start_helper()
    for data in (b"x" * LINE_LIMIT, b"x" * LINE_LIMIT + b"\n"):
        client = talk(helper)
        client.send(data)
        assert "too long" in client.read()["reason"] and client.read() is None


def test_who_does_not_read_the_answers_is_hung_up_on(start_helper, talk, board):
    helper = start_helper("--rate", "1e9")
    client, before = talk(helper), policy_files(board)
    client.ask(policy="policy4", frequency=1e9)
    with pytest.raises(OSError):
        while True:
            client.send(b"{}\n" * 1000)
    wait_for(lambda: policy_files(board) == before, "the clock to be put back")
    assert talk(helper).ask(policy="policy4", frequency=1e9)["ok"]


# Ends ----------------------------------------------------------------------------------------------------------------


def test_what_a_client_set_is_put_back_when_it_goes(start_helper, talk, board):
    helper, before = start_helper(), policy_files(board)
    client, other = talk(helper), talk(helper)
    client.ask(policy="policy4", frequency=1.5e9)
    other.ask(policy="policy0", frequency=0.5e9)
    client.close()
    wait_for(
        lambda: (board / CPUFREQ / "policy4/scaling_max_freq").read_text() == "2000000\n", "the clock to be put back"
    )
    assert (board / CPUFREQ / "policy0/scaling_setspeed").read_text() == "500000\n"
    other.close()
    wait_for(lambda: policy_files(board) == before, "the other clock to be put back")
    assert not list(helper.state.glob("*.json"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_everything_put_back(start_helper, talk, board, number):
    helper, before = start_helper(), policy_files(board)
    talk(helper).ask(policy="policy4", frequency=1.5e9)
    assert helper.stop(number) == 0
    assert policy_files(board) == before and not helper.socket.exists()


def test_after_sigkill_the_next_start_puts_back(start_helper, talk, board):
    helper, before = start_helper(), policy_files(board)
    talk(helper).ask(policy="policy4", frequency=1.5e9)
    helper.stop(signal.SIGKILL)
    assert policy_files(board) != before
    following = start_helper()
    assert policy_files(board) == before and "put back" in following.output()
    assert talk(following).ask(policy="policy4", frequency=1e9)["ok"]


def test_a_second_helper_on_the_same_socket_is_refused(start_helper):
    first, second = start_helper(), start_helper()
    assert second.process.wait(10) == 2 and "serves" in second.output() and first.process.poll() is None


def test_a_file_in_the_place_of_the_socket_is_not_removed(start_helper, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "clocks.sock").write_text("mine")
    helper = start_helper()
    assert helper.process.wait(10) == 2 and "is not a socket" in helper.output()
    assert (tmp_path / "run" / "clocks.sock").read_text() == "mine"


@pytest.mark.parametrize(
    "options, words",
    [
        (
            ["--allow", "policy9"],
            "'policy9' is no clock here: expected some of 11800000.gpu, soc:bus-wcore, policy0, policy4",
        ),
        (["--group", "no such group"], "group 'no such group' does not exist"),
        (["--min", "2e9", "--max", "1e9"], "lowest frequency is 2000000000"),
        (["--rate", "0"], "0 is not a rate"),
    ],
)
def test_wrong_options_end_it_with_code_2(start_helper, options, words):
    helper = start_helper(*options)
    assert helper.process.wait(10) == 2 and words in helper.output()


# Who may -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_folder():
    """A folder that every user can pass."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    odroid_xu3(folder / "sys")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def nobody():
    """This process as a user without rights."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)
    os.setegid(0)


def test_the_socket_is_for_its_owner_and_group(start_helper):
    assert stat.S_IMODE(start_helper().socket.stat().st_mode) == 0o660


@needs_root
def test_the_kernel_keeps_strangers_off_the_socket(start_helper, open_folder, request, talk):
    helper = start_helper(folder=open_folder)
    request.getfixturevalue("nobody")
    with pytest.raises(PermissionError):
        talk(helper)


@needs_root
def test_a_stranger_who_gets_to_the_socket_is_refused_by_his_credentials(start_helper, open_folder, request, talk):
    helper = start_helper(folder=open_folder)
    helper.socket.chmod(0o666)
    request.getfixturevalue("nobody")
    client = talk(helper)
    assert "is neither root nor in group" in client.read()["reason"] and client.read() is None


@needs_root
def test_a_process_without_rights_sets_clocks_through_the_helper(start_helper, open_folder, request):
    helper, before = start_helper(folder=open_folder, group=NOBODY), policy_files(open_folder / "sys")
    request.getfixturevalue("nobody")
    clocks = ClockControl(open_folder / "sys", Path("/nonexistent"), helper_socket=helper.socket)
    assert "through the clock helper" in clocks.open()[0]
    result = clocks.set_cpu_frequency(range(4, 8), 1.53e9)
    assert result.actual == 1.5e9 and "took 1500 MHz, the nearest" in result.message
    assert clocks.set_cpu_frequency(range(4), 1.0e9).message == ""
    assert clocks.set_cpu_frequency(range(4), 0.0).message == ""
    assert clocks.restore() == () and policy_files(open_folder / "sys") == before


@needs_root
def test_what_the_helper_refuses_is_said_and_leaves_nothing_to_put_back(start_helper, open_folder, request):
    helper = start_helper("--allow", "policy0", folder=open_folder, group=NOBODY)
    request.getfixturevalue("nobody")
    clocks = ClockControl(open_folder / "sys", Path("/nonexistent"), helper_socket=helper.socket)
    clocks.open()
    message = clocks.set_cpu_frequency(range(4, 8), 1.5e9).message
    assert "the clock helper refuses: 'policy4' is not allowed" in message
    assert clocks.restore() == ()


@needs_root
def test_a_helper_that_is_gone_is_said_and_used_again_when_it_is_back(start_helper, open_folder, request):
    helper = start_helper(folder=open_folder, group=NOBODY)
    request.getfixturevalue("nobody")
    clocks = ClockControl(open_folder / "sys", Path("/nonexistent"), helper_socket=helper.socket)
    clocks.open()
    clocks.set_cpu_frequency(range(4, 8), 1.5e9)
    os.seteuid(0)
    helper.stop(signal.SIGTERM)
    os.seteuid(NOBODY)
    result = clocks.set_cpu_frequency(range(4, 8), 1.0e9)
    assert "clock not changed: the clock helper at" in result.message and result.actual != 1.0e9
    os.seteuid(0)
    start_helper(folder=open_folder, group=NOBODY)
    os.seteuid(NOBODY)
    assert clocks.set_cpu_frequency(range(4, 8), 1.0e9).message == ""
    assert clocks.restore() == ()


def test_a_process_that_may_write_does_not_ask_the_helper(start_helper, board, tmp_path):
    helper = start_helper()
    clocks = ClockControl(board, tmp_path / "state", helper_socket=helper.socket)
    assert clocks.open() == ()
    clocks.set_cpu_frequency(range(4, 8), 1.5e9)
    assert (tmp_path / "state" / "cpufreq-policy4.json").exists()
    clocks.restore()


# Nonsense ------------------------------------------------------------------------------------------------------------


def nonsense(dice: random.Random) -> bytes:
    """A line that is hardly a request: noise, JSON of other shapes, or a request with something wrong in it."""
    kind = dice.randrange(6)
    if kind == 0:
        return bytes(dice.choices(range(256), k=dice.randrange(80))).replace(b"\n", b"")
    if kind == 1:
        return "".join(dice.choices('{}[]":,0123456789.eE-+ \\untrfalspolicyelmq', k=dice.randrange(60))).encode()
    if kind == 2:
        return b"[" * dice.randrange(LINE_LIMIT) if dice.random() < 0.1 else json.dumps(value(dice, 3)).encode()[:500]
    request = {dice.choice(["policy", "element", "path", "clock", ""]): value(dice, 1), "frequency": value(dice, 1)}
    if kind == 3:
        request[dice.choice(["governor", "policy", "frequency", "x"])] = value(dice, 2)
    if kind == 4:
        request = {
            "policy": dice.choice(
                [
                    "../policy4",
                    "policy4/../policy0",
                    "/etc/passwd",
                    "policy4\0",
                    "policy4\n",
                    "",
                    "p" * 65,
                    "policy99",
                    "policy４",  # noqa: RUF001  (a digit that is none of ours)
                    ".",
                    "-rf",
                ]
            ),
            "frequency": 1e9,
        }
    line = bytearray(json.dumps(request).encode()[:500])
    if kind == 5:
        for _ in range(dice.randrange(1, 4)):
            line[dice.randrange(len(line))] = dice.randrange(256)
    return bytes(line).replace(b"\n", b"")


def value(dice: random.Random, depth: int) -> object:
    kind = dice.randrange(10 if depth else 8)
    if kind < 2:
        return dice.choice([0, 1, -1, 10**400, -(10**20), 1e308, math.inf, -math.inf, math.nan, 5e-324, 2e11])
    if kind < 4:
        return "".join(dice.choices(string.printable + "é\u2028\0", k=dice.randrange(12)))
    if kind < 8:
        return dice.choice([None, True, False, "", "policy0", "scaling_max_freq", -0.0])
    if kind == 8:
        return [value(dice, depth - 1) for _ in range(dice.randrange(4))]
    return {str(value(dice, 0)): value(dice, depth - 1) for _ in range(dice.randrange(4))}


def test_a_hundred_thousand_malformed_requests_are_refused_or_harmless():
    dice, malformed = random.Random(1), 0
    while malformed < MALFORMED:
        try:
            request = parse_request(nonsense(dice))
        except Refused as reason:
            malformed += 1
            assert str(reason) and str(reason).isprintable()
        else:
            assert "/" not in request.name and not request.name.startswith(".") and request.name.isascii()
            assert 0 <= request.frequency <= HIGHEST_FREQUENCY and request.target in ("policy", "element")
            assert parse_request(request.line().rstrip(b"\n")) == request


def test_nonsense_over_the_socket_writes_nothing_and_the_helper_still_serves(start_helper, talk, board, tmp_path):
    helper = start_helper("--rate", "1e9", "--allow", "policy4")
    client, dice = talk(helper), random.Random(2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for _ in range(OVER_THE_SOCKET // 50):
        lines = [nonsense(dice) for _ in range(50)]
        client.send(b"".join(line + b"\n" for line in lines))
        answers = [client.read() for _ in lines]
        assert not any(answer["ok"] for answer in answers), [a for a in zip(lines, answers) if a[1]["ok"]]
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    assert client.ask(policy="policy4", frequency=1e9)["ok"]
    changed = {path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() != before.get(path)}
    allowed = {board / CPUFREQ / "policy4" / name for name in ("scaling_min_freq", "scaling_max_freq")}
    assert changed == allowed | {helper.state / f"cpufreq-policy4.{ending}" for ending in ("json", "lock")}


def test_a_request_is_what_is_read_again():
    request = Request("policy", "policy4", 1.5e9)
    assert request.line() == b'{"policy": "policy4", "frequency": 1500000000.0}\n'
    assert parse_request(request.line()) == request


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"ok": 1}', b"\xff"])
def test_what_is_no_answer_is_an_error(line):
    with pytest.raises(ValueError):
        parse_answer(line)
