// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice A lesson that the student asks for. Half open: it fills the quarters from `start` to `start + duration`.
/// @param start Unix time in seconds, a multiple of 900 (15 minutes).
/// @param duration In minutes, a multiple of 15 from 15 to 480.
struct Slot {
    uint40 start;
    uint16 duration;
}

/// @notice What a student signs, or sends: the terms of one batch of lessons. EIP-712 typed data.
/// @param student Who pays.
/// @param tutor Who teaches and is paid.
/// @param listing The tutor's offer (annonce), an identifier of his own choosing.
/// @param hourlyRate In base units of the token per 60 minutes. Must equal the rate that the tutor published.
/// @param allowPartial True: slots that were taken meanwhile are left out. False: all or nothing.
/// @param deadline The last second (unix time) at which the order may be created.
/// @param salt Makes the order unique: the same terms with the same salt are the same order, and are created once.
/// @param slots 1 to 40 lessons, in any order, none overlapping another.
struct Order {
    address student;
    address tutor;
    bytes32 listing;
    uint96 hourlyRate;
    bool allowPartial;
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
/// @param createdAt Unix time of the block that created it; zero for a batch that does not exist.
struct Batch {
    uint40 createdAt;
    uint40 pending;
    uint40 confirmed;
    uint40 disputed;
    uint40 completed;
    uint40 cancelled;
}

/// @notice What a tutor offers under one listing.
/// @param hourlyRate In base units of the token per 60 minutes. Zero: not offered.
/// @param instant True: lessons are confirmed as they are booked.
/// @param nonce How often the tutor has published this listing; the next signature must carry it.
struct Listing {
    uint96 hourlyRate;
    bool instant;
    uint64 nonce;
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
    Misaligned,
    Duration,
    Taken,
    Overlap
}

/// @title IBookingEscrow
/// @notice Books several lessons with a tutor in one transaction that pulls the student's tokens once, and holds the
/// money until the lessons are over or called off.
///
/// An order is its hash. `batch` is the EIP-712 digest of the `Order` with its last byte set to zero, and
/// `bookingId = batch | index`, so a booking id names its batch and its place in it. The order itself is not stored:
/// `BookingsCreated` emits it once, and later calls supply it again.
///
/// Every act is sent by its actor or carries its actor's signature: `signature` is ignored when `msg.sender` is the
/// actor, otherwise it is the actor's EIP-712 signature (an ECDSA signature of 65 bytes, or whatever the actor's own
/// contract accepts by ERC-1271). The domain is name `Creneau`, version `1`, the chain id and this contract (ERC-5267).
///
/// A lesson's amount is `hourlyRate * duration / 60`, rounded down. Totals are sums of amounts.
///
/// @dev Assumptions on the token, which is fixed at deployment:
/// - it is an ERC-20; returning nothing, like USDT, is fine, returning false counts as a failure;
/// - a transfer moves exactly the amount asked for: no fee on transfer, no rebasing;
/// - it does not call its sender or receiver. A token that re-enters cannot break the accounts, because all state is
///   written before the token is called, but it is not supported.
interface IBookingEscrow {
    /* ERRORS */

    /// @notice `sender` is not `actor`, and the signature given is not the actor's for this act.
    error NotActor(address actor, address sender);

    /// @notice The student and the tutor of an order are the same account.
    error StudentIsTutor(address account);

    /// @notice The order could be created until `deadline`, and it is `timestamp` now.
    error OrderExpired(uint256 deadline, uint256 timestamp);

    /// @notice The order has `actual` slots. It must have at least one and at most `max`.
    error SlotCount(uint256 actual, uint256 max);

    /// @notice The order was already created, as `batch`.
    error OrderExists(bytes32 batch);

    /// @notice The tutor never published this listing, or withdrew it.
    error NotListed(address tutor, bytes32 listing);

    /// @notice The order names the rate `actual`, the tutor published `expected`.
    error RateMismatch(uint256 actual, uint256 expected);

    /// @notice Slot `index` starts at `start`, which is not after the current block's `timestamp`.
    error SlotInPast(uint256 index, uint256 start, uint256 timestamp);

    /// @notice Slot `index` starts at `start`, which is not a multiple of `step` seconds.
    error SlotMisaligned(uint256 index, uint256 start, uint256 step);

    /// @notice Slot `index` lasts `duration` minutes. It must be a multiple of `step`, at least `step`, at most `max`.
    error SlotDuration(uint256 index, uint256 duration, uint256 step, uint256 max);

