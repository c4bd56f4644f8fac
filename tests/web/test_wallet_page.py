"""Booking with a wallet of one's own: what it is asked, what it may answer, and what it never gets to see."""

from typing import Any

import pytest
from browsing import BOOKING, Visit, Visits
from playwright.sync_api import Route, expect
from shown import charged_once, set_rate
from wallets import Wallet, error, installed

from api.people.directory import Annonce, User
from creneau import abi
from creneau.amounts import to_wei
from tools.dev_stack import DevStack

KEPT = "Nothing was charged, and your selection is kept."
SIGN = "eth_signTypedData_v4"


@pytest.fixture
def wallet(stack: DevStack) -> Wallet:
    return Wallet(stack.chain_id)


@pytest.fixture
def student(stack: DevStack, wallet: Wallet) -> User:
    """A student with a wallet of their own, and 1,000 EDU in it."""
    return stack.create_user("student", balance=1000, wallet=wallet.account.address)


@pytest.fixture
def annonce(stack: DevStack) -> Annonce:
    return stack.create_annonce(stack.create_user("tutor"))


@pytest.fixture
def at_review(visits: Visits, annonce: Annonce, student: User, wallet: Wallet) -> Visit:
    """Three lessons are chosen, and reviewed."""
    visit = visits.new(student, prepare=wallet.install)
    visit.choose(annonce, 0, 1, 12)
    visit.review()
    return visit


def allow(stack: DevStack, wallet: Wallet) -> None:
    """The wallet has allowed the escrow its money before."""
    address = wallet.account.address
    stack.rpc("anvil_setBalance", address, hex(10**18))
    stack.rpc("anvil_impersonateAccount", address)
    stack.send(address, stack.edu, abi.approve_data(stack.escrow, to_wei(1000)))


def test_with_an_allowance_three_lessons_are_one_signature_and_one_transaction(
    stack: DevStack, at_review: Visit, student: User, wallet: Wallet
) -> None:
    allow(stack, wallet)
    assert not [path for _, path in at_review.requests if "wallet" in path]
    at_review.see("b-review-wallet")
    with charged_once(stack, student, 105):
        at_review.confirm()
        at_review.heading("3 lessons booked")
    assert wallet.asked == ["eth_requestAccounts", "eth_chainId", SIGN]
    assert [data["primaryType"] for data in wallet.signed] == ["Order"]
    [prepare, submit] = at_review.sent("POST")
    assert prepare == f"{BOOKING}/batch/prepare"
    assert submit.endswith("/submit")


def test_without_one_the_permit_is_signed_first(
    stack: DevStack, at_review: Visit, student: User, wallet: Wallet
) -> None:
    with charged_once(stack, student, 105):
        at_review.confirm()
        at_review.heading("3 lessons booked")
    assert [data["primaryType"] for data in wallet.signed] == ["Permit", "Order"]
    assert int(wallet.signed[0]["message"]["value"]) == to_wei(105)


@pytest.mark.parametrize(
    ("method", "answer", "sentence", "name"),
    [
        (SIGN, error(4001), "You refused the signature.", "c-refused"),
        (SIGN, error(5000, "User rejected."), "You refused the signature.", "c-refused-by-walletconnect"),
        (SIGN, error("ACTION_REJECTED"), "You refused the signature.", "c-refused-by-ethers"),
        ("eth_requestAccounts", error(4001), "You refused the signature.", "c-refused-to-open"),
        ("eth_requestAccounts", error(-32002), "Your wallet is busy with an earlier question.", "c-busy"),
        ("eth_requestAccounts", {"result": ["0x" + "5" * 40]}, "has another account open than", "c-account"),
        (SIGN, error(-32603, "out of batteries"), "Your wallet says: out of batteries", "c-says"),
    ],
)
def test_what_a_wallet_does_not_do_is_said_in_a_sentence_and_can_be_tried_again(
    stack: DevStack,
    at_review: Visit,
    student: User,
    wallet: Wallet,
    method: str,
    answer: dict[str, Any],
    sentence: str,
    name: str,
) -> None:
    wallet.instead[method] = answer
    at_review.confirm()
    notice = at_review.problem(sentence)
    expect(notice).to_contain_text(KEPT)
    at_review.see(name)
    assert stack.balance(student.wallet) == to_wei(1000)
    assert not [path for path in at_review.sent("POST") if path.endswith("/submit")]
    del wallet.instead[method]
    with charged_once(stack, student, 105):
        notice.get_by_role("button", name="Try again").click()
        at_review.heading("3 lessons booked")


