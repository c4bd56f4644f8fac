"""Settings, from the environment (prefix `CRENEAU_`) or a `.env` file; secrets also from files of their own.

On the local network (chain 31337 or 1337) everything secret has a development value. Anywhere else the shim
refuses to start with one.
"""

import re
from base64 import b64decode
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from eth_account.hdaccount import seed_from_mnemonic
from eth_utils.exceptions import ValidationError as InvalidMnemonic
from limits import parse_many
from pydantic import Field, HttpUrl, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from creneau import published
from creneau.types import Address

LOCAL_CHAINS = frozenset({31337, 1337})
TIME_ZONES = frozenset(available_timezones())

KEY_ALGORITHMS = frozenset(
    {"EdDSA", *(f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512))}
)
"""Algorithms with a public key. With such a key a shared-secret algorithm would let everybody sign."""
_ORIGIN = re.compile(r"https?://[^/*\s]+")
_NODE = re.compile(r"https?://[^/\s\[\]\"']+(/\S*)?", re.IGNORECASE)
_SIGNER = re.compile(
    r"https?://([^/?#\s:@\[\]\"']+:[^/?#\s:@\[\]\"']+@)?[\w.-]+(:\d{1,5})?(/[\w./~-]*)?", re.ASCII
)
_DRIVERS = frozenset({"sqlite", "postgresql+psycopg"})

DEVELOPMENT_SECRET = "creneau-development-secret-of-the-local-network"  # noqa: S105  # it is public
DEVELOPMENT_CUSTODY = "abandon " * 11 + "about"
DEVELOPMENT_ACCOUNTS = "test " * 11 + "junk"  # What local nodes fund.


_TOKENS = ("directory_token", "metrics_token")
_SECRETS = ("jwt_secret", "mnemonic", "keyfile_passphrase", "signer_url", "webhook_secret", *_TOKENS)
_LEAST_HIDDEN = 8
"""Characters of what is hidden in logs: shorter parts of addresses are words such as `rpc`."""

SECTIONS = {
    "rpc_url": "Chain",
    "database_url": "Database",
    "host": "Requests",
    "jwt_secret": "Who is who",
    "mnemonic": "Keys",
    "order_seconds": "Sending",
    "follow_seconds": "Reading",
    "max_pending_seconds": "What is ready",
    "webhook_urls": "Webhooks",
    "public_origin": "The page",
}
"""The headings of docs/settings.md, each by its first setting."""


