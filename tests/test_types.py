"""The type checker sees through the seams: routes, services, problems."""

import re
from pathlib import Path

import pytest
from mypy import api as mypy

ROOT = Path(__file__).parents[1]
PROGRAM = """
from api.errors import Code, Problem
from api.routes.deps import CurrentUser, ServicesDep

def route(services: ServicesDep, user: CurrentUser) -> Problem:
    services.lessons.{method}(user, user)
    return Problem(Code.{code}, seconds={seconds})
"""


@pytest.mark.parametrize(
    ("method", "code", "seconds", "errors"),
    [
        ("stats", "TOO_MANY_REQUESTS", "1", []),
        ("staats", "TOO_MANY_REQUESTS", "1", ['"LessonQueries" has no attribute "staats"']),
        ("stats", "TOO_MANY", "1", ['"type[Code]" has no attribute "TOO_MANY"']),
        (
            "stats",
            "TOO_MANY_REQUESTS",
            '"1"',
            ['Argument "seconds" to "Problem" has incompatible type "str"; expected "int"'],
        ),
    ],
)
def test_the_checker_notices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str, code: str, seconds: str, errors: list[str]
) -> None:
    monkeypatch.chdir(ROOT)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(method=method, code=code, seconds=seconds))
    out, refused, _ = mypy.run(["--config-file", str(ROOT / "pyproject.toml"), str(program)])
    assert refused == ""
    assert re.findall(r": error: (.*?)(?:; maybe .*)?  \[", out) == errors


def test_only_the_dependencies_of_routes_know_the_applications_state() -> None:
    rooms = [path for path in (ROOT / "api").rglob("*.py") if "app.state" in path.read_text()]
    assert [path.relative_to(ROOT).as_posix() for path in rooms] == ["api/routes/deps.py"]
