"""The outbox and its batches as typed records. Each function joins the caller's connection or transaction."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from api.booking.models import Batch, BatchResult
from api.db.tables import attempts, batches, leases, now, transactions, webhooks
from api.outbox.models import (
    IN_BLOCK,
    IN_FLIGHT,
    TRANSITIONS,
    UNSETTLED,
    Attempt,
    InFlight,
    Lease,
    Receipt,
    Settlement,
    SignedAttempt,
    State,
    Submission,
    TransactionKind,
)

_INSERTS: Mapping[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_FACTS = ("state", "transaction_hash", "block_number", "gas_used", "code", "detail", "updated_at")
_BATCHES = select(batches, *(transactions.c[name] for name in _FACTS)).join(
    transactions, transactions.c.id == batches.c.id
)
_IN_FLIGHT = select(
    *transactions.c["id", "kind", "request_id", "state", "signer", "nonce", "expires"],
    *transactions.c["created_at", "transaction_hash"],
    *attempts.c["raw", "gas", "max_fee", "priority_fee", "is_noop"],
).join(attempts, attempts.c.hash == transactions.c.transaction_hash)
_UNSIGNED = dict.fromkeys(("signer", "nonce", "transaction_hash"))
_UNMINED = dict.fromkeys(("block_number", "block_hash", "gas_used", "fee", "succeeded", "code", "detail"))
_NOT_BOOKED = {"booked": None, "left_out": None}


def require_writable(db: Connection) -> None:
    """Write something, and take it back. Raises `SQLAlchemyError` if the database can't be written.

    SQLite does not write at all what is there already.
    """
    db.execute(insert(leases).values(address="", owner="", renewals=0))
    db.execute(delete(leases).where(leases.c.address == ""))


# --- Batches ---


def batch(db: Connection, batch_id: str) -> Batch | None:
    """Return a batch by its id."""
    return batches_by_id(db, [batch_id]).get(batch_id)


def batches_by_id(db: Connection, batch_ids: Collection[str]) -> dict[str, Batch]:
    """Return those of these batches that the outbox has."""
    rows = db.execute(_BATCHES.where(batches.c.id.in_(batch_ids)))
    return {row.id: _batch(row) for row in rows}


def batch_of_key(db: Connection, student_id: str, idempotency_key: str) -> Batch | None:
    """Return the batch that a student's idempotency key made."""
    mine = (batches.c.student_id == student_id) & (batches.c.idempotency_key == idempotency_key)
    row = db.execute(_BATCHES.where(mine)).one_or_none()
    return None if row is None else _batch(row)


def batches_of_request(db: Connection, student_id: str, request_hash: str) -> list[Batch]:
    """Return the batches that a student's request made without an idempotency key, the newest first."""
    mine = (batches.c.student_id == student_id) & (batches.c.request_hash == request_hash)
    without = batches.c.idempotency_key.startswith(f"{request_hash}:", autoescape=True)
    rows = db.execute(_BATCHES.where(mine, without).order_by(batches.c.created_at.desc()))
    return [_batch(row) for row in rows]


def add(db: Connection, submission: Submission, batch: Batch | None = None) -> None:
    """Put a submission into the outbox, with the batch that it creates; the sender sends it.

    Raises `IntegrityError` if it is there already, or the idempotency key is used.
    """
    moment = now()
    if batch is not None:
        values = {column.name: getattr(batch, column.name) for column in batches.c}
        db.execute(insert(batches), values | {"created_at": moment})
    db.execute(insert(transactions), vars(submission) | {"created_at": moment, "updated_at": moment})


# --- Submissions ---


def submission(db: Connection, submission_id: str) -> Submission | None:
    """Return a submission by its id."""
    return next(iter(submissions(db, [submission_id])), None)


def submissions(db: Connection, submission_ids: Collection[str]) -> list[Submission]:
    """Return submissions by their ids."""
    these = select(transactions).where(transactions.c.id.in_(submission_ids))
    return [_submission(row) for row in db.execute(these)]