class Settings(BaseSettings):
    """The settings of one service."""

    model_config = SettingsConfigDict(
        env_prefix="CRENEAU_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        str_strip_whitespace=True,
        use_attribute_docstrings=True,
    )

    # Chain
    rpc_url: str = Field(default="http://127.0.0.1:8545", repr=False)
    """Address of the node."""
    rpc_timeout_seconds: float = Field(default=10, gt=0)
    """Seconds until a call to the node has failed."""
    chain_id: int = 31337
    """The chain; the shim does not start if the node serves another one. 31337 and 1337 are local: only
    there development values are taken."""
    escrow: Address | None = None
    """The contract's address."""
    deployment_block: int = Field(default=0, ge=0)
    """Block of the contract's deployment; there are no events before it."""
    finality: Literal["confirmations", "finalized"] = "confirmations"
    """`confirmations`, or `finalized`: by the node's tag."""
    confirmations: int = Field(default=12, ge=0)
    """Blocks on top that make a block final."""

    # Database
    database_url: str = Field(default="", repr=False)
    """SQLAlchemy's URL, as `postgresql+psycopg://user@host/creneau`; without one, SQLite."""
    data_dir: Path = Path(".data")
    """Folder of SQLite's file."""

    # Requests
    host: str = "127.0.0.1"
    """The address to listen at."""
    port: int = 8000
    """The port."""
    forwarded_allow_ips: str = "127.0.0.1"
    """Proxies whose `X-Forwarded-For` names the client, with commas."""
    cors_origins: str = ""
    """Other origins whose pages may ask, with spaces."""
    hsts_seconds: int = Field(default=0, ge=0)
    """Seconds for which browsers insist on TLS; behind TLS only."""
    address_limit: str = "600/minute"
    """Requests of an address, or `off`."""
    user_limit: str = "300/minute"
    """Requests of a user, or `off`."""
    user_write_limit: str = "60/minute"
    """Requests of a user that change something, or `off`."""
    max_body_bytes: int = Field(default=256 * 1024, gt=0)
    """Largest body of a request; a larger one is 413."""
    max_header_bytes: int = Field(default=16 * 1024, gt=0)
    """Largest headers of a request."""
    max_connections: int = Field(default=2000, gt=0)
    """Connections at once, as far as the limit of open files goes. A further one closes the one that waits
    for its client longest; if all are being answered, it is answered 503."""
    max_address_connections: int = Field(default=100, gt=0)
    """Connections of an address at once; of a proxy in `CRENEAU_FORWARDED_ALLOW_IPS`, any number."""
    receive_seconds: float = Field(default=10, gt=0)
    """Seconds until a connection is closed whose client sends no request or half of one, or does not read."""
    keep_alive_seconds: int = Field(default=5, gt=0)
    """Seconds until an idle connection is closed."""
    drain_seconds: float = Field(default=3, ge=0)
    """Seconds for which a process that is told to stop goes on, with 503 at `/readyz`."""
    wait_seconds: float = Field(default=20, ge=0)
    """Seconds for which a request waits for its block, before it is answered 202."""
    repeat_seconds: float = Field(default=900, ge=0)
    """Seconds for which the same booking without a key, sent again, is the same batch."""
    log_format: Literal["console", "json"] = "console"
    """`console`, or `json`."""

    # Who is who
    jwt_secret: SecretStr | None = None
    """Secret of the tokens (HS256), 32 characters at least."""
    jwt_secret_file: Path | None = None
    """File of that secret."""
    jwt_jwks_url: HttpUrl | None = None
    """Address of the tokens' public keys; with one, no secret counts."""
    jwt_algorithms: str = "RS256,ES256"
    """Algorithms of those keys, with commas."""
    jwks_seconds: float = Field(default=300, gt=0)
    """Seconds after which keys are fetched again."""
    jwks_pause_seconds: float = Field(default=30, ge=0)
    """Seconds between two fetches, at least."""
    jwt_user_claim: str = "sub"
    """The claim that is the user's id."""
    jwt_audience: str | None = None
    """Required `aud` of a token; a live network needs one."""
    jwt_issuer: str | None = None
    """Required `iss` of a token; a live network needs one."""
    directory_url: HttpUrl | None = None
    """Address of the user service; without one, the service's own tables."""
    directory_token: SecretStr | None = None
    """Bearer token for the user service."""
    directory_token_file: Path | None = None
    """File of that token."""
    directory_forwards_token: bool = False
    """Forwarding of the caller's token to the user service, in place of the service's own."""
    directory_timeout_seconds: float = Field(default=3, gt=0)
    """Seconds until the user service has failed."""
    operators: str = ""
    """Ids of users who may read bookings and decide disputes, with commas."""
    time_zone: str = "Europe/Paris"
    """Time zone of listings and requests that name none."""

    # Keys
    mnemonic: SecretStr | None = None
    """Mnemonic of the custodial accounts."""
    mnemonic_file: Path | None = None
    """File of that mnemonic."""
    keyfile_dir: Path | None = None
    """Folder of encrypted keyfiles, `<user id>.json`, of custodial accounts that there were before."""
    keyfile_passphrase: SecretStr | None = None
    """Passphrase of those keyfiles."""
    keyfile_passphrase_file: Path | None = None
    """File of that passphrase."""
    signer_url: SecretStr | None = None
    """Address of a remote signer (Web3Signer), perhaps with user and password; https on live networks, unless
    it is on this machine."""
    signer_url_file: Path | None = None
    """File of that address."""
    signer_timeout_seconds: float = Field(default=3, gt=0)
    """Seconds until the remote signer has failed."""
    signer_accounts: Path | None = None
    """File of the custodial accounts whose keys it has, `<user id> <address>` a line."""
    relayer: str = ""
    """Accounts that send and pay gas, with commas, one for each process: aliases of Ape accounts, addresses
    of keys that the remote signer has, or paths (BIP-44) of the mnemonic."""
    relayer_mnemonic_index: str | int | None = None
    """Development accounts instead; local network only."""
    arbiter: str = ""
    """The account that decides disputes, if the shim shall have it; named like the relayer's."""
    arbiter_mnemonic_index: int | None = None
    """A development account instead; local network only."""
    lease_seconds: float = Field(default=5, gt=0)
    """Seconds without a sign of its process until a relayer's key is taken over."""

    # Sending
    order_seconds: int = Field(default=600, ge=30)
    """Seconds for which an order can be created, at least; at most twice that."""
    prepare_seconds: int = Field(default=600, ge=1)
    """Seconds for which a prepared batch waits for its student's signature."""
    act_seconds: int = Field(default=600, ge=60)
    """Seconds for which the signature of an act counts; one that runs out is signed anew."""
    priority_fee_wei: int = Field(default=10**8, ge=0)
    """Offer to the block's proposer, for a unit of gas."""
    max_fee_wei: int = Field(default=500 * 10**9, gt=0)
    """Highest offer for a unit of gas."""
    max_cost_wei: int = Field(default=10**18, gt=0)
    """Highest cost of a transaction."""
    max_daily_fee_wei: int = Field(default=10**19, gt=0)
    """Highest cost of 24 hours."""
    poll_seconds: float = Field(default=0.05, gt=0)
    """Seconds between looks for receipts."""
    resend_seconds: float = Field(default=10, gt=0)
    """Seconds without a receipt until the same bytes are sent again."""
    bump_seconds: float = Field(default=30, gt=0)
    """Seconds without a block until a transaction offers more."""
    keeper: bool = True
    """End lessons that are due, at the relayer's expense."""
    keeper_seconds: float = Field(default=60, gt=0)
    """Seconds between looks for lessons that are due."""
    keeper_retry_seconds: float = Field(default=3600, gt=0)
    """Seconds until a lesson that failed is tried again."""
    keeper_wait_seconds: int = Field(default=86_400, ge=0)
    """Seconds for which a lesson that is due waits for later ones of its batch, to share a transaction."""
    keeper_token_price: Decimal = Field(default=Decimal(1), ge=0)
    """Price of a token in the chain's currency: what is worth less than its gas is left to its people."""

    # Reading
    follow_seconds: float = Field(default=1, gt=0)
    """Seconds between looks for new blocks."""
    follow_blocks: int = Field(default=2_000, ge=1)
    """Blocks whose events are asked for at once, at most."""

    # What is ready
    max_pending_seconds: int = 300
    """Seconds after which a waiting batch is an alarm in `/readyz`."""
    max_head_age_seconds: int = 300
    """Seconds; a node whose newest block is older is not ready. Not on the local network."""
    max_view_lag_blocks: int = Field(default=50, ge=0)
    """A view further behind the chain is not ready."""
    min_relayer_balance_wei: int = Field(default=10**16, ge=0)
    """A relayer with less is not ready."""
    metrics_token: SecretStr | None = None
    """Bearer token that may read `/metrics`; without one: programs on this machine only."""
    metrics_token_file: Path | None = None
    """File of that token."""

    # Webhooks
    webhook_urls: str = Field(default="", repr=False)
    """Endpoints that are told the outcomes of batches, with spaces; https on live networks."""
    webhook_secret: SecretStr | None = None
    """`whsec_` and 24 to 64 bytes in base64; or the new and the old secret, with a space."""
    webhook_secret_file: Path | None = None
    """File of that secret."""
    webhook_timeout_seconds: float = Field(default=5, gt=0)
    """Seconds until an attempt has failed."""
    webhook_retry_seconds: float = Field(default=5, gt=0)
    """Seconds until the second attempt; then four times that, and so on, six hours at most."""
    webhook_attempts: int = Field(default=12, gt=0)
    """Attempts until the message is given up."""

    # The page
    public_origin: HttpUrl | None = None
    """Origin of the page that users see: wallets sign for it. On the local network else host and port."""
    explorer_url: str = ""
    """Address to which the page links transactions: `/tx/<hash>` is added."""
    sign_in_url: str = ""
    """Address to which the page sends people to sign in; they come back with `#token=…`."""
    demo: bool = False
    """Give away the tokens of the demonstration's people; local network only."""

    @property
    def is_local(self) -> bool:
        """True on a network of one's own machine, where development values are taken."""
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
        """The token that a reader of the metrics has to show; empty: none, from this machine."""
        return self._secret("metrics_token")

    @property
    def webhook_endpoints(self) -> list[str]:
        """The URLs that webhooks go to."""
        return self.webhook_urls.split()

    @property
    def webhook_secrets(self) -> list[str]:
        """The keys of webhooks; each message is signed with all of them."""
        return self._secret("webhook_secret").split()

    @property
    def token_secret(self) -> str:
        """The key of the bearer tokens' HS256."""
        return self._secret("jwt_secret") or DEVELOPMENT_SECRET

    @property
    def key_algorithms(self) -> list[str]:
        """The algorithms of tokens that are signed with a public key's other half."""
        return _list(self.jwt_algorithms)

    @property
    def directory_bearer(self) -> str:
        """The token for the user service; empty: none."""
        return self._secret("directory_token")

    @property
    def operator_ids(self) -> frozenset[str]:
        """The users who may do what only operators may."""
        return frozenset(_list(self.operators))

    @property
    def custody_mnemonic(self) -> str:
        """The words that custodial keys are derived from."""
        return " ".join(self._secret("mnemonic").lower().split()) or DEVELOPMENT_CUSTODY

    @property
    def keyfiles_secret(self) -> str:
        """The passphrase of imported custodial accounts."""
        return self._secret("keyfile_passphrase")

    @property
    def signer(self) -> str:
        """The remote signer's address; empty: there is none."""
        return self._secret("signer_url")

    @property
    def custody_seed(self) -> bytes:
        """The seed (BIP-39) of the custodial keys. Raises `ValueError`, with no word of the mnemonic."""
        try:
            return seed_from_mnemonic(self.custody_mnemonic, "")
        except InvalidMnemonic:
            raise ValueError(
                "CRENEAU_MNEMONIC is no mnemonic (BIP-39): 12 to 24 words with a checksum, without quotes;"
                " is a word misspelt, left out or in another place?"
            ) from None

    @property
    def hidden(self) -> list[str]:
        """The values, and the keys in addresses, that no line of a log may show; the longest first."""
        found = {self.custody_mnemonic, self.token_secret, *self.webhook_secrets}
        found |= {self._secret(name) for name in _SECRETS}
        found.add(make_url(self.database).password or "")
        for url in map(urlsplit, (self.rpc_url, self.signer, *self.webhook_endpoints)):
            parts = re.split(r"[/?&=]", f"{url.path}?{url.query}")
            found |= {url.password or "", *parts}
        return sorted((each for each in found if len(each) >= _LEAST_HIDDEN), key=len, reverse=True)

    def _secret(self, name: str) -> str:
        """Return a secret, or the text of its file; white space around it does not count."""
        value, file = getattr(self, name), getattr(self, f"{name}_file")
        if value is not None:
            return str(value.get_secret_value()).strip()
        if file is None:
            return ""
        try:
            return str(file.read_text("utf-8-sig")).strip()
        except OSError as error:
            why = error.strerror
        except UnicodeError:
            why = "it is no text in UTF-8"
        raise ValueError(f"CRENEAU_{name.upper()}_FILE names {file}, which can't be read: {why}")

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
        self._check_addresses()
        self._check_signer()
        self._check_webhooks()
        self._check_secrets()
        if self.is_local:
            return self
        if self.token_secret == DEVELOPMENT_SECRET and not self.jwt_jwks_url:
            raise ValueError(f"chain {self.chain_id} is live: set CRENEAU_JWT_SECRET or CRENEAU_JWT_JWKS_URL")
        if published.is_published(self.custody_seed):
            raise ValueError(f"chain {self.chain_id} is live: set CRENEAU_MNEMONIC; everybody has this one")
        for local, advice in (
            (self.demo, "CRENEAU_DEMO gives away tokens"),
            (_is_plain(self.jwt_jwks_url), "CRENEAU_JWT_JWKS_URL is https"),
            (_is_plain(self.directory_url), "CRENEAU_DIRECTORY_URL is https"),
            (self.relayer_mnemonic_index is not None, "name the account in CRENEAU_RELAYER"),
            (self.arbiter_mnemonic_index is not None, "name the account in CRENEAU_ARBITER"),
        ):
            if local:
                raise ValueError(f"chain {self.chain_id} is live: {advice}")
        self._check_names()
        return self

    def _check_names(self) -> None:
        """Raise `ValueError` if wallets would sign for a host and a port, or any token of the secret did."""
        for name in ("public_origin", "jwt_audience", "jwt_issuer"):
            if getattr(self, name) is None:
                raise ValueError(f"chain {self.chain_id} is live: set CRENEAU_{name.upper()}")

    def _check_secrets(self) -> None:
        """Raise `ValueError` for a secret that can't work; it does not show it."""
        for name in ("jwt_secret", "keyfile_passphrase", *_TOKENS):
            if not self._secret(name).isprintable():  # Ordinary spaces are.
                raise ValueError(f"CRENEAU_{name.upper()} has a line break or an unusual space in it")
        for name in _TOKENS:
            if not self._secret(name).isascii():
                raise ValueError(f"CRENEAU_{name.upper()} has a letter beyond ASCII in it")
        if len(self.token_secret) < 32:
            raise ValueError("CRENEAU_JWT_SECRET must have at least 32 characters")
        _ = self.custody_seed

    def _check_addresses(self) -> None:
        """Raise `ValueError` unless the addresses of node and database are some; it does not show them."""
        if not _NODE.fullmatch(self.rpc_url):
            raise ValueError("CRENEAU_RPC_URL must be an address such as http://127.0.0.1:8545")
        try:
            driver = make_url(self.database).drivername
        except (ArgumentError, ValueError):
            driver = ""
        if driver not in _DRIVERS:
            raise ValueError(
                "CRENEAU_DATABASE_URL must be an address such as postgresql+psycopg://user@host/creneau, with"
                " signs of the password such as / and @ percent-encoded"
            )

    def _check_signer(self) -> None:
        """Raise `ValueError` unless the address of the remote signer is one; it does not show it."""
        if self.signer and not _SIGNER.fullmatch(self.signer):
            raise ValueError(
                "CRENEAU_SIGNER_URL must be an address such as https://user:password@signer.example.org:9000,"
                " with signs of the password such as / and @ percent-encoded"
            )
        if self.signer.startswith("http:") and not (self.is_local or _is_near(self.signer)):
            raise ValueError(
                f"chain {self.chain_id} is live: CRENEAU_SIGNER_URL is https, or on this machine"
            )

    def _check_webhooks(self) -> None:
        """Raise `ValueError` unless webhooks can be sent. Operators may name private addresses."""
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


def _is_plain(url: HttpUrl | None) -> bool:
    return url is not None and url.scheme != "https"


def _is_near(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
