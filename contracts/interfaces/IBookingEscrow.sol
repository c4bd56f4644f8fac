// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice A lesson that the student asks for, half open: it fills the quarters of an hour from its start to its end.
/// Bits 8 to 31 are the start in quarters since 1970 (unix time / 900), bits 0 to 7 the length in quarters, 1 to 32.
type Slot is uint32;

/// @notice What a student signs, or sends: the terms of one batch of lessons. The EIP-712 type is
/// `Order(address student,address tutor,bytes32 listing,uint96 hourlyRate,uint8 minLessons,uint40 deadline,bytes32 salt,Slot[] slots)`
/// with `Slot(uint40 start,uint16 duration)` in unix seconds and minutes, so that a wallet shows times a person can read.
/// @param student Who pays.
/// @param tutor Who teaches and is paid. A tutor who is also the student, at rate 0, blocks their own time for nothing.
/// @param listing The tutor's offer, an identifier of their own choosing.
/// @param hourlyRate In base units of the token per 60 minutes. Must equal the rate that the tutor published.
/// @param minLessons How many lessons must be free, from 1 to the number of slots; slots that are taken are left out.
/// @param deadline The last second (unix time) at which the order may be created.
/// @param salt Makes the order unique: the same terms with the same salt are the same order, and are created once.
/// @param slots 1 to 40 lessons, in any order, none overlapping another.
struct Order {
    address student;
    address tutor;
    bytes32 listing;
    uint96 hourlyRate;
    uint8 minLessons;
    uint40 deadline;
    bytes32 salt;
    Slot[] slots;
}

/// @notice An EIP-2612 permit of the order's student for this escrow.
/// @param value The allowance that it sets, in base units of the token.
/// @param deadline The last second (unix time) at which the token accepts it.
struct Permit {
    uint256 value;
    uint256 deadline;
    uint8 v;
    bytes32 r;
    bytes32 s;
}

/// @notice The state of a batch: when it was created and five disjoint sets of lessons, bit i standing for the order's
/// slot i. A lesson in no set was never booked. One storage word.
/// @param createdAt Unix time of the block that created or revoked the order; zero if neither happened. A revoked order
/// has no lessons.
struct Batch {
    uint40 createdAt;
    uint40 pending;
    uint40 confirmed;
    uint40 disputed;
    uint40 completed;
    uint40 cancelled;
}

/// @notice What a tutor offers under one listing. One storage word.
/// @param hourlyRate In base units of the token per 60 minutes. Zero: not offered.
/// @param instant True: lessons are confirmed as they are booked.
/// @param minNotice How many seconds after its booking a lesson starts at the earliest.
/// @param horizon How many seconds after its booking a lesson starts at the latest. Zero: no limit.
/// @param nonce How often the tutor has published this listing; the next signature must carry it.
struct Listing {
    uint96 hourlyRate;
    bool instant;
    uint32 minNotice;
    uint32 horizon;
    uint64 nonce;
}

/// @notice What became of one call of `tryMulticall`.
/// @param success False: the call reverted and left nothing behind.
/// @param data What it returned, or what it reverted with.
struct CallResult {
    bool success;
    bytes data;
}

/// @notice Where a lesson stands. It only moves forward.
enum Status {
    None,
    Pending,
    Confirmed,
    Disputed,
    Completed,
    Cancelled
}

/// @notice What `check` says about one slot.
enum SlotCode {
    Ok,
    InPast,
    TooSoon,
    TooFar,
    Duration,
    Taken,
    Overlap
}