def accepted(
    db: Connection,
    limit: int,
    kinds: Collection[TransactionKind],
    own: Collection[str] = (),
    left: int = 0,
    but: Collection[str] = (),
) -> list[Submission]:
    """Return submissions that wait for a nonce: the oldest of each kind in turn, so that none starves.

    Of those that are not its `own`, a process leaves alone what was accepted `left` microseconds ago, and
    all that are in `but`.
    """
    turn = func.row_number().over(partition_by=transactions.c.kind, order_by=transactions.c.created_at)
    query = select(transactions.c.id, turn.label("turn"), transactions.c.created_at).where(
        transactions.c.state == State.ACCEPTED, transactions.c.kind.in_(kinds), transactions.c.id.not_in(but)
    )
    if left:
        # A clock that is ahead protects nothing: what seems to be of the future is taken, too.
        moment = now()
        recent = transactions.c.created_at.between(moment - left, moment)
        query = query.where(transactions.c.id.in_(own) | ~recent)
    turns = query.subquery()
    order = turns.c.turn, turns.c.created_at
    rows = db.execute(
        select(transactions).join(turns, turns.c.id == transactions.c.id).order_by(*order).limit(limit)
    )
    return [_submission(row) for row in rows]


def in_flight(db: Connection, signers: Collection[str]) -> list[InFlight]:
    """Return the submissions that these accounts have signed and no block has, in the order of nonces."""
    mine = transactions.c.state.in_(IN_FLIGHT) & transactions.c.signer.in_(signers)
    rows = db.execute(_IN_FLIGHT.where(mine).order_by(transactions.c.signer, transactions.c.nonce))
    return [
        InFlight(**{**row._mapping, "kind": TransactionKind(row.kind), "state": State(row.state)})
        for row in rows
    ]


def recent(db: Connection, kind: TransactionKind, since: int) -> list[Submission]:
    """Return the submissions of a kind that are not at their end, or were accepted since that time."""
    waiting = transactions.c.state.in_((*UNSETTLED, State.MINED))
    these = (transactions.c.kind == kind) & (waiting | (transactions.c.created_at > since))
    return [_submission(row) for row in db.execute(select(transactions).where(these))]


def unsettled(db: Connection) -> list[Submission]:
    """Return the submissions that may still change something and have not yet."""
    these = select(transactions).where(transactions.c.state.in_(UNSETTLED))
    return [_submission(row) for row in db.execute(these)]


def locks_in_flight(db: Connection) -> list[Mapping[str, int]]:
    """Return the locks of each submission in flight."""
    return [*db.scalars(select(transactions.c.locks).where(transactions.c.state.in_(IN_FLIGHT)))]


def claim(db: Connection, submission_ids: Collection[str]) -> set[str]:
    """Lock those of these submissions that are still accepted, and that no other process has locked."""
    these = select(transactions.c.id).where(
        transactions.c.id.in_(submission_ids), transactions.c.state == State.ACCEPTED
    )
    return {*db.scalars(these.with_for_update(skip_locked=True))}


def counts(db: Connection, states: Collection[State]) -> dict[str, int]:
    """Return how many submissions are in each of these states; none if it is zero."""
    query = select(transactions.c.state, func.count()).where(transactions.c.state.in_(states))
    return {row[0]: row[1] for row in db.execute(query.group_by(transactions.c.state))}


def oldest_unsettled(db: Connection) -> int | None:
    """Return when the oldest submission was accepted that is in no block."""
    waiting = transactions.c.state.in_(UNSETTLED)
    oldest: int | None = db.scalar(select(func.min(transactions.c.created_at)).where(waiting))
    return oldest


def count_messages(db: Connection) -> tuple[int, int]:
    """Return how many webhook messages wait for delivery, and how many were given up."""
    query = select(webhooks.c.dead, func.count()).group_by(webhooks.c.dead)
    found = {row[0]: row[1] for row in db.execute(query)}
    return found.get(False, 0), found.get(True, 0)


# --- Attempts and nonces ---


def attempts_of(db: Connection, submission_ids: Collection[str]) -> list[Attempt]:
    """Return every attempt of these submissions, the newest last: a replacement offers more than before."""
    these = select(attempts).where(attempts.c.transaction_id.in_(submission_ids))
    return [Attempt(**row._mapping) for row in db.execute(these.order_by(attempts.c.max_fee))]


def is_attempt(db: Connection, hash_: str) -> bool:
    """Return True if a transaction with this hash was signed."""
    return db.scalar(select(attempts.c.hash).where(attempts.c.hash == hash_)) is not None