def test_another_network_is_said_and_changed_by_one_button(
    stack: DevStack, at_review: Visit, student: User, wallet: Wallet
) -> None:
    wallet.instead["eth_chainId"] = {"result": "0x1"}
    at_review.confirm()
    notice = at_review.problem("Your wallet is on another network than chain id 31337.")
    expect(notice).to_contain_text(KEPT)
    at_review.see("c-wrong-chain")
    assert not wallet.signed
    with charged_once(stack, student, 105):
        notice.get_by_role("button", name="Switch network").click()
        at_review.heading("3 lessons booked")
    assert "wallet_switchEthereumChain" in wallet.asked


@pytest.mark.parametrize(
    "answer",
    [
        error(4902, "Unrecognized chain ID"),
        error(-32603, "Internal error", data={"originalError": {"code": 4902}}),
    ],
)
def test_a_network_that_the_wallet_does_not_know_is_said(
    at_review: Visit, wallet: Wallet, answer: dict[str, Any]
) -> None:
    wallet.instead["eth_chainId"] = {"result": "0x1"}
    wallet.instead["wallet_switchEthereumChain"] = answer
    at_review.confirm()
    at_review.problem("is on another network").get_by_role("button", name="Switch network").click()
    notice = at_review.problem(
        "Your wallet does not know chain id 31337. Add that network to it, then try again."
    )
    expect(notice).to_contain_text(KEPT)
    del wallet.instead["wallet_switchEthereumChain"], wallet.instead["eth_chainId"]
    notice.get_by_role("button", name="Try again").click()
    at_review.heading("3 lessons booked")


def test_a_wallet_that_announces_itself_later_is_found(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User, wallet: Wallet
) -> None:
    wallet.late = 30
    visit = visits.new(student, prepare=wallet.install)
    visit.choose(annonce, 0)
    visit.review()
    with charged_once(stack, student, 35):
        visit.confirm()
        visit.heading("1 lesson booked")


def test_no_wallet_is_said(visits: Visits, annonce: Annonce, student: User) -> None:
    visit = visits.new(student)
    visit.choose(annonce, 0)
    visit.review()
    visit.confirm()
    visit.problem("No wallet was found in this browser.")
    visit.see("c-no-wallet")


def test_a_wallet_that_takes_its_time_is_waited_for_until_the_student_gives_up(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User, wallet: Wallet
) -> None:
    wallet.instead[SIGN] = {"silent": True}
    visit = visits.new(student, prepare=wallet.install)
    visit.page.clock.install()
    visit.choose(annonce, 0)
    visit.review()
    visit.confirm()
    expect(visit.page.get_by_text("1 of 2: allow the total in your wallet")).to_be_visible()
    visit.see("c-waiting")
    visit.page.wait_for_function("true")
    while SIGN not in wallet.asked:
        visit.page.wait_for_timeout(20)
    visit.page.clock.fast_forward(20_000)
    expect(visit.page.get_by_text("1 of 2: allow the total in your wallet")).to_be_visible()
    visit.page.clock.fast_forward(40_000)
    visit.problem("Your wallet has not answered for 60 seconds. Open it, or give up.")
    visit.see("c-silent")
    visit.page.clock.fast_forward(400_000)
    visit.button("Give up").click()
    expect(visit.problem("You gave up before your wallet answered.")).to_contain_text(KEPT)
    assert stack.balance(student.wallet) == to_wei(1000)


