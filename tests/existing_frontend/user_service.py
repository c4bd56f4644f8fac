"""A user service with the routes, the answers and the habits of the one that the existing frontend has.

Users carry no `profileId`; the way from a user to a tutor's profile is a route of its own; profiles want a
token that this service signed itself; an unknown listing is a 400.
"""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import jwt

Reply = tuple[int, dict[str, Any]]


@dataclass
class UserService:
    """People and listings, served on loopback. `asked` counts the requests by path."""

    secret: str
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    listings: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""

    def add_user(self, role: str, first_name: str, last_name: str) -> str:
        """Add a person; the id."""
        user_id = str(uuid4())
        self.users[user_id] = {
            "id": user_id,
            "firstName": first_name,
            "lastName": last_name,
            "email": f"{first_name}.{last_name}@example.org".lower(),
            "role": role,
            "isVerified": True,
        }
        return user_id

    def add_profile(self, user_id: str, schedule: list[dict[str, Any]] | None = None) -> str:
        """Add a tutor's profile; its id."""
        profile_id = str(uuid4())
        self.profiles[profile_id] = {
            "id": profile_id,
            "userId": user_id,
            "specialties": ["IA"],
            "hourlyRate": "35.00",
            "rating": 4.8,
            "reviewsCount": 12,
            "isVerified": True,
            "isCompleted": True,
            "user": {name: self.users[user_id][name] for name in ("id", "firstName", "lastName", "email")},
        } | ({} if schedule is None else {"schedule": schedule})
        return profile_id

    def add_listing(self, profile_id: str, rate: str, title: str) -> str:
        """Add a listing; its id."""
        listing_id = str(uuid4())
        self.listings[listing_id] = {
            "id": listing_id,
            "tutorId": profile_id,
            "title": title,
            "description": "Réseaux de neurones",
            "subject": "Deep Learning",
            "level": "Master",
            "hourlyRate": rate,
            "teachingMode": "En ligne",
            "isActive": True,
        }
        return listing_id

    def token(self, user_id: str) -> str:
        """Return the token that this person has after signing in: the user id is the claim `id`."""
        user = self.users[user_id]
        claims = {name: user[name] for name in ("id", "email", "role")}
        return jwt.encode(claims | {"exp": datetime.now(UTC) + timedelta(days=7)}, self.secret, "HS256")

    # --- Routes ---

    def reply(self, path: str, authorization: str | None) -> Reply:
        """Answer a GET."""
        match path.strip("/").split("/"):
            case ["api", "users", user_id]:
                return _found(self.users.get(user_id), 404, "Utilisateur non trouvé")
            case ["api", "profile", "tutors", "user", user_id]:
                its = (each for each in self.profiles.values() if each["userId"] == user_id)
                return self._signed_in(authorization) or _found(next(its, None), 404, "Tuteur non trouvé")
            case ["api", "profile", "tutors", profile_id]:
                profile = self.profiles.get(profile_id)
                return self._signed_in(authorization) or _found(profile, 404, "Tuteur non trouvé")
            case ["api", "annonces", listing_id]:
                return _found(self.listings.get(listing_id), 400, "Annonce non trouvée")
        return 404, {"success": False, "message": "Route non trouvée"}

    def _signed_in(self, authorization: str | None) -> Reply | None:
        """Return the refusal of a request that is not signed in."""
        if not authorization:
            return 401, {"success": False, "message": "Token manquant", "code": "MISSING_TOKEN"}
        try:
            jwt.decode(authorization.removeprefix("Bearer "), self.secret, ["HS256"])
        except jwt.PyJWTError:
            return 401, {"success": False, "message": "Token invalide", "code": "INVALID_TOKEN"}
        return None


def _found(data: dict[str, Any] | None, missing: int, message: str) -> Reply:
    if data is None:
        return missing, {"success": False, "message": message}
    return 200, {"success": True, "data": data}


@contextmanager
def user_service(secret: str) -> Iterator[UserService]:
    """Serve an empty user service on a free port of loopback."""
    service = UserService(secret)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # Else each answer takes 40 ms: its body waits for an acknowledgement.

        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization")
            service.asked[self.path] += 1
            service.tokens.append(authorization)
            status, body = service.reply(self.path.partition("?")[0], authorization)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