def add_attempts(db: Connection, signed: Sequence[SignedAttempt]) -> None:
    """Store attempts, all of them first ones or all replacements, each as the newest of its submission.

    One may be there already: signed anew with the nonce that it had lost, at the same price, it is the same.
    """
    if not signed:
        return
    new = _INSERTS[db.dialect.name](attempts).on_conflict_do_nothing()
    db.execute(new, [vars(each.attempt) for each in signed])
    this = update(transactions).where(transactions.c.id == bindparam("this"))
    db.execute(this, [_changes(each) for each in signed])


def _changes(signed: SignedAttempt) -> dict[str, Any]:
    attempt = signed.attempt
    changes: dict[str, Any] = {
        "this": attempt.transaction_id,
        "transaction_hash": attempt.hash,
        "signed_at": signed.signed_at,
        "cost": signed.cost,
        "updated_at": now(),
    }
    if signed.first is not None:
        changes |= {"state": State.SIGNED, "signer": attempt.signer, "nonce": attempt.nonce}
        changes |= {"publishes": signed.first.publishes, "locks": signed.first.locks}
        changes |= {"code": None, "detail": None}
    return changes


def highest_nonce(db: Connection, chain_id: int, signer: str) -> int | None:
    """Return the highest nonce that the account has used."""
    highest: int | None = db.scalar(select(func.max(transactions.c.nonce)).where(_of(chain_id, signer)))
    return highest


def nonces_from(db: Connection, chain_id: int, signer: str, first: int) -> set[int]:
    """Return the nonces from `first` on that the account has used."""
    later = transactions.c.nonce >= first
    return {*db.scalars(select(transactions.c.nonce).where(_of(chain_id, signer), later))}


def spent(db: Connection, chain_id: int, since: int) -> int:
    """Return the fees, in gwei, of what was signed since then, by the chain's clock, or is in flight."""
    lately = (transactions.c.signed_at > since) | transactions.c.state.in_(IN_FLIGHT)
    total = select(func.sum(func.coalesce(transactions.c.fee, transactions.c.cost)))
    # A sum, so that the chain's index is not used: it has all that was ever sent.
    return int(db.scalar(total.where(lately, transactions.c.chain_id + 0 == chain_id)) or 0)


def _of(chain_id: int, signer: str) -> Any:
    return (transactions.c.chain_id == chain_id) & (transactions.c.signer == signer)


# --- Changes of state. Each returns True if the present state allowed it ---


def advance(db: Connection, submission_id: str, state: State) -> bool:
    """Change the state alone."""
    return _move(db, submission_id, state, {})


def settle(db: Connection, settlement: Settlement) -> bool:
    """Store the end of a submission, and with a batch its booked lessons."""
    rejection, receipt, result = settlement.rejection, settlement.receipt, settlement.result
    values: dict[str, Any] = {
        "code": rejection and rejection.code,
        "detail": rejection and rejection.detail,
    }
    if receipt is not None:
        values |= _in_block(receipt) | {"succeeded": True}
        # It may be an earlier attempt, of another key even: the nonce of the newest is not used by it.
        for name in ("signer", "nonce"):
            used = select(attempts.c[name]).where(attempts.c.hash == receipt.transaction_hash)
            values[name] = func.coalesce(used.scalar_subquery(), transactions.c[name])
    booked = vars(result) if isinstance(result, BatchResult) else None
    return _move(db, settlement.submission.id, settlement.state, values, booked)


def revert(db: Connection, submission_id: str, receipt: Receipt) -> bool:
    """Store that a submission's transaction did nothing in its block."""
    return _move(db, submission_id, State.REVERTING, _in_block(receipt) | {"succeeded": False})


def unsign(db: Connection, submission_id: str) -> bool:
    """Make a submission wait for a nonce again. What its transactions cost still counts."""
    cost = {"cost": func.coalesce(transactions.c.fee, transactions.c.cost)}
    return _move(db, submission_id, State.ACCEPTED, _UNMINED | _UNSIGNED | cost, _NOT_BOOKED)


def _in_block(receipt: Receipt) -> dict[str, Any]:
    names = ("transaction_hash", "block_number", "block_hash", "gas_used", "fee")
    return {name: getattr(receipt, name) for name in names}


def unmine(db: Connection, submission: Submission, state: State) -> bool:
    """Take a submission out of its block: `submitted` again by its own newest attempt, or only `accepted`."""
    if state is State.ACCEPTED:
        return unsign(db, submission.id)
    nonce = submission.signer, submission.nonce
    own = [each.hash for each in attempts_of(db, [submission.id]) if (each.signer, each.nonce) == nonce]
    sent = submission.transaction_hash if submission.transaction_hash in own else own[-1]
    values = _UNMINED | {"transaction_hash": sent}
    return _move(db, submission.id, State.SUBMITTED, values, _NOT_BOOKED)


