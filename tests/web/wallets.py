"""A browser wallet for tests: announced by EIP-6963, spoken to by EIP-1193, signing with a key of its own."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from playwright.sync_api import Page

Answer = dict[str, Any]

_ICON = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>"
_PROVIDER = """
(() => {
    const provider = {
        request: async (call) => {
            const answer = await window["%(name)s"](JSON.stringify(call));
            if (answer.silent) await new Promise(() => {});
            if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
            return answer.result;
        },
    };
    const detail = { info: { uuid: "%(name)s", name: "%(name)s", icon: "%(icon)s", rdns: "test" }, provider };
    const announce = () => dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
    addEventListener("eip6963:requestProvider", () => %(late)s ? setTimeout(announce, %(late)s) : announce());
})()
"""


@dataclass
class Wallet:
    """A wallet that keeps in `asked` what it is asked. `instead` gives other answers: an error, silence."""

    chain_id: int
    name: str = "Test wallet"
    late: int = 0  # Milliseconds until it announces itself.
    account: LocalAccount = field(default_factory=Account.create)
    instead: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    signed: list[dict[str, Any]] = field(default_factory=list)

    def install(self, page: Page) -> None:
        """Puts it into a browser."""
        page.expose_function(self.name, self._request)
        page.add_init_script(_PROVIDER % {"name": self.name, "icon": _ICON, "late": self.late})

    def _request(self, text: str) -> Answer:
        call = json.loads(text)
        self.asked.append(call["method"])
        if other := self.instead.get(call["method"]):
            return other
        answers: dict[str, Callable[[], Any]] = {
            "eth_accounts": list,  # None was shown to the page before.
            "eth_requestAccounts": lambda: [self.account.address],
            "eth_chainId": lambda: hex(self.chain_id),
            "wallet_switchEthereumChain": lambda: self._switch(call["params"][0]["chainId"]),
            "eth_signTypedData_v4": lambda: self._sign(*call["params"]),
        }
        return {"result": answers[call["method"]]()}

    def _switch(self, chain_id: str) -> None:
        self.chain_id = int(chain_id, 16)
        self.instead.pop("eth_chainId", None)

    def _sign(self, address: str, text: str) -> str:
        assert address == self.account.address
        data = json.loads(text)
        self.signed.append(data)
        return "0x" + bytes(self.account.sign_typed_data(full_message=data).signature).hex()


def installed(*wallets: Wallet) -> Callable[[Page], None]:
    """Puts all of them into a browser."""

    def install(page: Page) -> None:
        for wallet in wallets:
            wallet.install(page)

    return install


def error(code: int | str, message: str = "no", **more: Any) -> Answer:
    """An error of EIP-1193."""
    return {"error": {"code": code, "message": message, **more}}
