"""The descriptor for hardware wallets (ERC-7730): every signed struct, and every field of each."""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

from creneau.typed_data import DOMAIN_NAME, DOMAIN_VERSION, TYPES

DESCRIPTOR: dict[str, Any] = json.loads(files("creneau").joinpath("artifacts", "erc7730.json").read_text())
SIGNED = sorted(
    TYPES.keys() - {"EIP712Domain", "Slot", "Permit"}
)  # The token's permit is the token's to show.
FORMATS = {"address": {"addressName"}, "bool": {"raw"}, "bytes32": {"raw"}}
NUMBERS = {"raw", "date", "duration"}


def fields(struct: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The paths of a struct's fields, arrays of structs opened, and their types."""
    for name, type_ in TYPES[struct].items():
        if type_.endswith("[]"):
            yield from fields(type_[:-2], f"{prefix}{name}.[].")
        else:
            yield prefix + name, type_


def test_it_is_of_this_domain_and_of_every_struct() -> None:
    context = DESCRIPTOR["context"]["eip712"]
    assert context["domain"] == {"name": DOMAIN_NAME, "version": DOMAIN_VERSION}
    assert sorted(each["primaryType"] for each in context["schemas"]) == SIGNED
    assert sorted(DESCRIPTOR["display"]["formats"]) == SIGNED


@pytest.mark.parametrize("struct", SIGNED)
def test_its_types_are_those_that_are_signed(struct: str) -> None:
    [schema] = [each for each in DESCRIPTOR["context"]["eip712"]["schemas"] if each["primaryType"] == struct]
    names = {"EIP712Domain", struct} | {
        type_[:-2] for type_ in TYPES[struct].values() if type_.endswith("[]")
    }
    assert schema["types"] == {
        name: [{"name": field, "type": type_} for field, type_ in TYPES[name].items()] for name in names
    }


@pytest.mark.parametrize("struct", SIGNED)
def test_it_shows_every_field_in_a_form_of_its_type(struct: str) -> None:
    display = DESCRIPTOR["display"]["formats"][struct]
    expected = dict(fields(struct))
    assert display["intent"]
    assert [field["path"] for field in display["fields"]] == display["required"] == [*expected]
    for field in display["fields"]:
        assert field["label"]
        assert field["format"] in FORMATS.get(expected[field["path"]], NUMBERS), field
