"""The node that the project starts is its own, at a port of its own, and keeps nothing on disk."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import http

from tools import local_node
from tools.local_node import LocalNode


def ask(url: str, method: str, *params: Any) -> Any:
    """The result of a call to a node."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return http.post(url, json=call).json()["result"]


def listener(pid: int) -> set[int]:
    """The ports that a process listens on."""
    inodes = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        int(line[1].split(":")[1], 16)
        for line in lines
        if line[3] == "0A" and f"socket:[{line[9]}]" in inodes
    }


def test_two_nodes_have_a_process_a_port_and_a_chain_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with LocalNode(tmp_path / "a") as one, LocalNode(tmp_path / "b") as other:
        for node in (one, other):
            assert listener(node.process.pid) == {node.port}
            assert 10_000 <= node.port < 32_768  # Below what outgoing connections are given.
        ask(one.url, "evm_mine")
        assert (ask(one.url, "eth_blockNumber"), ask(other.url, "eth_blockNumber")) == ("0x1", "0x0")


def test_a_chosen_port_that_another_process_took_meanwhile_is_chosen_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with LocalNode(tmp_path / "a") as foreign:
        free = local_node.free_port()
        lost_then_free = iter([foreign.port, free])
        monkeypatch.setattr(local_node, "free_port", lambda: next(lost_then_free))
        with LocalNode(tmp_path / "b") as ours:
            assert ours.port == free
            assert listener(ours.process.pid) == {free}


@pytest.mark.skipif(sys.platform != "linux", reason="names of sockets that end with the process")
def test_a_port_that_another_process_has_chosen_is_chosen_by_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The shim of that process may be starting again, and would answer for ours."""
    program = "from tools.local_node import free_port; print(free_port(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        taken, free = int(other.stdout.readline()), 9_999  # Which nobody chooses.
        chosen = iter([taken, free])
        monkeypatch.setattr(local_node.random, "randrange", lambda *_: next(chosen))
        assert local_node.free_port() == free
        other.communicate("")
    chosen = iter([taken])
    assert local_node.free_port() == taken


def test_a_port_that_was_asked_for_and_belongs_to_a_foreign_node_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with LocalNode(tmp_path / "a") as foreign:
        ours = LocalNode(tmp_path / "b", port=foreign.port)
        with pytest.raises(RuntimeError) as refused:
            ours.start()
        assert str(refused.value) == f"port {foreign.port} is in use: the local node cannot listen there"
        with pytest.raises(RuntimeError, match=r"^the node is stopped$"):
            _ = ours.process


def test_a_port_that_a_client_socket_holds_is_an_error_at_once_and_a_chosen_one_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        held, free = client.getsockname()[1], local_node.free_port()
        chosen = iter([held, free])
        monkeypatch.setattr(local_node, "free_port", lambda: next(chosen))
        with LocalNode(tmp_path) as node:
            assert node.port == free


def test_it_comes_back_at_its_port_with_its_chain_when_it_has_a_file_for_it(tmp_path: Path) -> None:
    node = LocalNode(tmp_path, state=tmp_path / "chain.json")
    with node:
        url, first = node.url, node.process.pid
        ask(url, "anvil_mine", "0x7")
    with node:
        assert node.url == url
        assert node.process.pid != first
        assert ask(url, "eth_blockNumber") == "0x7"
    without = LocalNode(tmp_path, port=node.port)
    with without:
        assert ask(without.url, "eth_blockNumber") == "0x0"


def test_more_blocks_than_it_remembers_leave_nothing_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home))
    with LocalNode(tmp_path) as node:
        ask(node.url, "anvil_mine", hex(local_node.STATES + 100))
        zero = "0x" + "00" * 20
        assert ask(node.url, "eth_getBalance", zero, hex(200)) == "0x0"
        assert list(home.rglob("*")) == []
    assert list(home.rglob("*")) == []


def test_a_node_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"^the local node did not start:\n.*--no-such-option"):
        LocalNode(tmp_path, options=["--no-such-option"]).start()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"^anvil is not on PATH: make setup, then source \.venv/bin/activate$"
    ):
        LocalNode(tmp_path).start()


def test_requests_are_not_logged(tmp_path: Path) -> None:
    with LocalNode(tmp_path) as node:
        before = node.log.stat().st_size
        for _ in range(20):
            ask(node.url, "eth_chainId")
        ask(node.url, "anvil_setLoggingEnabled", True)
        ask(node.url, "eth_gasPrice")
        assert b"eth_chainId" not in node.log.read_bytes()[before:]


def test_stopping_ends_the_process(tmp_path: Path) -> None:
    node = LocalNode(tmp_path)
    node.start()
    process: subprocess.Popen[bytes] = node.process
    node.stop()
    node.stop()
    assert process.returncode is not None