/// @title IBookingEscrow
/// @notice Books several lessons with a tutor in one transaction that pulls the student's tokens once, and holds the
/// money until the lessons are over or called off.
///
/// An order is its hash. `batch` is EIP-712's `hashStruct(order)` with its last byte set to zero, and
/// `bookingId = batch | index`, so a booking id names its batch and its place in it. Neither depends on the chain's id:
/// a chain that changes it keeps its lessons. Two deployments may know the same key. The order itself is not stored:
/// `BookingsCreated` emits it once, and later calls supply it again.
///
/// Every act is sent by its actor or carries its actor's signature. `signature` and its `deadline` (the last second at
/// which the signature counts) are ignored when `msg.sender` is the actor. Otherwise the signature counts if it recovers
/// to the actor (ECDSA, 65 bytes), whatever code that account has, or else if the actor's contract accepts it by
/// ERC-1271, whatever its length. The domain is name `Creneau`, version `1`, the chain's present id and this contract
/// (ERC-5267).
///
/// A lesson's amount is `hourlyRate * minutes / 60`, rounded down. Totals are sums of amounts. A payment that the token
/// refuses becomes a credit of its receiver.
///
/// @dev Assumptions on the token, which is fixed at deployment:
/// - it is an ERC-20; returning nothing, like USDT, is fine, returning false counts as a failure;
/// - a transfer moves exactly the amount asked for, or fails and moves nothing: no fee on transfer, no rebasing;
/// - it does not call its sender or receiver. A token that re-enters cannot break the accounts, because all state is
///   written before the token is called, but it is not supported.
interface IBookingEscrow {
    /* ERRORS */

    /// @notice `sender` is not `actor`, and the signature given is not the actor's for this act.
    error NotActor(address actor, address sender);

    /// @notice The signature counted until `deadline`, and it is `timestamp` now.
    error SignatureExpired(uint256 deadline, uint256 timestamp);

    /// @notice The student and the tutor of an order with a rate are the same account.
    error StudentIsTutor(address account);

    /// @notice The order could be created until `deadline`, and it is `timestamp` now.
    error OrderExpired(uint256 deadline, uint256 timestamp);

    /// @notice The order has `actual` slots. It must have at least one and at most `max`.
    error SlotCount(uint256 actual, uint256 max);

    /// @notice The order asks for `actual` lessons at least. It must ask for at least one and at most `max`, its slots.
    error MinLessons(uint256 actual, uint256 max);

    /// @notice The order was already created, or revoked, as `batch`.
    error OrderExists(bytes32 batch);

    /// @notice The tutor never published this listing, or withdrew it.
    error NotListed(address tutor, bytes32 listing);

    /// @notice The order names the rate `actual`, the tutor published `expected`.
    error RateMismatch(uint256 actual, uint256 expected);

    /// @notice Slot `index` starts at `start`, which is not after the current block's `timestamp`.
    error SlotInPast(uint256 index, uint256 start, uint256 timestamp);

    /// @notice Slot `index` starts at `start`, and the listing's notice allows `earliest` now.
    error SlotTooSoon(uint256 index, uint256 start, uint256 earliest);

    /// @notice Slot `index` starts at `start`, and the listing's horizon allows `latest` now.
    error SlotTooFar(uint256 index, uint256 start, uint256 latest);

    /// @notice Slot `index` lasts `duration` minutes. It must be a multiple of `step`, at least `step`, at most `max`.
    error SlotDuration(uint256 index, uint256 duration, uint256 step, uint256 max);

    /// @notice Slot `index`, at `start`, overlaps a lesson that the tutor already gives, and the order is all or nothing.
    error SlotTaken(uint256 index, uint256 start);

    /// @notice Slot `index` overlaps slot `other`, an earlier one of the same order.
    error SlotOverlap(uint256 index, uint256 other);

    /// @notice Only `actual` of the order's slots are free, and it asks for `min` at least.
    error TooFewFree(uint256 actual, uint256 min);

    /// @notice No batch has these terms: the order given is not, to the letter, one that was created.
    error UnknownBatch(bytes32 batch);

    /// @notice An act names at least one lesson.
    error NoLessons();

    /// @notice Lesson `index` is `actual`; this act of this actor takes a status of the set `allowed`, bit s standing for
    /// status s.
    error WrongStatus(uint256 index, Status actual, uint256 allowed);

    /// @notice For lesson `index` this was possible until `until`, and it is `timestamp` now.
    error TooLate(uint256 index, uint256 until, uint256 timestamp);

    /// @notice For lesson `index` this becomes possible at `from`, and it is `timestamp` now.
    error TooEarly(uint256 index, uint256 from, uint256 timestamp);

