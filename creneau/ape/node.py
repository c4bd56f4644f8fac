"""Calls to a node by web3, with reverts as the contracts' errors."""

from typing import Any

from web3 import Web3
from web3.exceptions import ContractLogicError

from creneau.abi import call_data, decode_result
from creneau.amounts import Token
from creneau.errors import ContractError, decode_revert
from creneau.types import to_hex


def call(web3: Web3, to: str | None, data: bytes, *, sender: str | None = None) -> bytes:
    """Return the answer to a call now; `to` is None for the creation of a contract.

    Raises the `ContractError` that it reverts with.
    """
    transaction: dict[str, Any] = {"data": to_hex(data)}
    if to is not None:
        transaction["to"] = to
    if sender is not None:
        transaction["from"] = sender
    try:
        return bytes(web3.eth.call(transaction))  # type: ignore[arg-type]  # has no required keys
    except ContractLogicError as error:
        # Some nodes give no data, or text, where nothing was returned.
        reverted = error.data if isinstance(error.data, str) and error.data.startswith("0x") else "0x"
        raise decode_revert(bytes.fromhex(reverted[2:])) from None


def token_of(web3: Web3, address: str) -> Token:
    """Return the symbol and the decimal places of an ERC-20.

    Both are optional there (EIP-20): a token without them has no symbol, and the decimal places of Creneau.
    """
    try:
        [symbol], [decimals] = (
            decode_result("EduToken", name, call(web3, address, call_data("EduToken", name)))
            for name in ("symbol", "decimals")
        )
    except (ContractError, ValueError):
        return Token()
    return Token(symbol, decimals)
