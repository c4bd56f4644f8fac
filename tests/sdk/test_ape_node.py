"""The node that Ape starts belongs to the process that started it, in this project and outside of it."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from web3 import HTTPProvider, Web3

from tools.local_node import LocalNode, free_port

ROOT = Path(__file__).parents[2]

PROGRAM = """
import random, sys
import ape, ape_foundry.provider

# Whatever ape-foundry would choose, it chooses this one.
ape_foundry.provider.DEFAULT_PORT = chosen = int(sys.argv[1])
random.randint = lambda *_: chosen

with ape.networks.parse_network_choice("ethereum:local:foundry") as provider:
    print(provider.uri, provider.process.pid if provider.process else 0, flush=True)
    for line in sys.stdin:
        provider.mine(int(line))
        print(ape.chain.blocks.height, flush=True)
"""


class Ape:
    """A process that uses Ape, and the node that it has."""

    def __init__(self, folder: Path, chosen: int, **environment: str) -> None:
        given = {name: value for name, value in os.environ.items() if name != "APE_FOUNDRY_HOST"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(chosen)],
            cwd=folder,
            env=given | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url, node = self._read().split()
        self.node = int(node)

    def mine(self, blocks: int) -> int:
        """Mines; the height that it then sees."""
        assert self.process.stdin is not None
        print(blocks, file=self.process.stdin, flush=True)
        return int(self._read())

    def close(self) -> None:
        """Ends as a program does."""
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Ape]]:
    with ExitStack() as started:

        def start(folder: Path = ROOT, chosen: int = 9, **environment: str) -> Ape:
            process = Ape(folder, chosen, APE_DATA_FOLDER=str(tmp_path / "ape"), **environment)
            started.callback(process.close)
            return process

        yield start


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[LocalNode]:
    """A node of another owner."""
    (tmp_path / "foreign").mkdir()
    with LocalNode(tmp_path / "foreign") as node:
        yield node


def height(url: str) -> int:
    return Web3(HTTPProvider(url)).eth.block_number


def test_two_processes_and_somebody_elses_node_are_three_chains(
    start: Callable[..., Ape], foreign: LocalNode, tmp_path: Path
) -> None:
    """In this project, whose host is `auto`, and in a folder without one, where it would be port 8545."""
    (tmp_path / "elsewhere").mkdir()
    here, elsewhere = start(ROOT, foreign.port), start(tmp_path / "elsewhere", foreign.port)
    assert len({here.url, elsewhere.url, foreign.url}) == 3
    assert (here.mine(3), elsewhere.mine(5)) == (3, 5)
    assert (height(here.url), height(elsewhere.url), height(foreign.url)) == (3, 5, 0)


def test_a_host_that_is_named_is_connected_to(start: Callable[..., Ape], foreign: LocalNode) -> None:
    named = start(APE_FOUNDRY_HOST=foreign.url)
    assert (named.url, named.node) == (foreign.url, 0)
    assert named.mine(2) == height(foreign.url) == 2


def test_an_empty_log_of_an_earlier_node_does_not_matter(start: Callable[..., Ape], tmp_path: Path) -> None:
    output = tmp_path / "ape" / "foundry" / "subprocess_output"
    output.mkdir(parents=True)
    (output / "stdout.log").touch()
    assert start(chosen=free_port()).mine(1) == 1


def test_the_node_ends_with_the_process_however_that_ends(start: Callable[..., Ape]) -> None:
    killed, ended = start(), start()
    nodes = [os.pidfd_open(process.node) for process in (killed, ended)]
    killed.process.send_signal(signal.SIGKILL)
    ended.close()
    for node in nodes:
        assert select.select([node], [], [], 120)[0] == [node], "the node is still there"
        os.close(node)