    /// @notice A share is `actual` basis points, and may be at most `max`.
    error ShareTooLarge(uint256 actual, uint256 max);

    /// @notice Only an arbiter who is neither party chooses the share. Whoever else resolves gives `expected`, not
    /// `actual`, basis points.
    error ShareNotDefault(uint256 actual, uint256 expected);

    /// @notice The account has no credit.
    error NoCredit(address account);

    /// @notice A credit cannot be paid to the escrow itself.
    error InvalidRecipient(address to);

    /// @notice The token given to the constructor is an account without code.
    error TokenWithoutCode(address token);

    /// @notice A period given to the constructor is `actual` seconds long, and must be from `min` to `max`.
    error PeriodOutOfRange(uint256 actual, uint256 min, uint256 max);

    /// @notice The arbiter may hand over to another account, but may not leave the place empty.
    error ArbiterRequired();

    /* EVENTS */

    /// @notice A tutor set the terms of a listing.
    /// @param tutor Whose listing it is.
    /// @param listing Its identifier.
    /// @param hourlyRate In base units of the token per 60 minutes. Zero withdraws it.
    /// @param instant True: lessons are confirmed as they are booked.
    /// @param minNotice How many seconds after its booking a lesson starts at the earliest.
    /// @param horizon How many seconds after its booking a lesson starts at the latest. Zero: no limit.
    /// @param nonce The nonce that the next publication of this listing must carry.
    event ListingPublished(
        address indexed tutor,
        bytes32 indexed listing,
        uint96 hourlyRate,
        bool instant,
        uint32 minNotice,
        uint32 horizon,
        uint64 nonce
    );

    /// @notice Lessons were booked and paid for into the escrow.
    /// @param batch The key of the batch.
    /// @param student Who paid.
    /// @param tutor Who teaches.
    /// @param listing Of the order, like the terms after it, which later calls must supply again.
    /// @param hourlyRate In base units of the token per 60 minutes.
    /// @param minLessons How many lessons the order asked for at least.
    /// @param deadline The last second (unix time) at which it could be created.
    /// @param salt Made it unique.
    /// @param slots Its slots, four bytes each.
    /// @param booked The lessons booked, bit i standing for slot i. The others were taken and left out.
    /// @param confirmed True: they are confirmed already. False: they are pending.
    /// @param total What the student paid, in base units of the token: the sum of the amounts of the booked lessons.
    event BookingsCreated(
        bytes32 indexed batch,
        address indexed student,
        address indexed tutor,
        bytes32 listing,
        uint96 hourlyRate,
        uint8 minLessons,
        uint40 deadline,
        bytes32 salt,
        bytes slots,
        uint40 booked,
        bool confirmed,
        uint256 total
    );

    /// @notice The student took back an order before it was created. It can no longer be.
    /// @param batch The key that the batch would have had.
    /// @param by The order's student.
    event OrderRevoked(bytes32 indexed batch, address indexed by);

    /// @notice The tutor agreed to these lessons.
    /// @param batch The key of the batch.
    /// @param by The order's tutor.
    /// @param lessons The lessons, bit i standing for slot i.
    event BookingsConfirmed(bytes32 indexed batch, address indexed by, uint40 lessons);

    /// @notice Lessons were called off.
    /// @param batch The key of the batch.
    /// @param by Who called them off: the student, the tutor, or anyone if they were pending when they began.
    /// @param lessons The lessons, bit i standing for slot i.
    /// @param refund What the student got back, in base units of the token.
    event BookingsCancelled(bytes32 indexed batch, address indexed by, uint40 lessons, uint256 refund);

    /// @notice Lessons are over.
    /// @param batch The key of the batch.
    /// @param by Who said so: the student, or anyone once the review period was over.
    /// @param lessons The lessons, bit i standing for slot i.
    /// @param amount What the tutor got, in base units of the token.
    event BookingsCompleted(bytes32 indexed batch, address indexed by, uint40 lessons, uint256 amount);

