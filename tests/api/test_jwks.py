"""Tokens signed by a user service whose public keys are a JWKS, at a real HTTP service with real keys."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_account.hdaccount import generate_mnemonic
from eth_account.types import Language
from fastapi import FastAPI
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import HttpUrl, ValidationError
from scenario import BATCH
from service import Answer, Service, service, serving
from waiting import PATIENCE, http, until

from api import auth, problems
from api.logs import RequestLog
from api.routes import deps, health
from api.services import Services
from api.settings import DEVELOPMENT_SECRET, Settings
from tools.dev_stack import DevStack

PATH = "/.well-known/jwks.json"
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(kid: str, key: Any = RSA, **more: Any) -> dict[str, Any]:
    kinds = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    kind: Any = next((kinds[each] for each in kinds if isinstance(key, each)), OKPAlgorithm)
    return json.loads(kind.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"} | more


def token(kid: str | None, key: Any = RSA, algorithm: str = "RS256", **claims: Any) -> str:
    body = {"sub": "nobody", "exp": datetime.now(UTC) + timedelta(hours=1)} | claims
    return jwt.encode(body, key, algorithm, headers={"kid": kid} if kid else {})


@pytest.fixture
def issuer() -> Iterator[Service]:
    with service() as running:
        running.answers[PATH] = Answer({"keys": [jwk("one")]})
        yield running


@pytest.fixture
def shim(stack: DevStack, issuer: Service, tmp_path: Path) -> Iterator[Services]:
    url = HttpUrl(issuer.url + PATH)
    with serving(
        stack, tmp_path, 41, jwt_jwks_url=url, jwks_pause_seconds=0, operators="boss, deputy"
    ) as shim:
        yield shim


def ask(shim: Services, token: str) -> tuple[int, str]:
    """Status and code of a request that goes no further than who is asking."""
    answer = http.get(
        f"http://127.0.0.1:{shim.settings.port}{BATCH}/0x{'0' * 64}",
        headers={"Authorization": f"Bearer {token}"},
    )
    return answer.status_code, answer.json()["code"]


VALID = (404, "batch_not_found")
REFUSED = (401, "invalid_token")


def test_a_token_of_the_issuer_is_who_it_says_and_the_keys_are_fetched_once(
    shim: Services, issuer: Service
) -> None:
    assert [ask(shim, token("one")) for _ in range(5)] == [VALID] * 5
    assert issuer.asked[PATH] == 1
    assert ask(shim, token("one", exp=datetime.now(UTC) - timedelta(minutes=1))) == (401, "token_expired")
    assert ask(shim, token("one", OTHER)) == REFUSED


def test_the_shared_secret_no_longer_counts(stack: DevStack, shim: Services) -> None:
    assert ask(shim, stack.token("nobody")) == REFUSED  # Names no key.
    assert ask(shim, token("one", DEVELOPMENT_SECRET, "HS256")) == REFUSED
    with pytest.raises(ValueError, match="for its secret"):
        auth.mint("nobody", shim.settings)


def test_only_the_settings_algorithms_count(shim: Services, issuer: Service) -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ", "kid": "oct", "alg": "HS256"}
    known = [jwk("one"), jwk("ec", EC), jwk("ed", ED), jwk("enc", use="enc"), secret]
    issuer.answers[PATH] = Answer({"keys": [*known, {"kty": "?"}, 7]})
    assert ask(shim, token("one")) == ask(shim, token("ec", EC, "ES256")) == VALID
    assert ask(shim, token("ed", ED, "EdDSA")) == REFUSED  # Not among them by default.
    assert ask(shim, token("one", algorithm="RS512")) == REFUSED
    assert ask(shim, token("enc")) == REFUSED
    assert ask(shim, token("oct", b"secret-secret-secret-secret-1234", "HS256")) == REFUSED
    unsigned = token("one", "", "none")
    assert ask(shim, unsigned) == REFUSED
    # The public key as if it were a shared secret.
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, _ = token("one", b"x" * 32, "HS256").rsplit(".", 1)
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    forged = jwt.utils.base64url_encode(algorithm.sign(head.encode(), pem)).decode()
    assert ask(shim, f"{head}.{forged}") == REFUSED


@pytest.mark.parametrize("strange", ["x", "a.b.c", "....", "é", "eyJhbGciOiJSUzI1NiIsImtpZCI6N30.e30.AA"])
def test_what_is_no_token_is_refused_without_asking_anybody(
    shim: Services, issuer: Service, strange: str
) -> None:
    headers = {"Authorization": f"Bearer {strange}".encode()}
    url = f"http://127.0.0.1:{shim.settings.port}{BATCH}/0x{'0' * 64}"
    assert http.get(url, headers=headers).status_code == 401  # type: ignore[arg-type]
    assert issuer.asked[PATH] == 0


def test_rotation(shim: Services, issuer: Service) -> None:
    assert ask(shim, token("one")) == VALID
    issuer.answers[PATH] = Answer({"keys": [jwk("one"), jwk("two", OTHER)]})
    assert ask(shim, token("two", OTHER)) == VALID  # An unknown id fetches.
    assert ask(shim, token("one")) == VALID
    issuer.answers[PATH] = Answer({"keys": [jwk("two", OTHER)]})
    assert ask(shim, token("one")) == VALID  # Until the keys are old.
    assert shim.keys is not None
    shim.keys._lifespan = 0
    assert ask(shim, token("one")) == REFUSED
    assert ask(shim, token("two", OTHER)) == VALID


def test_unknown_ids_do_not_hammer_the_issuer(shim: Services, issuer: Service) -> None:
    assert shim.keys is not None
    shim.keys._pause = 3600
    assert ask(shim, token("one")) == VALID
    assert [ask(shim, token(f"made-up-{i}", OTHER)) for i in range(20)] == [REFUSED] * 20
    assert issuer.asked[PATH] == 1
    shim.keys._pause = 0
    assert ask(shim, token("made-up", OTHER)) == REFUSED
    assert issuer.asked[PATH] == 2


def test_known_keys_go_on_while_the_issuer_is_down(shim: Services, issuer: Service) -> None:
    assert shim.keys is not None
    assert ask(shim, token("one")) == VALID
    issuer.stop()
    assert ask(shim, token("two", OTHER)) == (503, "keys_unavailable")
    shim.keys._lifespan = 0
    assert ask(shim, token("one")) == VALID
    shim.keys._pause = 3600  # What is not asked again is no better known.
    assert ask(shim, token("two", OTHER)) == (503, "keys_unavailable")
    shim.keys._pause = 0
    issuer.start()
    assert ask(shim, token("two", OTHER)) == REFUSED
    issuer.answers[PATH] = Answer({"keys": [jwk("two", OTHER)]})
    assert ask(shim, token("two", OTHER)) == VALID


@pytest.mark.parametrize(
    "odd",
    [
        Answer(b"<html>"),
        Answer([]),
        Answer({}),
        Answer({"keys": []}),
        Answer({"keys": 7}),
        Answer({"keys": [jwk("one", use="enc")]}),
        Answer({"keys": [1, None, {"kty": "oct"}, {"kty": []}, {"kty": "RSA", "kid": "one", "n": 7}]}),
        Answer({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"}]}),
        Answer({"keys": [jwk("one", ED)]}),
        Answer(b"[" * 100_000),
        Answer(b'{"keys":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        Answer(b" " * (256 * 1024) + json.dumps({"keys": [jwk("one")]}).encode()),
        Answer({}, 500),
        Answer({}, 302, {"Location": "/elsewhere"}),
    ],
    ids=[
        *("no json", "a list", "no keys", "an empty list", "a number", "for encryption", "not one usable"),
        *("a shared secret", "another kind", "nested", "nested keys", "huge", "a fault", "elsewhere"),
    ],
)
def test_an_issuer_that_answers_oddly_is_like_one_that_is_down(
    shim: Services, issuer: Service, odd: Answer
) -> None:
    issuer.answers["/elsewhere"] = Answer({"keys": [jwk("one")]})
    issuer.answers[PATH] = odd
    assert ask(shim, token("one")) == (503, "keys_unavailable")
    issuer.answers[PATH] = Answer({"keys": [jwk("one")]})
    assert ask(shim, token("one")) == VALID
    issuer.answers[PATH] = odd
    assert ask(shim, token("two")) == (503, "keys_unavailable")
    assert ask(shim, token("one")) == VALID


def test_an_issuer_that_hangs_holds_up_nobody_whose_key_is_known(shim: Services, issuer: Service) -> None:
    assert shim.keys is not None
    assert ask(shim, token("one")) == VALID
    shim.keys._seconds = PATIENCE
    released = threading.Event()
    issuer.answers[PATH] = Answer({"message": "too late"}, 500, waits_for=released)
    answers: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: answers.append(ask(shim, token("two", OTHER))))
    asking.start()
    until(lambda: issuer.asked[PATH] == 2)
    shim.keys._lifespan = 0  # Even an old one.
    assert ask(shim, token("one")) == VALID
    assert asking.is_alive()
    released.set()
    asking.join()
    assert answers == [(503, "keys_unavailable")]


def test_sixty_made_up_ids_and_an_issuer_that_drips_hold_up_nobody_whose_key_is_known(
    shim: Services, issuer: Service
) -> None:
    assert shim.keys is not None
    assert ask(shim, token("one")) == VALID
    shim.keys._seconds, shim.keys._lifespan, shim.keys._pause = 3, 0, 3600
    shim.keys._tried_at = float("-inf")
    issuer.answers[PATH] = Answer(drips=True)
    with ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(ask, shim, token(f"made-up-{i}", OTHER)) for i in range(60)]
        until(lambda: issuer.asked[PATH] == 2)
        assert [ask(shim, token("one")) for _ in range(5)] == [VALID] * 5
        for path in ("/readyz", "/metrics", "/livez"):
            assert http.get(f"http://127.0.0.1:{shim.settings.port}{path}").status_code == 200
        assert {each.result() for each in asked} == {(503, "keys_unavailable")}
    assert issuer.asked[PATH] == 2


@pytest.mark.parametrize("opening", [b'{"alg":"RS256","kid":', b'{"alg":"HS256","x":'])
def test_a_token_whose_header_is_nested_deeply_is_refused(shim: Services, opening: bytes) -> None:
    header = jwt.utils.base64url_encode(opening + b"[" * 2_000).decode()
    assert ask(shim, f"{header}.e30.AA") == REFUSED


def test_operators_are_named_by_the_settings(shim: Services) -> None:
    app = FastAPI()
    deps.install(app, shim, health.Recent(shim))
    app.add_middleware(RequestLog)
    problems.install(app)

    @app.get("/")
    async def act(operator: deps.Operator) -> str:
        return operator

    async def statuses() -> list[tuple[int, str]]:
        found = []
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shim") as client:
            for user in ("boss", "deputy", "boss, deputy", "other"):
                headers = {"Authorization": f"Bearer {token('one', sub=user)}"}
                answer = await client.get("/", headers=headers)
                found.append((answer.status_code, user if answer.is_success else answer.json()["code"]))
        return found

    refused = [(401, "invalid_token"), (403, "not_an_operator")]
    assert anyio.run(statuses) == [(200, "boss"), (200, "deputy"), *refused]


@pytest.mark.parametrize("wrong", ["HS256", "none", "RS256,HS256", "RS257", ","])
def test_algorithms_are_those_with_public_keys(wrong: str) -> None:
    assert Settings(_env_file=None, jwt_algorithms="PS512, EdDSA").key_algorithms == ["PS512", "EdDSA"]
    with pytest.raises(ValidationError, match="CRENEAU_JWT_ALGORITHMS are some of ES256, "):
        Settings(_env_file=None, jwt_algorithms=wrong)


def test_with_a_jwks_a_live_network_needs_no_secret() -> None:
    live: dict[str, Any] = {
        "_env_file": None,
        "chain_id": 41923,
        "mnemonic": generate_mnemonic(12, Language.ENGLISH),
    }
    live |= {"public_origin": "https://book.example.org", "jwt_audience": "creneau", "jwt_issuer": "users"}
    assert Settings(**live, jwt_jwks_url="https://users.example/jwks").jwt_jwks_url
    with pytest.raises(ValidationError, match="CRENEAU_JWT_JWKS_URL"):
        Settings(**live)
    with pytest.raises(ValidationError, match="chain 41923 is live: CRENEAU_JWT_JWKS_URL is https"):
        Settings(**live, jwt_jwks_url="http://users.example/jwks")
    with pytest.raises(ValidationError, match="chain 41923 is live: CRENEAU_DIRECTORY_URL is https"):
        Settings(**live, jwt_jwks_url="https://a.example/", directory_url="http://users.example")
    with pytest.raises(ValidationError, match="jwt_jwks_url"):
        Settings(**live, jwt_jwks_url="file:///etc/passwd")