    /// @notice Slot `index`, at `start`, overlaps a lesson that the tutor already gives.
    error SlotTaken(uint256 index, uint256 start);

    /// @notice Slot `index` overlaps slot `other`, an earlier one of the same order.
    error SlotOverlap(uint256 index, uint256 other);

    /// @notice The order allows to leave out slots that were taken, and all of its `slots` slots were.
    error NothingFree(uint256 slots);

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

    /// @notice The tutor's share is `actual` basis points, and may be at most `max`.
    error ShareTooLarge(uint256 actual, uint256 max);

    /// @notice The token given to the constructor is an account without code.
    error TokenWithoutCode(address token);

    /// @notice A period given to the constructor is `actual` seconds long, and may be at most `max`.
    error PeriodTooLong(uint256 actual, uint256 max);

    /// @notice The arbiter may hand over to another account, but may not leave the place empty.
    error ArbiterRequired();

    /* EVENTS */

    /// @notice A tutor set the terms of a listing.
    /// @param tutor Whose listing it is.
    /// @param listing Its identifier.
    /// @param hourlyRate In base units of the token per 60 minutes. Zero withdraws it.
    /// @param instant True: lessons are confirmed as they are booked.
    /// @param nonce The nonce that the next publication of this listing must carry.
    event ListingPublished(
        address indexed tutor, bytes32 indexed listing, uint96 hourlyRate, bool instant, uint64 nonce
    );

    /// @notice Lessons were booked and paid for into the escrow.
    /// @param batch The key of the batch.
    /// @param student Who paid.
    /// @param tutor Who teaches.
    /// @param order The terms, which later calls must supply again.
    /// @param booked The lessons booked, bit i standing for slot i. The others were taken and left out.
    /// @param total What the student paid, in base units of the token: the sum of the amounts of the booked lessons.
    event BookingsCreated(
        bytes32 indexed batch, address indexed student, address indexed tutor, Order order, uint40 booked, uint256 total
    );

    /// @notice The tutor agreed to these lessons.
    /// @param batch The key of the batch.
    /// @param lessons The lessons, bit i standing for slot i.
    event BookingsConfirmed(bytes32 indexed batch, uint40 lessons);

    /// @notice Lessons were called off.
    /// @param batch The key of the batch.
    /// @param lessons The lessons, bit i standing for slot i.
    /// @param by Who called them off: the student, the tutor, or anyone once the time for arbitration is over.
    /// @param refund What the student got back, in base units of the token.
    event BookingsCancelled(bytes32 indexed batch, uint40 lessons, address indexed by, uint256 refund);

    /// @notice Lessons are over.
    /// @param batch The key of the batch.
    /// @param lessons The lessons, bit i standing for slot i.
    /// @param amount What the tutor got, in base units of the token.
    event BookingsCompleted(bytes32 indexed batch, uint40 lessons, uint256 amount);

    /// @notice The student contests these lessons.
    /// @param batch The key of the batch.
    /// @param lessons The lessons, bit i standing for slot i.
    event BookingsDisputed(bytes32 indexed batch, uint40 lessons);

    /// @notice The arbiter decided.
    /// @param batch The key of the batch.
    /// @param lessons The lessons, bit i standing for slot i.
    /// @param tutorAmount What the tutor got, in base units of the token.
    /// @param studentAmount What the student got back, in base units of the token.
    event BookingsResolved(bytes32 indexed batch, uint40 lessons, uint256 tutorAmount, uint256 studentAmount);

    /* ACTS */

    /// @notice Sets the rate of a listing, and whether its lessons need no confirmation. Lessons already booked keep
    /// their terms.
    /// @param tutor The actor: sender or signer of `Listing(tutor,listing,hourlyRate,instant,nonce)`.
    /// @param listing An identifier of the tutor's choosing.
    /// @param hourlyRate In base units of the token per 60 minutes. Zero withdraws the listing.
    /// @param instant True: lessons are confirmed as they are booked.
    /// @param signature Of the tutor, unless he is the sender.
    function publish(address tutor, bytes32 listing, uint96 hourlyRate, bool instant, bytes calldata signature) external;

    /// @notice Books the lessons of an order and pulls their total from the student in one `transferFrom`.
    /// @dev Lessons become `Pending`, or `Confirmed` if the listing is instant. Needs the student's allowance.
    /// @param order The terms.
    /// @param signature Of the order's student, unless he is the sender.
    /// @return batch The key of the batch.
    /// @return booked The lessons booked, bit i standing for slot i.
    function createBookings(Order calldata order, bytes calldata signature)
        external
        returns (bytes32 batch, uint40 booked);

