"""The node that Ape starts: one of its own, whatever else listens on this machine.

ape-foundry's `host: auto` takes a port of the ephemeral range that it never bound, waits 20 seconds if
another socket has it, and shares the chain of whatever node answers there; without a `host` it shares the
one at port 8545. Here the node is a `LocalNode` instead. Only a host that is named, in APE_FOUNDRY_HOST or
in the project's configuration, is connected to.

The set-up has every Python of the environment import this, so that plain `ape console`, `ape run` and
`ape test` have it as well. It imports nothing of Ape's: it waits for ape-foundry to be imported.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

PROVIDER = "ape_foundry.provider"


class Finder:
    """Finds ape-foundry's provider as Python does, and has its node replaced once it is loaded."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's place if it is the provider, else None."""
        if name != PROVIDER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_replace(module: ModuleType) -> None:
                load(module)
                _replace(module.FoundryProvider)

            spec.loader.exec_module = load_and_replace  # type: ignore[method-assign]
        return spec


def _replace(provider: Any) -> None:
    connect_to_what_is_named = provider.connect

    def connect(self: Any) -> None:
        """Start a node of this process's own, unless one is named."""
        if "APE_FOUNDRY_HOST" in os.environ or self.settings.host not in {None, "auto"}:
            connect_to_what_is_named(self)
        else:
            _connect(self)

    provider.connect = connect


def _connect(provider: Any) -> None:
    from ape.api.providers import SubprocessProvider, _linux_set_death_signal

    from tools.local_node import LocalNode

    def spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_linux_set_death_signal,  # noqa: PLW1509  # Ape's own: the node ends with this process
            )

    SubprocessProvider.connect(provider)  # type: ignore[no-untyped-call]  # sees to it that the node is stopped in the end.
    provider._disconnected = False
    command = provider.build_command()
    place = command.index("--port")
    with tempfile.TemporaryDirectory(prefix="creneau-node-") as folder:
        node = LocalNode(Path(folder), options=[*command[1:place], *command[place + 2 :]])
        node.start(spawn)
    provider.process = node.process
    provider._host = node.url
    provider._set_web3()
    provider.network_manager.running_nodes.cache_provider(provider)


sys.meta_path.insert(0, Finder)