    /// @notice The student contests these lessons.
    /// @param batch The key of the batch.
    /// @param by The order's student.
    /// @param lessons The lessons, bit i standing for slot i.
    event BookingsDisputed(bytes32 indexed batch, address indexed by, uint40 lessons);

    /// @notice A dispute was decided.
    /// @param batch The key of the batch.
    /// @param by Who decided: the arbiter, or anyone, with the default share, once the arbitration period was over.
    /// @param lessons The lessons, bit i standing for slot i.
    /// @param tutorAmount What the tutor got, in base units of the token.
    /// @param studentAmount What the student got back, in base units of the token.
    event BookingsResolved(
        bytes32 indexed batch, address indexed by, uint40 lessons, uint256 tutorAmount, uint256 studentAmount
    );

    /// @notice The student and the tutor agreed how to split the money of these lessons.
    /// @param batch The key of the batch.
    /// @param student The order's student, who agreed.
    /// @param tutor The order's tutor, who agreed.
    /// @param lessons The lessons, bit i standing for slot i.
    /// @param tutorAmount What the tutor got, in base units of the token.
    /// @param studentAmount What the student got back, in base units of the token.
    event BookingsSettled(
        bytes32 indexed batch,
        address indexed student,
        address indexed tutor,
        uint40 lessons,
        uint256 tutorAmount,
        uint256 studentAmount
    );

    /// @notice The token refused a payment, and the escrow keeps it for its receiver.
    /// @param account Whose credit grew.
    /// @param amount By how much, in base units of the token.
    event PaymentCredited(address indexed account, uint256 amount);

    /// @notice A credit was paid.
    /// @param account Whose credit it was.
    /// @param to Who got it.
    /// @param amount The whole credit, in base units of the token.
    event CreditWithdrawn(address indexed account, address indexed to, uint256 amount);

    /// @notice A call of `tryMulticall` reverted and left nothing behind.
    /// @param index Its place, from zero.
    /// @param reason What it reverted with.
    event CallFailed(uint256 indexed index, bytes reason);

    /* LISTINGS */

    /// @notice Sets the terms of a listing. Lessons already booked keep theirs.
    /// @param tutor The actor: sender or signer of
    /// `Listing(tutor,listing,hourlyRate,instant,minNotice,horizon,nonce,deadline)`.
    /// @param listing An identifier of the tutor's choosing.
    /// @param hourlyRate In base units of the token per 60 minutes. Zero withdraws the listing.
    /// @param instant True: lessons are confirmed as they are booked.
    /// @param minNotice How many seconds after its booking a lesson starts at the earliest.
    /// @param horizon How many seconds after its booking a lesson starts at the latest. Zero: no limit.
    /// @param deadline The last second (unix time) at which the signature counts.
    /// @param signature Of the tutor, unless they are the sender.
    function publish(
        address tutor,
        bytes32 listing,
        uint96 hourlyRate,
        bool instant,
        uint32 minNotice,
        uint32 horizon,
        uint40 deadline,
        bytes calldata signature
    ) external;

    /* BOOKING */

    /// @notice Books the lessons of an order and pulls their total from the student in one `transferFrom`.
    /// @dev Lessons become `Pending`, or `Confirmed` if the listing is instant. Needs the student's allowance. An order
    /// of a tutor to themselves needs no listing and no money: its lessons are confirmed and keep the time free.
    /// @param order The terms.
    /// @param signature Of the order's student, for the order, unless they are the sender.
    /// @return batch The key of the batch.
    /// @return booked The lessons booked, bit i standing for slot i.
    function createBookings(Order calldata order, bytes calldata signature)
        external
        returns (bytes32 batch, uint40 booked);

    /// @notice The same, after giving the student's permit to the token.
    /// @dev A permit that fails is ignored and the allowance decides: someone else may have used it already, which
    /// gave this escrow the allowance just the same.
    /// @param order The terms.
    /// @param signature Of the order's student, for the order, unless they are the sender.
    /// @param permit Of the order's student, for this escrow.
    /// @return batch The key of the batch.
    /// @return booked The lessons booked, bit i standing for slot i.
    function createBookingsWithPermit(Order calldata order, bytes calldata signature, Permit calldata permit)
        external
        returns (bytes32 batch, uint40 booked);

