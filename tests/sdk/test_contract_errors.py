"""Every error of the contracts has its exception, with its arguments and a sentence for people."""

import pickle
from dataclasses import fields
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.abi import collapse_if_tuple
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from creneau import errors
from creneau.abi import contract_abi
from creneau.amounts import Token
from creneau.errors import (
    ContractError,
    LessonError,
    Panicked,
    Reverted,
    SlotError,
    TokenError,
    UnknownRevert,
    decode_revert,
)

ONE, TWO = "0x" + "11" * 20, "0x" + "22" * 20
WORD = b"\x33" * 32
NINE = 1_904_288_400  # 2030-05-06 09:00 UTC
EDU = 10**18

CASES: list[tuple[str, list[Any], str]] = [
    ("NotActor", [ONE, TWO], f"{TWO} sent this for {ONE} without a valid signature of that account."),
    ("StudentIsTutor", [ONE], f"{ONE} can't book paid lessons with itself."),
    (
        "OrderExpired",
        [NINE, NINE + 1],
        "The order expired at 2030-05-06 09:00 UTC; it is 2030-05-06 09:00:01 UTC now.",
    ),
    (
        "SignatureExpired",
        [NINE, NINE + 1],
        "The signature counted until 2030-05-06 09:00 UTC; it is 2030-05-06 09:00:01 UTC now.",
    ),
    (
        "MinLessons",
        [3, 2],
        "An order asks for at least 1 and at most all of its 2 lessons; this one asks for 3.",
    ),
    ("SlotCount", [41, 40], "An order has from 1 to 40 slots; this one has 41."),
    ("OrderExists", [WORD], f"This order was already created or revoked, as batch 0x{WORD.hex()}."),
    ("NotListed", [ONE, WORD], f"The tutor {ONE} does not offer the listing 0x{WORD.hex()}."),
    ("RateMismatch", [30 * EDU, 35 * EDU], "The tutor's rate is 35 EDU an hour; the order says 30 EDU."),
    (
        "SlotInPast",
        [0, NINE, NINE + 1],
        "The 1st slot is in the past: it starts at 2030-05-06 09:00 UTC.",
    ),
    (
        "SlotTooSoon",
        [1, NINE, NINE + 3600],
        "The 2nd slot starts at 2030-05-06 09:00 UTC; the tutor takes lessons from 2030-05-06 10:00 UTC on.",
    ),
    (
        "SlotTooFar",
        [1, NINE + 3600, NINE],
        "The 2nd slot starts at 2030-05-06 10:00 UTC; the tutor takes lessons until 2030-05-06 09:00 UTC.",
    ),
    (
        "SlotDuration",
        [2, 50, 15, 480],
        "The 3rd slot lasts 50 minutes; a lesson lasts from 15 to 480, in steps of 15.",
    ),
    ("SlotTaken", [10, NINE], "The 11th slot, at 2030-05-06 09:00 UTC, is already taken."),
    ("SlotTaken", [21, 2**40 - 1], "The 22nd slot, at unix time 1099511627775, is already taken."),
    ("SlotOverlap", [39, 12], "The 40th slot overlaps the 13th one of the same order."),
    ("TooFewFree", [1, 3], "Of the order's slots 1 are free, and it asks for at least 3."),
    (
        "UnknownBatch",
        [WORD],
        f"There is no batch 0x{WORD.hex()}: no order with these terms was created.",
    ),
    ("NoLessons", [], "No lesson was named."),
    (
        "WrongStatus",
        [1, 4, 0b1110],
        "The 2nd lesson is completed; for this it must be pending or confirmed or disputed.",
    ),
    ("WrongStatus", [0, 0, 0b10], "The 1st lesson is not booked; for this it must be pending."),
    (
        "TooLate",
        [2, NINE, NINE + 1],
        "For the 3rd lesson this was possible until 2030-05-06 09:00 UTC; it is 2030-05-06 09:00:01 UTC now.",
    ),
    (
        "TooEarly",
        [3, NINE + 60, NINE],
        "For the 4th lesson this becomes possible at 2030-05-06 09:01 UTC; it is 2030-05-06 09:00 UTC now.",
    ),
    ("ShareTooLarge", [10_001, 10_000], "A share has at most 10000 basis points; this one has 10001."),
    ("TokenWithoutCode", [ONE], f"There is no token contract at {ONE}."),
    (
        "ShareNotDefault",
        [1, 5_000],
        "Only the arbiter chooses a share of 1 basis points; anyone else resolves with 5000.",
    ),
    ("NoCredit", [ONE], f"{ONE} has no credit."),
    ("InvalidRecipient", [ONE], f"A credit can't be paid to the escrow itself, {ONE}."),
    ("PeriodOutOfRange", [0, 1, 2], "This period lasts from 1 to 2 seconds; the one given lasts 0."),
    ("ArbiterRequired", [], "The arbiter can hand over to another account, but can't leave the place empty."),
    ("OwnableInvalidOwner", [ONE], f"{ONE} can't be the owner."),
    ("OwnableUnauthorizedAccount", [ONE], f"Only the owner may do this, and {ONE} is not."),
    ("SafeERC20FailedOperation", [ONE], f"The token {ONE} refused the transfer."),
    ("ERC20InsufficientBalance", [ONE, EDU // 2, 70 * EDU], f"{ONE} has 0.5 EDU and needs 70 EDU."),
    ("ERC20InsufficientAllowance", [ONE, 0, 70 * EDU], f"{ONE} is allowed to take 0 EDU and needs 70 EDU."),
    ("ERC20InvalidApprover", [ONE], f"{ONE} can't give an allowance."),
    ("ERC20InvalidReceiver", [ONE], f"{ONE} can't receive the token."),
    ("ERC20InvalidSender", [ONE], f"{ONE} can't send the token."),
    ("ERC20InvalidSpender", [ONE], f"{ONE} can't be given an allowance."),
    ("ERC2612ExpiredSignature", [NINE], "The permit expired at 2030-05-06 09:00 UTC."),
    ("ERC2612InvalidSigner", [ONE, TWO], f"The permit of {TWO} is not signed by that account."),
    ("InvalidAccountNonce", [ONE, 7], f"The next permit of {ONE} must carry the nonce 7."),
    ("ECDSAInvalidSignature", [], "The signature is not valid."),
    ("ECDSAInvalidSignatureLength", [64], "A signature has 65 bytes; this one has 64."),
    ("ECDSAInvalidSignatureS", [WORD], f"The signature is malleable: its s is 0x{WORD.hex()}."),
    ("AddressEmptyCode", [ONE], f"There is no contract at {ONE}."),
    ("FailedCall", [], "A call inside the transaction failed without a reason."),
    ("InvalidShortString", [], "A short string of the contract is not valid."),
    ("StringTooLong", ["Creneau"], "The text is too long for the contract: 'Creneau'."),
]
DECLARED = {
    entry["name"]: entry
    for contract in ("BookingEscrow", "EduToken")
    for entry in contract_abi(contract)
    if entry["type"] == "error"
}


def revert_data(entry: dict[str, Any], values: list[Any]) -> bytes:
    types = [collapse_if_tuple(each) for each in entry["inputs"]]
    return keccak(text=f"{entry['name']}({','.join(types)})")[:4] + encode(types, values)


def snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)


@pytest.mark.parametrize(("name", "values", "sentence"), CASES)
def test_error(name: str, values: list[Any], sentence: str) -> None:
    error = decode_revert(revert_data(DECLARED[name], values), Token("EDU"))
    assert type(error) is getattr(errors, name)
    assert error.args == tuple(values)
    assert str(error) == sentence


def test_every_error_of_the_contracts_is_one_of_these() -> None:
    assert {name for name, _, _ in CASES} == set(DECLARED)


@pytest.mark.parametrize("entry", DECLARED.values(), ids=DECLARED)
def test_attributes_have_the_names_of_the_arguments(entry: dict[str, Any]) -> None:
    names = [field.name for field in fields(getattr(errors, entry["name"]))]
    renamed = {"str": "text", "from": "from_"}  # A type's name and a keyword in Python.
    assert names == [renamed.get(each["name"], snake(each["name"])) for each in entry["inputs"]]


def test_attributes() -> None:
    error = decode_revert(revert_data(DECLARED["SlotDuration"], [2, 50, 15, 480]))
    assert isinstance(error, errors.SlotDuration)
    assert (error.index, error.duration, error.step, error.max) == (2, 50, 15, 480)


def test_without_a_token_an_amount_has_no_symbol() -> None:
    error = decode_revert(revert_data(DECLARED["ERC20InsufficientAllowance"], [ONE, 5 * EDU // 2, 70 * EDU]))
    assert str(error) == f"{ONE} is allowed to take 2.5 and needs 70."


def test_families() -> None:
    def members(base: type[ContractError]) -> set[str]:
        return {name for name in DECLARED if issubclass(getattr(errors, name), base)}

    assert members(SlotError) == {name for name in DECLARED if name.startswith("Slot")} - {"SlotCount"}
    assert members(LessonError) == {"WrongStatus", "TooLate", "TooEarly"}
    assert members(TokenError) == {
        name for name in DECLARED if "ERC2" in name or name == "InvalidAccountNonce"
    }
    assert members(ContractError) == set(DECLARED)


def test_solidity_s_own_errors() -> None:
    reverted = decode_revert(keccak(text="Error(string)")[:4] + encode(["string"], ["paused"]))
    assert type(reverted) is Reverted
    assert (reverted.reason, str(reverted)) == ("paused", "The contract refused: paused")
    panicked = decode_revert(keccak(text="Panic(uint256)")[:4] + encode(["uint256"], [0x11]))
    assert type(panicked) is Panicked
    assert (panicked.code, str(panicked)) == (0x11, "The contract panicked with code 0x11.")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1",
        b"\1" * 36,
        revert_data(DECLARED["SlotTaken"], [1, 2])[:-1],
        keccak(text="Error(string)")[:4],
    ],
)
def test_what_cannot_be_read_is_unknown(data: bytes) -> None:
    error = decode_revert(data)
    assert type(error) is UnknownRevert
    assert error.data == data
    assert str(error) == f"The contract refused without a reason that is known: 0x{data.hex()}"


@given(st.sampled_from(list(DECLARED.values())), st.binary(max_size=200))
def test_decoding_never_raises(entry: dict[str, Any], rest: bytes) -> None:
    types = ",".join(collapse_if_tuple(each) for each in entry["inputs"])
    error = decode_revert(keccak(text=f"{entry['name']}({types})")[:4] + rest)
    assert isinstance(error, ContractError)
    assert str(error)


def test_errors_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(errors.SlotTaken(1, NINE)))  # noqa: S301  # our own
    assert (type(error), error.args) == (errors.SlotTaken, (1, NINE))


@pytest.mark.parametrize("name", [*DECLARED, "Reverted", "Panicked", "UnknownRevert"])
def test_the_tree_shows_every_error(name: str) -> None:
    assert errors.__doc__ is not None
    assert name in errors.__doc__