    /// @notice The same, after giving the student's permit to the token.
    /// @dev A permit that fails is ignored and the allowance decides: someone else may have used it already, which
    /// gave this escrow the allowance just the same.
    /// @param order The terms.
    /// @param signature Of the order's student, unless he is the sender.
    /// @param permit Of the order's student, for this escrow.
    /// @return batch The key of the batch.
    /// @return booked The lessons booked, bit i standing for slot i.
    function createBookingsWithPermit(Order calldata order, bytes calldata signature, Permit calldata permit)
        external
        returns (bytes32 batch, uint40 booked);

    /// @notice Pending lessons become confirmed. Possible before they start.
    /// @dev Like every act below it takes the order's terms and a set of its lessons, bit i standing for slot i, and does
    /// all of them or none.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all pending.
    /// @param signature Of the order's tutor, for `Confirm(batch,lessons)`, unless he is the sender.
    function confirm(Order calldata order, uint40 lessons, bytes calldata signature) external;

    /// @notice Lessons become cancelled, their money goes back to the student and their time is free again.
    /// @dev The tutor may at any time before they are completed. The student may at any time while they are pending, and
    /// until `cancelWindow` before the start once they are confirmed. Anyone may once they have been disputed and the time
    /// for arbitration is over: after `end + reviewPeriod + arbitrationPeriod`.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all in a status and at a time at which the actor may.
    /// @param by The actor: sender, or signer of `Cancel(batch,lessons)`.
    /// @param signature Of the actor, unless he is the sender.
    function cancel(Order calldata order, uint40 lessons, address by, bytes calldata signature) external;

    /// @notice Lessons become completed and their money goes to the tutor.
    /// @dev The student may at any time. Anyone may once they are confirmed and the time to dispute them is over: after
    /// `end + reviewPeriod`.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all in a status and at a time at which the actor may.
    /// @param by The actor: sender, or signer of `Complete(batch,lessons)`.
    /// @param signature Of the actor, unless he is the sender.
    function complete(Order calldata order, uint40 lessons, address by, bytes calldata signature) external;

    /// @notice Confirmed lessons become disputed. Possible from their start until `end + reviewPeriod`.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all confirmed.
    /// @param signature Of the order's student, for `Dispute(batch,lessons)`, unless he is the sender.
    function dispute(Order calldata order, uint40 lessons, bytes calldata signature) external;

    /// @notice Disputed lessons become completed and their money is split. Only the arbiter may, as the sender.
    /// @param order The terms, as `BookingsCreated` emitted them.
    /// @param lessons The lessons, all disputed.
    /// @param tutorShareBps The tutor's share in basis points, at most 10,000. It is taken of each lesson's amount and
    /// rounded down; the student gets the rest.
    function resolve(Order calldata order, uint40 lessons, uint16 tutorShareBps) external;

    /* VIEWS */

    /// @notice The ERC-20 that lessons are paid in.
    /// @return The token's address.
    function token() external view returns (address);

    /// @notice How long before its start a confirmed lesson can no longer be cancelled by its student.
    /// @return In seconds.
    function cancelWindow() external view returns (uint256);

    /// @notice How long after its end a lesson can be disputed. Then anyone may have the tutor paid.
    /// @return In seconds.
    function reviewPeriod() external view returns (uint256);

    /// @notice How long after the review period a dispute can stay open. Then anyone may have the student refunded.
    /// @return In seconds.
    function arbitrationPeriod() external view returns (uint256);

    /// @notice Who resolves disputes.
    /// @return The account; it may hand over to another.
    function arbiter() external view returns (address);

    /// @notice The EIP-712 digest of an order: what its student signs.
    /// @param order The terms.
    /// @return The digest.
    function hashOrder(Order calldata order) external view returns (bytes32);

    /// @notice The key of the batch that an order becomes.
    /// @param order The terms.
    /// @return The order's digest with the last byte set to zero.
    function batchOf(Order calldata order) external view returns (bytes32);

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
    /// @dev Looks at the slots only: not at the rate, the deadline, the signature, the allowance or the balance.
    /// @param order The terms.
    /// @return codes One for each slot.
    /// @return total The sum of the amounts of the slots that are `Ok`, in base units of the token.
    function check(Order calldata order) external view returns (SlotCode[] memory codes, uint256 total);
}