    /// @notice Takes back an order that was not created: its key then counts as used.
    /// @param order The terms.
    /// @param deadline The last second (unix time) at which the signature counts.
    /// @param signature Of the order's student, for `Revoke(batch,deadline)`, unless they are the sender.
    function revoke(Order calldata order, uint40 deadline, bytes calldata signature) external;

    /* THE LIFE OF A LESSON */

    /// @notice Pending lessons become confirmed. Possible before they start.
    /// @dev Like every act below it takes the order's terms and a set of its lessons, bit i standing for slot i, and does
    /// all of them or none.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all pending.
    /// @param deadline The last second (unix time) at which the signature counts.
    /// @param signature Of the order's tutor, for `Confirm(batch,lessons,deadline)`, unless they are the sender.
    function confirm(Order calldata order, uint40 lessons, uint40 deadline, bytes calldata signature) external;

    /// @notice Lessons become cancelled, their money goes back to the student and their time is free again.
    /// @dev The tutor may at any time before they are completed. The student may at any time while they are pending, and
    /// until `cancelWindow` before the start once they are confirmed. Anyone may if they are pending when they begin.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all in a status and at a time at which the actor may.
    /// @param by The actor: sender, or signer of `Cancel(batch,lessons,deadline)`.
    /// @param deadline The last second (unix time) at which the signature counts.
    /// @param signature Of the actor, unless they are the sender.
    function cancel(Order calldata order, uint40 lessons, address by, uint40 deadline, bytes calldata signature)
        external;

    /// @notice Lessons become completed and their money goes to the tutor.
    /// @dev The student may at any time. Anyone may once they are confirmed and the time to dispute them is over: after
    /// `end + reviewPeriod`.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all in a status and at a time at which the actor may.
    /// @param by The actor: sender, or signer of `Complete(batch,lessons,deadline)`.
    /// @param deadline The last second (unix time) at which the signature counts.
    /// @param signature Of the actor, unless they are the sender.
    function complete(Order calldata order, uint40 lessons, address by, uint40 deadline, bytes calldata signature)
        external;

    /// @notice Confirmed lessons become disputed. Possible from their start until `end + reviewPeriod`.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all confirmed.
    /// @param deadline The last second (unix time) at which the signature counts.
    /// @param signature Of the order's student, for `Dispute(batch,lessons,deadline)`, unless they are the sender.
    function dispute(Order calldata order, uint40 lessons, uint40 deadline, bytes calldata signature) external;

    /// @notice Disputed lessons become completed and their money is split.
    /// @dev The arbiter may at any time, as the sender, unless they are a party of the order. Anyone may after
    /// `end + reviewPeriod + arbitrationPeriod`, with `defaultTutorShareBps`.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all disputed.
    /// @param tutorShareBps The tutor's share in basis points, at most 10,000. It is taken of each lesson's amount and
    /// rounded down; the student gets the rest.
    function resolve(Order calldata order, uint40 lessons, uint16 tutorShareBps) external;

    /// @notice Lessons become completed and their money is split as the student and the tutor agree. Possible at any
    /// time before they are completed or cancelled.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all pending, confirmed or disputed.
    /// @param tutorShareBps The tutor's share in basis points, at most 10,000. It is taken of each lesson's amount and
    /// rounded down; the student gets the rest.
    /// @param deadline The last second (unix time) at which the signatures count.
    /// @param studentSignature Of `Settle(batch,lessons,tutorShareBps,deadline)`, unless the student is the sender.
    /// @param tutorSignature Of the same, unless the tutor is the sender.
    function settle(
        Order calldata order,
        uint40 lessons,
        uint16 tutorShareBps,
        uint40 deadline,
        bytes calldata studentSignature,
        bytes calldata tutorSignature
    ) external;

    /* CREDITS */

