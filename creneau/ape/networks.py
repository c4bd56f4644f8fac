"""The networks that Creneau is deployed on, and the terms of each, as data.

Names are those of ape-config.yaml, `ecosystem:network`. A live network's token and arbiter are the operator's
to name at deployment, unless they are written here.
"""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from creneau.types import Address


class Network(BaseModel):
    """The terms of deployments on one network.

    `test` networks may have an EduToken, deployed along with the escrow; the others name a token that exists.
    Of a dispute that nobody decides in time the tutor gets `default_tutor_share_bps`, half on test networks;
    the others name it, because whoever is sure to win by silence would dispute everything.
    `rpc_variable` is the environment's variable with the node's address, as ape-config.yaml has it.
    `confirmations` is how many blocks a transaction waits for until it counts.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    chain_id: int
    local: bool = False
    test: bool = True
    token: Address | None = None
    arbiter: Address | None = None
    cancel_window: timedelta = timedelta(hours=24)
    review_period: timedelta = timedelta(hours=48)
    arbitration_period: timedelta = timedelta(days=14)
    default_tutor_share_bps: int | None = Field(default=None, ge=0, le=10_000)
    confirmations: int = Field(default=2, ge=0)
    explorer: str | None = None
    rpc_variable: str | None = None


EDU_CHAIN = Network(
    name="edu-chain:mainnet",
    chain_id=41923,
    test=False,
    confirmations=5,
    explorer="https://educhain.blockscout.com",
    rpc_variable="EDU_CHAIN_RPC_URL",
)
CODEX = Network(
    name="edu-chain:codex",
    chain_id=656476,
    explorer="https://edu-chain-testnet.blockscout.com",
    rpc_variable="CODEX_RPC_URL",
)
SEPOLIA = Network(
    name="ethereum:sepolia",
    chain_id=11155111,
    explorer="https://eth-sepolia.blockscout.com",
    rpc_variable="SEPOLIA_RPC_URL",
)
LIVE = (EDU_CHAIN, CODEX, SEPOLIA)

LOCAL_CHAINS = (1337, 31337)
"""Chain ids of development nodes. A node that is reached by its URL is local too."""


def network_of(chain_id: int) -> Network | None:
    """Return the network with this chain id, or None if nothing is decided for it."""
    if chain_id in LOCAL_CHAINS:
        return Network(name="ethereum:local", chain_id=chain_id, local=True, confirmations=0)
    return next((network for network in LIVE if network.chain_id == chain_id), None)
