"""Settings, from the environment (prefix `CRENEAU_`) or a `.env` file; secrets also from files of their own.

On the local network (chain 31337 or 1337) everything secret has a development value. Anywhere else the shim
refuses to start with one.
"""

from pathlib import Path
from typing import Literal, Self
from zoneinfo import available_timezones

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from creneau.fields import Address

LOCAL_CHAINS = frozenset({31337, 1337})
TIME_ZONES = frozenset(available_timezones())

DEVELOPMENT_SECRET = "creneau-development-secret-of-the-local-network"  # noqa: S105  # it is public
DEVELOPMENT_CUSTODY = "abandon " * 11 + "about"
DEVELOPMENT_ACCOUNTS = "test " * 11 + "junk"  # What local nodes fund.


class Settings(BaseSettings):
    """What the operator decides."""

    model_config = SettingsConfigDict(
        env_prefix="CRENEAU_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    port: int = 8000
    log_format: Literal["console", "json"] = "console"

    rpc_url: str = "http://127.0.0.1:8545"
    chain_id: int = 31337
    escrow: Address | None = None
    max_head_age_seconds: int = Field(default=300, description="older is not ready")

    data_dir: Path = Path(".data")
    database_url: str = Field(default="", description="SQLAlchemy's; empty: SQLite in the data directory")

    jwt_secret: SecretStr | None = None
    jwt_secret_file: Path | None = None
    jwt_user_claim: str = "sub"
    jwt_audience: str | None = None
    jwt_issuer: str | None = None

    mnemonic: SecretStr | None = Field(default=None, description="of the custodial accounts")
    mnemonic_file: Path | None = None
    relayer: str = Field(default="", description="alias of an Ape account")
    relayer_mnemonic_index: int | None = Field(default=None, description="local network only")

    time_zone: str = "Europe/Paris"
    wait_seconds: float = Field(default=30, ge=0, description="how long a request waits for its block")
    order_seconds: int = Field(default=600, ge=30, description="how long a signed order can be created")
    confirmations: int = Field(default=12, ge=0, description="blocks on top that make a block final")
    poll_seconds: float = Field(default=0.05, gt=0, description="between looks for receipts")
    resend_seconds: float = Field(default=10, gt=0, description="without a receipt, the bytes are sent again")
    priority_fee_wei: int = Field(default=10**8, ge=0)
    max_fee_wei: int = Field(default=500 * 10**9, gt=0, description="never offers more per gas")
    min_relayer_balance_wei: int = Field(default=10**16, ge=0, description="less is not ready")

    @property
    def is_local(self) -> bool:
        """Whether this is a network of somebody's own machine, where development values are fine."""
        return self.chain_id in LOCAL_CHAINS

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'creneau.db'}"

    @property
    def token_secret(self) -> str:
        """The key of the bearer tokens' HS256."""
        return _secret(self.jwt_secret, self.jwt_secret_file) or DEVELOPMENT_SECRET

    @property
    def custody_mnemonic(self) -> str:
        """The words that custodial keys are derived from."""
        return _secret(self.mnemonic, self.mnemonic_file) or DEVELOPMENT_CUSTODY

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        if self.time_zone not in TIME_ZONES:
            raise ValueError("CRENEAU_TIME_ZONE is not an IANA time zone")
        if len(self.token_secret) < 32:
            raise ValueError("CRENEAU_JWT_SECRET must have at least 32 characters")
        if self.is_local:
            return self
        if self.token_secret == DEVELOPMENT_SECRET:
            raise ValueError(f"chain {self.chain_id} is live: set CRENEAU_JWT_SECRET")
        if self.custody_mnemonic in {DEVELOPMENT_CUSTODY, DEVELOPMENT_ACCOUNTS}:
            raise ValueError(f"chain {self.chain_id} is live: set CRENEAU_MNEMONIC")
        if self.relayer_mnemonic_index is not None:
            raise ValueError(f"chain {self.chain_id} is live: name the account in CRENEAU_RELAYER")
        return self


def _secret(value: SecretStr | None, file: Path | None) -> str:
    if value is not None:
        return value.get_secret_value().strip()
    return file.read_text().strip() if file is not None else ""