def test_of_several_wallets_one_is_chosen(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User, wallet: Wallet
) -> None:
    other = Wallet(stack.chain_id, name="Other wallet")
    visit = visits.new(student, prepare=installed(wallet, other))
    visit.choose(annonce, 0)
    visit.review()
    visit.confirm()
    expect(visit.page.get_by_role("group", name="Choose your wallet")).to_be_visible()
    visit.see("c-wallets")
    with charged_once(stack, student, 35):
        visit.button("Test wallet").click()
        visit.heading("1 lesson booked")
    assert other.asked == []


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("order", "hourlyRate", "36000000000000000000"),
        ("order", "student", "0x" + "5" * 40),
        ("order", "minLessons", 3),
        ("order", "slots", []),
        ("permit", "value", str(2**256 - 1)),
        ("permit", "spender", "0x" + "5" * 40),
    ],
)
def test_what_is_not_what_the_page_shows_is_never_signed(
    at_review: Visit, wallet: Wallet, part: str, field: str, value: object
) -> None:
    def forge(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["data"][part]["message"][field] = value
        route.fulfill(response=answer, json=body)

    at_review.page.route("**/prepare", forge)
    at_review.confirm()
    at_review.problem("What the service gave to sign is not what this page shows, so it was not signed.")
    assert wallet.asked == []


def test_a_reload_after_signing_sends_the_same_signatures_again(
    stack: DevStack, at_review: Visit, student: User, wallet: Wallet
) -> None:
    arrived: list[str] = []

    def swallow(route: Route) -> None:
        arrived.append(route.request.post_data or "")
        if len(arrived) > 1:
            route.continue_()
        else:
            route.fetch()  # It arrives, and its answer does not.

    at_review.page.route("**/submit", swallow)
    with charged_once(stack, student, 105):
        at_review.confirm()
        expect(at_review.page.get_by_text("Sending your booking…")).to_be_visible()
        while not arrived:
            at_review.page.wait_for_timeout(20)
        at_review.page.reload()
        at_review.heading("3 lessons booked")
    assert arrived == [arrived[0]] * 2
    assert len(wallet.signed) == 2


def test_a_price_that_changed_is_said_before_the_wallet_opens(
    stack: DevStack, at_review: Visit, annonce: Annonce, wallet: Wallet
) -> None:
    at_review.expects_refusals = True
    set_rate(stack, annonce, 40)
    at_review.confirm()
    at_review.problem("The price has changed.")
    assert wallet.asked == []


def test_a_lesson_is_cancelled_with_a_signature(
    stack: DevStack, at_review: Visit, student: User, wallet: Wallet
) -> None:
    at_review.confirm()
    at_review.heading("3 lessons booked")
    at_review.open("/bookings")
    at_review.page.get_by_role("button", name="Cancel:").first.click()
    at_review.page.get_by_role("button", name="Cancel the lesson:").click()
    expect(at_review.page.locator(".badge.CANCELLED")).to_have_count(1)
    assert wallet.signed[-1]["primaryType"] == "Cancel"
    assert stack.balance(student.wallet) == to_wei(1000 - 70)


def test_an_act_is_signed_by_the_wallet_that_has_the_account(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User, wallet: Wallet
) -> None:
    other = Wallet(stack.chain_id, name="Another wallet")
    visit = visits.new(student, prepare=installed(other, wallet))
    visit.choose(annonce, 0, 1)
    visit.review()
    visit.confirm()
    visit.button("Test wallet").click()
    visit.heading("2 lessons booked")
    visit.open("/bookings")
    visit.button("Cancel 2 lessons").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Cancel 2 lessons").click()
    expect(visit.page.locator(".badge.CANCELLED")).to_have_count(2)
    assert wallet.signed[-1]["primaryType"] == "Cancel"
    assert int(wallet.signed[-1]["message"]["lessons"]) == 3
    assert other.signed == []
    assert stack.balance(student.wallet) == to_wei(1000)