def _move(
    db: Connection,
    submission_id: str,
    state: State,
    values: Mapping[str, Any],
    of_batch: Mapping[str, Any] | None = None,
) -> bool:
    allowed = [before for before, after in TRANSITIONS.items() if state in after]
    this = update(transactions).where(transactions.c.id == submission_id, transactions.c.state.in_(allowed))
    moved = bool(db.execute(this.values(state=state, updated_at=now(), **values)).rowcount)
    if moved and of_batch is not None:
        db.execute(update(batches).where(batches.c.id == submission_id).values(of_batch))
    return moved


# --- Blocks ---


def blocks(db: Connection, states: Collection[State]) -> list[tuple[int, str]]:
    """Return number and hash of each block that has submissions in these states."""
    these = transactions.c.state.in_(states)
    query = select(transactions.c.block_number, transactions.c.block_hash).where(these).distinct()
    return [(number, hash_) for number, hash_ in db.execute(query)]


def newest_block(db: Connection) -> int:
    """Return the number of the newest block that has a submission and is not final; 0 if there is none."""
    newest = select(func.max(transactions.c.block_number)).where(transactions.c.state.in_(IN_BLOCK))
    return int(db.scalar(newest) or 0)


def final_blocks(db: Connection, limit: int) -> list[tuple[int, str]]:
    """Return number and hash of the blocks of the newest so many final submissions, the newest first."""
    final = transactions.c.state == State.FINAL
    query = select(transactions.c.block_number, transactions.c.block_hash).where(final)
    newest = query.order_by(transactions.c.block_number.desc()).limit(limit)
    return [*dict.fromkeys((number, hash_) for number, hash_ in db.execute(newest))]


def final_from(db: Connection, chain_id: int, signer: str, nonce: int, block: int) -> list[Submission]:
    """Return the account's final submissions with this nonce or a later one, in blocks up to this number."""
    final = (transactions.c.state == State.FINAL) & (transactions.c.block_number <= block)
    these = select(transactions).where(_of(chain_id, signer), transactions.c.nonce >= nonce, final)
    return [_submission(row) for row in db.execute(these)]


def in_blocks(db: Connection, block_hashes: Collection[str], states: Collection[State]) -> list[Submission]:
    """Return the submissions in these blocks that are in these states."""
    these = transactions.c.state.in_(states) & transactions.c.block_hash.in_(block_hashes)
    return [_submission(row) for row in db.execute(select(transactions).where(these))]


# --- Leases ---


def leased_addresses(db: Connection) -> set[str]:
    """Return the addresses of all keys that have a lease, held or not."""
    return {*db.scalars(select(leases.c.address))}


def add_lease(db: Connection, address: str) -> None:
    """Add a lease that nobody holds. Raises `IntegrityError` if the key has one."""
    db.execute(insert(leases).values(address=address, owner="", renewals=0))


def lock_leases(db: Connection) -> list[Lease]:
    """Return all leases, which nobody else can read for a change until the transaction ends."""
    rows = db.execute(select(leases).order_by(leases.c.address).with_for_update())
    return [Lease(**row._mapping) for row in rows]


def hand_leases(db: Connection, addresses: Collection[str], owner: str) -> None:
    """Give these leases to an owner, or renew them."""
    if addresses:
        these = update(leases).where(leases.c.address.in_(addresses))
        db.execute(these.values(owner=owner, renewals=leases.c.renewals + 1))


def release_leases(db: Connection, owner: str) -> None:
    """Take all leases from an owner."""
    db.execute(update(leases).where(leases.c.owner == owner).values(owner=""))


def signers_in_flight(db: Connection, addresses: Collection[str]) -> set[str]:
    """Return those of these accounts that have submissions in flight."""
    mine = transactions.c.state.in_(IN_FLIGHT) & transactions.c.signer.in_(addresses)
    return {*db.scalars(select(transactions.c.signer).where(mine).distinct())}


# --- From rows ---


def _submission(row: Row[Any]) -> Submission:
    return Submission(**{**row._mapping, "kind": TransactionKind(row.kind), "state": State(row.state)})


def _batch(row: Row[Any]) -> Batch:
    return Batch(**{**row._mapping, "state": State(row.state), "left_out": row.left_out or ()})
