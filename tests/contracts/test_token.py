"""`EduToken`: an ordinary ERC-20 with permits, minted by its owner."""

from ape import project
from helpers import call, deploy, event, reverts, send, sign_permit
from market import DEADLINE, NOBODY, NOW, Market

EDU = 10**18


def test_only_the_owner_mints(market: Market) -> None:
    for sender in (market.student, market.tutor):
        with reverts("OwnableUnauthorizedAccount", account=sender):
            send(market.token.mint, sender, EDU, sender=sender)


def test_nobody_owns_nothing_and_receives_nothing(market: Market) -> None:
    with reverts("OwnableInvalidOwner", owner=NOBODY):
        deploy(project.EduToken, NOBODY, sender=market.deployer)
    with reverts("ERC20InvalidReceiver", receiver=NOBODY):
        send(market.token.mint, NOBODY, EDU, sender=market.deployer)


def test_the_owner_mints(market: Market) -> None:
    token, supply = market.token, call(market.token.totalSupply)
    receipt = send(token.mint, market.tutor, EDU, sender=market.deployer)
    assert receipt.events == [event(token, "Transfer", **{"from": NOBODY, "to": market.tutor, "value": EDU})]
    assert (market.balance(market.tutor), call(token.totalSupply)) == (EDU, supply + EDU)


def test_it_says_what_it_is(market: Market) -> None:
    token = market.token
    assert (call(token.name), call(token.symbol), call(token.decimals)) == ("Creneau test EDU", "EDU", 18)
    assert call(token.owner) == market.deployer.address


def test_transfers_need_money_and_allowance(market: Market) -> None:
    token, tutor, stranger = market.token, market.tutor, market.stranger
    with reverts("ERC20InsufficientBalance", sender=tutor, balance=0, needed=1):
        send(token.transfer, stranger, 1, sender=tutor)
    with reverts("ERC20InsufficientAllowance", spender=stranger, allowance=0, needed=1):
        send(token.transferFrom, market.student, stranger, 1, sender=stranger)


def test_transfers_move_money(market: Market) -> None:
    token, student, tutor = market.token, market.student, market.tutor
    had = market.balance(student)
    send(token.transfer, tutor, 3, sender=student)
    send(token.approve, tutor, 5, sender=student)
    send(token.transferFrom, student, tutor, 4, sender=tutor)
    assert (market.balance(student), market.balance(tutor)) == (had - 7, 7)
    assert call(token.allowance, student, tutor) == 1


def test_a_permit_expires(market: Market) -> None:
    token, student, tutor = market.token, market.student, market.tutor
    permit = sign_permit(token, student, tutor, 7, deadline=NOW + 600).as_abi()
    with reverts("ERC2612ExpiredSignature", deadline=NOW + 600):
        send(token.permit, student, tutor, *permit, sender=tutor, at=NOW + 601)


def test_a_permit_is_signed_by_its_owner(market: Market) -> None:
    token, student, tutor, stranger = market.token, market.student, market.tutor, market.stranger
    forged = sign_permit(token, stranger, tutor, 7, deadline=DEADLINE, owner=student).as_abi()
    with reverts("ERC2612InvalidSigner", signer=stranger, owner=student):
        send(token.permit, student, tutor, *forged, sender=tutor)


def test_a_permit_allows_what_it_says(market: Market) -> None:
    token, student, tutor = market.token, market.student, market.tutor
    permit = sign_permit(token, student, tutor, 7, deadline=NOW + 600).as_abi()
    receipt = send(token.permit, student, tutor, *permit, sender=market.stranger, at=NOW + 600)
    assert receipt.events == [event(token, "Approval", owner=student, spender=tutor, value=7)]
    assert (call(token.allowance, student, tutor), call(token.nonces, student)) == (7, 1)
