"""Settings, from the environment (prefix `CRENEAU_`) or a `.env` file; secrets also from files of their own.

On the local network (chain 31337 or 1337) everything secret has a development value. Anywhere else the shim
refuses to start with one.
"""

import re
from base64 import b64decode
from pathlib import Path
from typing import Literal, Self
from zoneinfo import available_timezones

from limits import parse_many
from pydantic import Field, HttpUrl, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from creneau.types import Address

LOCAL_CHAINS = frozenset({31337, 1337})
TIME_ZONES = frozenset(available_timezones())

KEY_ALGORITHMS = frozenset(
    {"EdDSA", *(f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512))}
)
"""Those with a public key. With it a shared-secret algorithm would let everybody sign."""
_ORIGIN = re.compile(r"https?://[^/*\s]+")

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
    forwarded_allow_ips: str = Field(
        default="127.0.0.1", description="proxies whose X-Forwarded-For names the client, with commas"
    )
    cors_origins: str = Field(default="", description="other origins whose pages may ask, with spaces")
    hsts_seconds: int = Field(default=0, ge=0, description="behind TLS only: browsers insist on it so long")
    address_limit: str = Field(default="600/minute", description="requests of an address, or off")
    user_limit: str = Field(default="300/minute", description="requests of a user, or off")
    user_write_limit: str = Field(default="60/minute", description="those that change something, or off")
    max_body_bytes: int = Field(default=256 * 1024, gt=0)
    max_header_bytes: int = Field(default=16 * 1024, gt=0, description="or what arrives at once, 64 KiB")
    max_connections: int = Field(default=2000, gt=0, description="at once; the others are answered 503")
    keep_alive_seconds: int = Field(default=5, gt=0, description="until an idle connection is closed")

    explorer_url: str = Field(default="", description="the page links /tx/<hash> there")
    sign_in_url: str = Field(default="", description="where the page sends who is not signed in")
    demo: bool = Field(
        default=False, description="the page is the demonstration's people's; local network only"
    )

    rpc_url: str = "http://127.0.0.1:8545"
    rpc_timeout_seconds: float = Field(default=10, gt=0, description="for the node to answer")
    chain_id: int = 31337
    escrow: Address | None = None
    max_pending_seconds: int = Field(default=300, description="a batch that waits longer is an alarm")
    deployment_block: int = Field(default=0, ge=0, description="the escrow's: before it are no events")
    max_head_age_seconds: int = Field(default=300, description="older is not ready")

    public_origin: HttpUrl | None = Field(default=None, description="of the page that users see")
    data_dir: Path = Path(".data")
    database_url: str = Field(default="", description="SQLAlchemy's; empty: SQLite in the data directory")

    metrics_token: SecretStr | None = Field(default=None, description="without: for this machine only")
    metrics_token_file: Path | None = None
    webhook_urls: str = Field(default="", description="endpoints that are told what becomes of batches")
    webhook_secret: SecretStr | None = Field(default=None, description="whsec_…, or the new and the old one")
    webhook_secret_file: Path | None = None
    webhook_timeout_seconds: float = Field(default=5, gt=0)
    webhook_retry_seconds: float = Field(default=5, gt=0, description="then four times that, and so on")
    webhook_attempts: int = Field(default=12, gt=0, description="in about a day and a half, then given up")

    jwt_secret: SecretStr | None = None
    jwt_secret_file: Path | None = None
    jwt_user_claim: str = "sub"
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    jwt_jwks_url: HttpUrl | None = Field(
        default=None, description="where the tokens' public keys are; then no secret counts"
    )
    jwt_algorithms: str = Field(default="RS256,ES256", description="of those keys, with commas between them")
    jwks_seconds: float = Field(default=300, gt=0, description="older keys are fetched again,")
    jwks_pause_seconds: float = Field(default=30, ge=0, description="but no sooner than this after the last")
    directory_url: HttpUrl | None = Field(default=None, description="of a user service; else our tables")
    directory_token: SecretStr | None = Field(default=None, description="that the user service wants")
    directory_token_file: Path | None = None
    directory_timeout_seconds: float = Field(default=3, gt=0)
    operators: str = Field(default="", description="ids of users, with commas between them")

    mnemonic: SecretStr | None = Field(default=None, description="of the custodial accounts")
    mnemonic_file: Path | None = None
    relayer: str = Field(default="", description="aliases of Ape accounts, with commas between them")
    relayer_mnemonic_index: str | int | None = Field(
        default=None, description="several, too; local network only"
    )
    arbiter: str = Field(default="", description="alias of the Ape account that decides disputes, if it may")
    arbiter_mnemonic_index: int | None = Field(default=None, description="likewise; local network only")
    lease_seconds: float = Field(
        default=5, gt=0, description="a dead process's relayer key is free after this"
    )

    time_zone: str = "Europe/Paris"
    wait_seconds: float = Field(default=30, ge=0, description="how long a request waits for its block")
    order_seconds: int = Field(
        default=600, ge=30, description="how long an order can be created; up to twice that"
    )
    prepare_seconds: int = Field(
        default=600, ge=1, description="how long a prepared batch waits for its student's signature"
    )
    finality: Literal["confirmations", "finalized"] = Field(
        default="confirmations", description="finalized: by the node's tag, where it has one"
    )
    confirmations: int = Field(default=12, ge=0, description="blocks on top that make a block final")
    poll_seconds: float = Field(default=0.05, gt=0, description="between looks for receipts")
    follow_seconds: float = Field(default=1, gt=0, description="between looks for new blocks")
    follow_blocks: int = Field(default=2_000, ge=1, description="whose events are asked for at once")
    keeper: bool = Field(default=True, description="ends lessons that are due, at the relayer's expense")
    keeper_seconds: float = Field(default=60, gt=0, description="between looks for lessons that are due")
    keeper_retry_seconds: float = Field(
        default=3600, gt=0, description="until one that failed is tried again"
    )
    max_view_lag_blocks: int = Field(default=50, ge=0, description="further behind the chain is not ready")
    resend_seconds: float = Field(default=10, gt=0, description="without a receipt, the bytes are sent again")
    bump_seconds: float = Field(default=30, gt=0, description="not in a block, a transaction is replaced")
    priority_fee_wei: int = Field(default=10**8, ge=0)
    max_fee_wei: int = Field(default=500 * 10**9, gt=0, description="never offers more per gas,")
    max_cost_wei: int = Field(default=10**18, gt=0, description="nor for a transaction,")
    max_daily_fee_wei: int = Field(default=10**19, gt=0, description="nor in 24 hours")
    min_relayer_balance_wei: int = Field(default=10**16, ge=0, description="less is not ready")

    @property
    def is_local(self) -> bool:
        """Whether this is a network of somebody's own machine, where development values are fine."""
        return self.chain_id in LOCAL_CHAINS

    @property
    def origin(self) -> str:
        """The origin that a wallet is asked to sign for."""
        return str(self.public_origin or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'creneau.db'}"

    @property
    def metrics_bearer(self) -> str:
        """What a reader of the metrics has to show; empty: nothing, from this machine."""
        return _secret(self.metrics_token, self.metrics_token_file)

    @property
    def webhook_endpoints(self) -> list[str]:
        """The URLs that webhooks go to."""
        return self.webhook_urls.split()

    @property
    def webhook_secrets(self) -> list[str]:
        """The keys that webhooks are signed with, each with all of them."""
        return _secret(self.webhook_secret, self.webhook_secret_file).split()

    @property
    def token_secret(self) -> str:
        """The key of the bearer tokens' HS256."""
        return _secret(self.jwt_secret, self.jwt_secret_file) or DEVELOPMENT_SECRET

    @property
    def key_algorithms(self) -> list[str]:
        """The algorithms of tokens that are signed with a public key's other half."""
        return _list(self.jwt_algorithms)

    @property
    def directory_bearer(self) -> str:
        """The token that the shim shows to the user service; empty: none."""
        return _secret(self.directory_token, self.directory_token_file)

    @property
    def operator_ids(self) -> frozenset[str]:
        """The users who may do what only operators may."""
        return frozenset(_list(self.operators))

    @property
    def custody_mnemonic(self) -> str:
        """The words that custodial keys are derived from."""
        return _secret(self.mnemonic, self.mnemonic_file) or DEVELOPMENT_CUSTODY

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        if self.time_zone not in TIME_ZONES:
            raise ValueError("CRENEAU_TIME_ZONE is not an IANA time zone")
        if not self.key_algorithms or not KEY_ALGORITHMS.issuperset(self.key_algorithms):
            raise ValueError(f"CRENEAU_JWT_ALGORITHMS are some of {', '.join(sorted(KEY_ALGORITHMS))}")
        for limit in (self.address_limit, self.user_limit, self.user_write_limit):
            if limit != "off":
                parse_many(limit)  # Says itself what is wrong.
        for origin in self.cors_origins.split():
            if not _ORIGIN.fullmatch(origin):
                raise ValueError("CRENEAU_CORS_ORIGINS are origins such as https://app.example.org, exact")
        self._check_webhooks()
        if len(self.token_secret) < 32:
            raise ValueError("CRENEAU_JWT_SECRET must have at least 32 characters")
        if self.is_local:
            return self
        if self.token_secret == DEVELOPMENT_SECRET and not self.jwt_jwks_url:
            raise ValueError(f"chain {self.chain_id} is live: set CRENEAU_JWT_SECRET or CRENEAU_JWT_JWKS_URL")
        if self.custody_mnemonic in {DEVELOPMENT_CUSTODY, DEVELOPMENT_ACCOUNTS}:
            raise ValueError(f"chain {self.chain_id} is live: set CRENEAU_MNEMONIC")
        for local, advice in (
            (self.demo, "CRENEAU_DEMO gives away tokens"),
            (self.relayer_mnemonic_index is not None, "name the account in CRENEAU_RELAYER"),
            (self.arbiter_mnemonic_index is not None, "name the account in CRENEAU_ARBITER"),
        ):
            if local:
                raise ValueError(f"chain {self.chain_id} is live: {advice}")
        return self

    def _check_webhooks(self) -> None:
        """Raises `ValueError`. Whom the operator names is trusted, so an address may be a private one."""
        schemes = ("https://", "http://") if self.is_local else ("https://",)
        if not all(url.startswith(schemes) for url in self.webhook_endpoints):
            raise ValueError("CRENEAU_WEBHOOK_URLS must be https, except on the local network")
        if self.webhook_endpoints and not self.webhook_secrets:
            raise ValueError("webhooks need CRENEAU_WEBHOOK_SECRET")
        try:
            keys = [b64decode(key.removeprefix("whsec_"), validate=True) for key in self.webhook_secrets]
        except ValueError:
            keys = [b""]
        if not all(24 <= len(key) <= 64 for key in keys):
            raise ValueError("CRENEAU_WEBHOOK_SECRET must be 24 to 64 bytes in base64, after whsec_")


def _secret(value: SecretStr | None, file: Path | None) -> str:
    if value is not None:
        return value.get_secret_value().strip()
    return file.read_text().strip() if file is not None else ""


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