    /// @notice Pays the whole credit of an account: what the token refused to pay it.
    /// @param account The actor: sender, or signer of `Withdraw(account,to,deadline)`.
    /// @param to Who gets it; any account that the token pays, except this contract.
    /// @param deadline The last second (unix time) at which the signature counts.
    /// @param signature Of the account, unless it is the sender.
    /// @return amount The credit, in base units of the token.
    function withdraw(address account, address to, uint40 deadline, bytes calldata signature)
        external
        returns (uint256 amount);

    /* SEVERAL CALLS */

    /// @notice Makes several calls of this contract in one transaction, and goes on where one of them reverts.
    /// @dev `CallFailed` says which one and why. A call of foreign code, such as a contract wallet's, can burn the gas of
    /// those after it: send it alone.
    /// @param calls The calls, ABI-encoded, each made by the sender.
    /// @return results What became of each.
    function tryMulticall(bytes[] calldata calls) external returns (CallResult[] memory results);

    /* VIEWS */

    /// @notice The ERC-20 that lessons are paid in.
    /// @return The token's address.
    function token() external view returns (address);

    /// @notice How long before its start a confirmed lesson can no longer be cancelled by its student.
    /// @return In seconds, at most 365 days.
    function cancelWindow() external view returns (uint256);

    /// @notice How long after its end a lesson can be disputed. Then anyone may have the tutor paid.
    /// @return In seconds, from 1 hour to 365 days.
    function reviewPeriod() external view returns (uint256);

    /// @notice How long after the review period a dispute is the arbiter's alone. Then anyone may resolve it.
    /// @return In seconds, from 1 day to 365 days.
    function arbitrationPeriod() external view returns (uint256);

    /// @notice The tutor's share of a disputed lesson that the arbiter left undecided.
    /// @return In basis points, at most 10,000.
    function defaultTutorShareBps() external view returns (uint256);

    /// @notice Who resolves disputes.
    /// @return The account; it may hand over to another.
    function arbiter() external view returns (address);

    /// @notice What the token refused to pay an account, which `withdraw` pays.
    /// @param account Whose.
    /// @return In base units of the token.
    function credits(address account) external view returns (uint256);

    /// @notice The EIP-712 digest of an order: what its student signs. It follows the chain's id.
    /// @param order The terms.
    /// @return The digest.
    function hashOrder(Order calldata order) external view returns (bytes32);

    /// @notice The key of the batch that an order becomes, on every chain.
    /// @param order The terms.
    /// @return The order's `hashStruct` with the last byte set to zero.
    function batchOf(Order calldata order) external pure returns (bytes32);

    /// @notice The state of a batch.
    /// @param batch Its key.
    /// @return When it was created and where its lessons stand; all zero if it does not exist.
    function batches(bytes32 batch) external view returns (Batch memory);

    /// @notice The status of one lesson.
    /// @param bookingId `batch | index`.
    /// @return `None` if there is no such lesson, or if it was left out.
    function statusOf(bytes32 bookingId) external view returns (Status);

    /// @notice The terms of a tutor's listing.
    /// @param tutor Whose listing it is.
    /// @param listing Its identifier.
    /// @return All zero if it was never published.
    function listings(address tutor, bytes32 listing) external view returns (Listing memory);

    /// @notice The tutor's calendar. Bit i of word p stands for the quarter hour that starts at unix time
    /// `(256 * p + i) * 900`; a lesson takes its quarters when it is booked and gives them back when it is cancelled.
    /// @param tutor Whose calendar.
    /// @param firstPage The first word.
    /// @param count How many words.
    /// @return The words.
    function calendar(address tutor, uint256 firstPage, uint256 count) external view returns (uint256[] memory);

    /// @notice What would become of each slot of an order if it were created now, every reason at once.
    /// @dev Looks at the slots, the calendar and the listing's notice and horizon only: not at the rate, the least number
    /// of lessons, the deadline, the signature, the allowance or the balance.
    /// @param order The terms.
    /// @return codes One for each slot.
    /// @return total The sum of the amounts of the slots that are `Ok`, in base units of the token.
    function check(Order calldata order) external view returns (SlotCode[] memory codes, uint256 total);
}
