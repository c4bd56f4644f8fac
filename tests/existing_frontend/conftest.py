"""A user service of the existing kind, a chain whose time passes, and a shim between them."""

from collections.abc import Iterator

import pytest
from scene import SECRET, Scene, stack_at
from user_service import UserService, user_service

from tools.dev_stack import DevStack


@pytest.fixture(scope="session")
def users() -> Iterator[UserService]:
    with user_service(SECRET) as service:
        yield service


@pytest.fixture(scope="session")
def stack(users: UserService) -> Iterator[DevStack]:
    with stack_at(users) as stack:
        yield stack


@pytest.fixture
def scene(stack: DevStack, users: UserService) -> Iterator[Scene]:
    """A student with 1,000 EDU and a tutor, whom nobody has seen before."""
    scene = Scene(stack, users)
    scene.fund(scene.student_id, 1000)
    yield scene
    scene.close()
