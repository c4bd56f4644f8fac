// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

import {Batch, CallResult, IBookingEscrow, Listing} from "./interfaces/IBookingEscrow.sol";
import {Order, Permit, Slot, SlotCode, Status} from "./interfaces/IBookingEscrow.sol";
import {Slots} from "./Slots.sol";

// What slither reports here is meant: lessons begin and end by block time, on which the seconds that a proposer can shift
// have no bearing; codes are compared exactly; sums and sets start at zero; of some answers only a part is asked;
// `tryMulticall` calls itself, as `multicall` does; a permit reads and writes nothing of ours, so an event after it is true.
// slither-disable-start timestamp,incorrect-equality,uninitialized-local,unused-return,low-level-calls,calls-loop,reentrancy-benign,reentrancy-events

/// @title BookingEscrow
/// @notice See `IBookingEscrow`, which documents every function, event and error.
contract BookingEscrow is IBookingEscrow, EIP712, Multicall, Ownable2Step {
    using SafeERC20 for IERC20;
    using Slots for Slot[];

    /* CONSTANTS */

    uint256 private constant MAX_SLOTS = 40;
    uint256 private constant MAX_PERIOD = 365 days;
    uint256 private constant NO_PAGE = type(uint256).max;

    /// @dev Times a set of lessons: that set in each status in which its money is in the escrow.
    uint256 private constant LIVE = 1 << 40 | 1 << 80 | 1 << 120;

    bytes32 private constant REVOKE_TYPEHASH = keccak256("Revoke(bytes32 batch,uint40 deadline)");
    bytes32 private constant LISTING_TYPEHASH = keccak256(
        "Listing(address tutor,bytes32 listing,uint96 hourlyRate,bool instant,uint32 minNotice,uint32 horizon,uint64 nonce,uint40 deadline)"
    );
    bytes32 private constant CONFIRM_TYPEHASH = keccak256("Confirm(bytes32 batch,uint40 lessons,uint40 deadline)");
    bytes32 private constant CANCEL_TYPEHASH = keccak256("Cancel(bytes32 batch,uint40 lessons,uint40 deadline)");
    bytes32 private constant COMPLETE_TYPEHASH = keccak256("Complete(bytes32 batch,uint40 lessons,uint40 deadline)");
    bytes32 private constant DISPUTE_TYPEHASH = keccak256("Dispute(bytes32 batch,uint40 lessons,uint40 deadline)");
    bytes32 private constant SETTLE_TYPEHASH =
        keccak256("Settle(bytes32 batch,uint40 lessons,uint16 tutorShareBps,uint40 deadline)");
    bytes32 private constant WITHDRAW_TYPEHASH = keccak256("Withdraw(address account,address to,uint40 deadline)");

    /* THE TABLE */

    // When an act is possible, by the block's time. Zero: never. `_requireTime` says it in seconds.
    uint256 private constant ANY_TIME = 1;
    uint256 private constant BEFORE_START = 2;
    uint256 private constant IN_NOTICE = 3; // until start - cancelWindow
    uint256 private constant ONCE_BEGUN = 4; // from the start on
    uint256 private constant IN_REVIEW = 5; // from the start until end + reviewPeriod
    uint256 private constant AFTER_REVIEW = 6; // after end + reviewPeriod
    uint256 private constant AFTER_ARBITRATION = 7; // after end + reviewPeriod + arbitrationPeriod

    // The columns: where a row has the bits of a status.
    uint256 private constant PENDING = 4 * uint256(Status.Pending);
    uint256 private constant CONFIRMED = 4 * uint256(Status.Confirmed);
    uint256 private constant DISPUTED = 4 * uint256(Status.Disputed);

    // The rows: who may take a lesson out of which status, and when. What a row leaves out is never possible.
    // forgefmt: disable-start
    uint256 private constant CONFIRM_BY_TUTOR    = BEFORE_START << PENDING;
    uint256 private constant CANCEL_BY_STUDENT   = ANY_TIME     << PENDING | IN_NOTICE    << CONFIRMED;
    uint256 private constant CANCEL_BY_TUTOR     = ANY_TIME     << PENDING | ANY_TIME     << CONFIRMED | ANY_TIME          << DISPUTED;
    uint256 private constant CANCEL_BY_ANYONE    = ONCE_BEGUN   << PENDING;
    uint256 private constant COMPLETE_BY_STUDENT = ANY_TIME     << PENDING | ANY_TIME     << CONFIRMED | ANY_TIME          << DISPUTED;
    uint256 private constant COMPLETE_BY_ANYONE  =                           AFTER_REVIEW << CONFIRMED;
    uint256 private constant DISPUTE_BY_STUDENT  =                           IN_REVIEW    << CONFIRMED;
    uint256 private constant RESOLVE_BY_ARBITER  =                                                       ANY_TIME          << DISPUTED;
    uint256 private constant RESOLVE_BY_ANYONE   =                                                       AFTER_ARBITRATION << DISPUTED;
    uint256 private constant SETTLE_BY_BOTH      = ANY_TIME     << PENDING | ANY_TIME     << CONFIRMED | ANY_TIME          << DISPUTED;
    // forgefmt: disable-end

    /* IMMUTABLES */

    /// @inheritdoc IBookingEscrow
    address public immutable token;
    /// @inheritdoc IBookingEscrow
    uint256 public immutable cancelWindow;
    /// @inheritdoc IBookingEscrow
    uint256 public immutable reviewPeriod;
    /// @inheritdoc IBookingEscrow
    uint256 public immutable arbitrationPeriod;
    /// @inheritdoc IBookingEscrow
    uint256 public immutable defaultTutorShareBps;

    /* STORAGE */

    /// @dev `createdAt` in the lowest 40 bits, then the sets of lessons: that of status s begins at bit 40 * s.
    mapping(bytes32 batch => uint256) private _batches;
    mapping(address tutor => mapping(bytes32 listing => Listing)) private _listings;
    mapping(address tutor => mapping(uint256 page => uint256 quarters)) private _calendar;
    /// @inheritdoc IBookingEscrow
    mapping(address account => uint256) public credits;

    /* CONSTRUCTOR */

    /// @dev Periods are in seconds, at most 365 days; the share is in basis points.
    constructor(
        address token_,
        address arbiter_,
        uint256 cancelWindow_,
        uint256 reviewPeriod_,
        uint256 arbitrationPeriod_,
        uint256 defaultTutorShareBps_
    ) EIP712("Creneau", "1") Ownable(arbiter_) {
        require(token_.code.length != 0, TokenWithoutCode(token_));
        token = token_;
        cancelWindow = _period(cancelWindow_, 0);
        reviewPeriod = _period(reviewPeriod_, 1 hours);
        arbitrationPeriod = _period(arbitrationPeriod_, 1 days);
        defaultTutorShareBps = _share(defaultTutorShareBps_);
    }

    function _period(uint256 actual, uint256 min) private pure returns (uint256) {
        require(min <= actual && actual <= MAX_PERIOD, PeriodOutOfRange(actual, min, MAX_PERIOD));
        return actual;
    }

    function _share(uint256 actual) private pure returns (uint256) {
        require(actual <= Slots.BPS, ShareTooLarge(actual, Slots.BPS));
        return actual;
    }

    /* LISTINGS */

    /// @inheritdoc IBookingEscrow
    function publish(
        address tutor,
        bytes32 listing,
        uint96 hourlyRate,
        bool instant,
        uint32 minNotice,
        uint32 horizon,
        uint40 deadline,
        bytes calldata signature
    ) external {
        uint64 nonce = _listings[tutor][listing].nonce;
        bytes memory terms =
            abi.encode(LISTING_TYPEHASH, tutor, listing, hourlyRate, instant, minNotice, horizon, nonce, deadline);
        _requireActor(tutor, keccak256(terms), deadline, signature);

        _listings[tutor][listing] = Listing(hourlyRate, instant, minNotice, horizon, nonce + 1);
        emit ListingPublished(tutor, listing, hourlyRate, instant, minNotice, horizon, nonce + 1);
    }

    /* BOOKING */

    /// @inheritdoc IBookingEscrow
    function createBookings(Order calldata order, bytes calldata signature)
        external
        returns (bytes32 batch, uint40 booked)
    {
        return _create(order, signature);
    }

    /// @inheritdoc IBookingEscrow
    function createBookingsWithPermit(Order calldata order, bytes calldata signature, Permit calldata permit)
        external
        returns (bytes32 batch, uint40 booked)
    {
        // A permit that was used already has done its work. Nothing was read before it that re-entry could change.
        try IERC20Permit(token)
            .permit(order.student, address(this), permit.value, permit.deadline, permit.v, permit.r, permit.s) {}
            catch {}
        return _create(order, signature);
    }

    function _create(Order calldata order, bytes calldata signature) private returns (bytes32 batch, uint40 booked) {
        bytes32 terms = Slots.hash(order);
        batch = _batchOf(terms);
        address student = order.student;
        _requireSigned(student, terms, signature);
        (uint256 deadline, address tutor) = (order.deadline, order.tutor);
        require(block.timestamp <= deadline, OrderExpired(deadline, block.timestamp));
        require(_batches[batch] == 0, OrderExists(batch));
        Listing memory offer = _offer(student, tutor, order.listing);
        uint256 hourlyRate = order.hourlyRate;
        if (student == tutor) require(hourlyRate == 0, StudentIsTutor(student));
        else require(offer.hourlyRate != 0, NotListed(tutor, order.listing));
        require(hourlyRate == offer.hourlyRate, RateMismatch(hourlyRate, offer.hourlyRate));

        bytes memory packed = _pack(order.slots, offer);
        uint256 total;
        (booked, total) = _fill(order);
        uint256 status = uint256(offer.instant ? Status.Confirmed : Status.Pending);
        _batches[batch] = block.timestamp | uint256(booked) << 40 * status;
        emit BookingsCreated(
            batch,
            student,
            tutor,
            order.listing,
            uint96(hourlyRate),
            order.minLessons,
            uint40(deadline),
            order.salt,
            packed,
            booked,
            offer.instant,
            total
        );

        // slither-disable-next-line arbitrary-send-erc20 (the student sent this order or signed it)
        if (total != 0) IERC20(token).safeTransferFrom(student, address(this), total);
    }

    /// @dev What the tutor offers to the student: their own time to themselves, at once and for nothing.
    function _offer(address student, address tutor, bytes32 listing) private view returns (Listing memory) {
        if (student == tutor) return Listing(0, true, 0, 0, 0);
        return _listings[tutor][listing];
    }

    /// @dev From when until when a lesson may start that is booked now, in seconds.
    function _bounds(Listing memory offer) private view returns (uint256 earliest, uint256 latest) {
        unchecked {
            earliest = block.timestamp + (offer.minNotice == 0 ? 1 : offer.minNotice); // always after now
            latest = offer.horizon == 0 ? Slots.LAST_START : Math.min(block.timestamp + offer.horizon, Slots.LAST_START);
        }
    }

    /// @dev Checks each slot by itself, and packs them for the event.
    function _pack(Slot[] calldata slots, Listing memory offer) private view returns (bytes memory packed) {
        _requireCount(slots.length);
        (uint256 earliest, uint256 latest) = _bounds(offer);
        bool bad;
        (packed, bad) = slots.pack((earliest + Slots.QUARTER - 1) / Slots.QUARTER, latest / Slots.QUARTER);
        if (!bad) return packed;
        for (uint256 i; i < slots.length; ++i) {
            (SlotCode code, uint256 start, uint256 length) = Slots.check(slots[i], earliest, latest);
            require(code != SlotCode.InPast, SlotInPast(i, start, block.timestamp));
            require(code != SlotCode.TooSoon, SlotTooSoon(i, start, earliest));
            require(code != SlotCode.TooFar, SlotTooFar(i, start, latest));
            uint256 max = Slots.MAX_QUARTERS * Slots.MINUTES;
            require(code == SlotCode.Ok, SlotDuration(i, length * Slots.MINUTES, Slots.MINUTES, max));
        }
        assert(false);
    }

    function _requireCount(uint256 count) private pure {
        require(count != 0 && count <= MAX_SLOTS, SlotCount(count, MAX_SLOTS));
    }

    /// @dev Marks the slots in the tutor's calendar. If they come in order of time, each word is read and written once.
    function _fill(Order calldata order) private returns (uint40 booked, uint256 total) {
        Slot[] calldata slots = order.slots;
        uint256 hourlyRate = order.hourlyRate;
        mapping(uint256 => uint256) storage pages = _calendar[order.tutor];
        uint256 page = NO_PAGE;
        uint256 word;
        uint256 lessons;

        // A page is less than 2^16, and the total at most 40 times 2^96 * 32 / 4.
        unchecked {
            for (uint256 i; i < slots.length; ++i) {
                (uint256 start, uint256 length) = slots.read(i);
                uint256 mask = ((1 << length) - 1) << (start & 255);
                uint256 spill = ((1 << length) - 1) >> (256 - (start & 255)); // into the next word
                if (start >> 8 != page) {
                    if (page != NO_PAGE) pages[page] = word;
                    page = start >> 8;
                    word = pages[page];
                }
                if (word & mask != 0 || (spill != 0 && pages[page + 1] & spill != 0)) {
                    _requireTaken(order, i, lessons);
                    continue;
                }

                word |= mask;
                if (spill != 0) {
                    pages[page] = word;
                    word = pages[++page] | spill;
                }
                lessons |= 1 << i;
                total += Slots.amount(length, hourlyRate);
            }
        }
        pages[page] = word;
        booked = uint40(lessons);
        _requireEnough(slots.length, booked, order.minLessons);
    }

    /// @dev Something is in the way of slot `i`. Only another lesson may be, and only if the order allows to leave some out.
    function _requireTaken(Order calldata order, uint256 i, uint256 booked) private pure {
        Slot[] calldata slots = order.slots;
        (bool overlaps, uint256 other) = slots.overlapsEarlier(i, booked);
        require(!overlaps, SlotOverlap(i, other));
        (uint256 start,) = slots.times(i);
        require(order.minLessons < slots.length, SlotTaken(i, start));
    }

    function _requireEnough(uint256 count, uint256 booked, uint256 minLessons) private pure {
        require(minLessons != 0 && minLessons <= count, MinLessons(minLessons, count));
        if (booked == (1 << count) - 1) return;
        uint256 free;
        for (; booked != 0; booked &= booked - 1) {
            ++free;
        }
        require(free >= minLessons, TooFewFree(free, minLessons));
    }

    /// @inheritdoc IBookingEscrow
    function revoke(Order calldata order, uint40 deadline, bytes calldata signature) external {
        bytes32 batch = batchOf(order);
        _requireActor(order.student, keccak256(abi.encode(REVOKE_TYPEHASH, batch, deadline)), deadline, signature);
        require(_batches[batch] == 0, OrderExists(batch));

        _batches[batch] = block.timestamp;
        emit OrderRevoked(batch, order.student);
    }

    /* THE LIFE OF A LESSON */

    /// @inheritdoc IBookingEscrow
    function confirm(Order calldata order, uint40 lessons, uint40 deadline, bytes calldata signature) external {
        (bytes32 batch, uint256 state) = _load(order);
        _requireActor(order.tutor, _actHash(CONFIRM_TYPEHASH, batch, lessons, deadline), deadline, signature);

        _move(order.slots, batch, state, lessons, CONFIRM_BY_TUTOR, Status.Confirmed);
        emit BookingsConfirmed(batch, order.tutor, lessons);
    }

    /// @inheritdoc IBookingEscrow
    function cancel(Order calldata order, uint40 lessons, address by, uint40 deadline, bytes calldata signature)
        external
    {
        (bytes32 batch, uint256 state) = _load(order);
        _requireActor(by, _actHash(CANCEL_TYPEHASH, batch, lessons, deadline), deadline, signature);
        uint256 row = by == order.tutor ? CANCEL_BY_TUTOR : by == order.student ? CANCEL_BY_STUDENT : CANCEL_BY_ANYONE;

        _move(order.slots, batch, state, lessons, row, Status.Cancelled);
        uint256 refund = _free(order, lessons);
        emit BookingsCancelled(batch, by, lessons, refund);

        _pay(order.student, refund);
    }

    /// @inheritdoc IBookingEscrow
    function complete(Order calldata order, uint40 lessons, address by, uint40 deadline, bytes calldata signature)
        external
    {
        (bytes32 batch, uint256 state) = _load(order);
        _requireActor(by, _actHash(COMPLETE_TYPEHASH, batch, lessons, deadline), deadline, signature);
        uint256 row = by == order.student ? COMPLETE_BY_STUDENT : COMPLETE_BY_ANYONE;

        _move(order.slots, batch, state, lessons, row, Status.Completed);
        uint256 amount = order.slots.total(lessons, order.hourlyRate);
        emit BookingsCompleted(batch, by, lessons, amount);

        _pay(order.tutor, amount);
    }

    /// @inheritdoc IBookingEscrow
    function dispute(Order calldata order, uint40 lessons, uint40 deadline, bytes calldata signature) external {
        (bytes32 batch, uint256 state) = _load(order);
        _requireActor(order.student, _actHash(DISPUTE_TYPEHASH, batch, lessons, deadline), deadline, signature);

        _move(order.slots, batch, state, lessons, DISPUTE_BY_STUDENT, Status.Disputed);
        emit BookingsDisputed(batch, order.student, lessons);
    }

    /// @inheritdoc IBookingEscrow
    function resolve(Order calldata order, uint40 lessons, uint16 tutorShareBps) external {
        (bytes32 batch, uint256 state) = _load(order);
        (address student, address tutor) = (order.student, order.tutor);
        bool byArbiter = msg.sender == owner() && msg.sender != student && msg.sender != tutor;
        if (byArbiter) _share(tutorShareBps);
        else require(tutorShareBps == defaultTutorShareBps, ShareNotDefault(tutorShareBps, defaultTutorShareBps));
        uint256 row = byArbiter ? RESOLVE_BY_ARBITER : RESOLVE_BY_ANYONE;

        _move(order.slots, batch, state, lessons, row, Status.Completed);
        (uint256 tutorAmount, uint256 studentAmount) = order.slots.split(lessons, order.hourlyRate, tutorShareBps);
        emit BookingsResolved(batch, msg.sender, lessons, tutorAmount, studentAmount);

        _pay(tutor, tutorAmount);
        _pay(student, studentAmount);
    }

    /// @inheritdoc IBookingEscrow
    function settle(
        Order calldata order,
        uint40 lessons,
        uint16 tutorShareBps,
        uint40 deadline,
        bytes calldata studentSignature,
        bytes calldata tutorSignature
    ) external {
        (bytes32 batch, uint256 state) = _load(order);
        (address student, address tutor) = (order.student, order.tutor);
        bytes32 terms = keccak256(abi.encode(SETTLE_TYPEHASH, batch, lessons, _share(tutorShareBps), deadline));
        _requireActor(student, terms, deadline, studentSignature);
        _requireActor(tutor, terms, deadline, tutorSignature);

        _move(order.slots, batch, state, lessons, SETTLE_BY_BOTH, Status.Completed);
        (uint256 tutorAmount, uint256 studentAmount) = order.slots.split(lessons, order.hourlyRate, tutorShareBps);
        emit BookingsSettled(batch, student, tutor, lessons, tutorAmount, studentAmount);

        _pay(tutor, tutorAmount);
        _pay(student, studentAmount);
    }

    /// @dev The batch of an order that was created. That it exists proves every term of the order.
    function _load(Order calldata order) private view returns (bytes32 batch, uint256 state) {
        batch = batchOf(order);
        state = _batches[batch];
        require(state != 0, UnknownBatch(batch));
    }

    /// @dev Moves lessons to a status, if a row of the table lets each of them go now.
    function _move(Slot[] calldata slots, bytes32 batch, uint256 state, uint256 lessons, uint256 row, Status to)
        private
    {
        require(lessons != 0, NoLessons());
        uint256 others = lessons;
        (uint256 allowed, uint256 timed, uint256 time) = (0, 0, 0);
        unchecked {
            for (uint256 status = 1; status <= uint256(Status.Disputed); ++status) {
                uint256 when = row >> 4 * status & 0xf;
                if (when == 0) continue;
                allowed |= 1 << status;
                uint256 those = lessons & _set(state, status);
                others ^= those;
                if (when != ANY_TIME) (timed, time) = (those, when); // a row has one such entry at most
            }
            if (others != 0) {
                uint256 i = Math.log2(others & (~others + 1)); // the lowest of them
                revert WrongStatus(i, Status(_statusOf(state, i)), allowed);
            }
            _requireTime(slots, timed, time);
            _batches[batch] = state & ~(lessons * LIVE) | lessons << 40 * uint256(to);
        }
    }

    /// @dev Reverts unless an entry of the table lets each of these lessons go now.
    function _requireTime(Slot[] calldata slots, uint256 lessons, uint256 when) private view {
        unchecked {
            for (uint256 i; lessons >> i != 0; ++i) {
                if (!_has(lessons, i)) continue;
                (uint256 start, uint256 end) = slots.times(i);
                uint256 since;
                uint256 until = type(uint256).max;
                if (when == BEFORE_START) until = start - 1;
                else if (when == AFTER_REVIEW) since = end + reviewPeriod + 1;
                else if (when == IN_NOTICE) until = start - cancelWindow;
                else if (when == ONCE_BEGUN) since = start;
                else if (when == IN_REVIEW) (since, until) = (start, end + reviewPeriod);
                else since = end + reviewPeriod + arbitrationPeriod + 1; // AFTER_ARBITRATION
                require(block.timestamp >= since, TooEarly(i, since, block.timestamp));
                require(block.timestamp <= until, TooLate(i, until, block.timestamp));
            }
        }
    }

    /// @dev Gives the quarters of cancelled lessons back, and sums up their money. No other lesson has these quarters, so
    /// clearing them touches none. One loop for both saves about 1,000 gas for ten.
    function _free(Order calldata order, uint256 lessons) private returns (uint256 refund) {
        Slot[] calldata slots = order.slots;
        uint256 hourlyRate = order.hourlyRate;
        mapping(uint256 => uint256) storage pages = _calendar[order.tutor];
        uint256 page = NO_PAGE;
        uint256 word;
        unchecked {
            for (uint256 i; lessons >> i != 0; ++i) {
                if (!_has(lessons, i)) continue;
                (uint256 start, uint256 length) = slots.read(i);
                uint256 mask = ((1 << length) - 1) << (start & 255);
                uint256 spill = ((1 << length) - 1) >> (256 - (start & 255)); // into the next word
                if (start >> 8 != page) {
                    if (page != NO_PAGE) pages[page] = word;
                    page = start >> 8;
                    word = pages[page];
                }
                word &= ~mask;
                if (spill != 0) {
                    pages[page] = word;
                    word = pages[++page] & ~spill;
                }
                refund += Slots.amount(length, hourlyRate);
            }
        }
        pages[page] = word;
    }

    /* MONEY */

    /// @dev Pays, or if the token refuses, keeps it for the account. Nothing to pay is not an error: a lesson may be so
    /// cheap that its amount rounds to zero. Too little gas cannot turn a payment into a credit: the token gets 63 of 64
    /// parts of it, and what is left could not pay for the credit.
    function _pay(address account, uint256 amount) private {
        if (amount == 0 || IERC20(token).trySafeTransfer(account, amount)) return;
        credits[account] += amount;
        emit PaymentCredited(account, amount);
    }

    /// @inheritdoc IBookingEscrow
    function withdraw(address account, address to, uint40 deadline, bytes calldata signature)
        external
        returns (uint256 amount)
    {
        _requireActor(account, keccak256(abi.encode(WITHDRAW_TYPEHASH, account, to, deadline)), deadline, signature);
        require(to != address(this), InvalidRecipient(to));
        amount = credits[account];
        require(amount != 0, NoCredit(account));

        credits[account] = 0;
        emit CreditWithdrawn(account, to, amount);

        IERC20(token).safeTransfer(to, amount);
    }

    /* SEVERAL CALLS */

    /// @inheritdoc IBookingEscrow
    function tryMulticall(bytes[] calldata calls) external returns (CallResult[] memory results) {
        results = new CallResult[](calls.length);
        for (uint256 i; i < calls.length; ++i) {
            (bool success, bytes memory data) = address(this).delegatecall(calls[i]);
            results[i] = CallResult(success, data);
            if (!success) emit CallFailed(i, data);
        }
    }

    /* VIEWS */

    /// @inheritdoc IBookingEscrow
    function arbiter() external view returns (address) {
        return owner();
    }

    /// @inheritdoc IBookingEscrow
    function batches(bytes32 batch) external view returns (Batch memory) {
        uint256 state = _batches[batch];
        return Batch(_set(state, 0), _set(state, 1), _set(state, 2), _set(state, 3), _set(state, 4), _set(state, 5));
    }

    /// @inheritdoc IBookingEscrow
    function statusOf(bytes32 bookingId) external view returns (Status) {
        return Status(_statusOf(_batches[_batchOf(bookingId)], uint8(uint256(bookingId))));
    }

    /// @inheritdoc IBookingEscrow
    function listings(address tutor, bytes32 listing) external view returns (Listing memory) {
        return _listings[tutor][listing];
    }

    /// @inheritdoc IBookingEscrow
    function calendar(address tutor, uint256 firstPage, uint256 count) external view returns (uint256[] memory words) {
        words = new uint256[](count);
        for (uint256 i; i < count; ++i) {
            words[i] = _calendar[tutor][firstPage + i];
        }
    }

    /// @inheritdoc IBookingEscrow
    function check(Order calldata order) external view returns (SlotCode[] memory codes, uint256 total) {
        _requireCount(order.slots.length);
        codes = new SlotCode[](order.slots.length);
        uint256 booked;
        for (uint256 i; i < codes.length; ++i) {
            codes[i] = _codeOf(order, i, booked);
            if (codes[i] == SlotCode.Ok) booked |= 1 << i;
        }
        total = order.slots.total(booked, order.hourlyRate);
    }

    /// @dev The rules of `_fill` for one slot, given the slots before it that would be booked.
    function _codeOf(Order calldata order, uint256 i, uint256 booked) private view returns (SlotCode) {
        (uint256 earliest, uint256 latest) = _bounds(_offer(order.student, order.tutor, order.listing));
        (SlotCode code,,) = Slots.check(order.slots[i], earliest, latest);
        if (code != SlotCode.Ok) return code;

        (bool overlaps,) = order.slots.overlapsEarlier(i, booked);
        if (overlaps) return SlotCode.Overlap;
        mapping(uint256 => uint256) storage pages = _calendar[order.tutor];
        (uint256 start, uint256 length) = order.slots.read(i);
        uint256 taken = pages[start >> 8] >> (start & 255) | pages[(start >> 8) + 1] << (256 - (start & 255));
        return taken & ((1 << length) - 1) != 0 ? SlotCode.Taken : SlotCode.Ok;
    }

    /* ARBITER */

    /// @notice Always reverts: somebody has to resolve disputes.
    function renounceOwnership() public pure override {
        revert ArbiterRequired();
    }

    /* CONSENT */

    /// @dev Reverts unless `actor` sent this call, or signed these terms and their deadline has not passed.
    function _requireActor(address actor, bytes32 terms, uint40 deadline, bytes calldata signature) private view {
        if (msg.sender == actor) return;
        require(block.timestamp <= deadline, SignatureExpired(deadline, block.timestamp));
        _requireSigned(actor, terms, signature);
    }

    /// @dev Reverts unless `actor` sent this call or signed these terms.
    function _requireSigned(address actor, bytes32 terms, bytes calldata signature) private view {
        if (msg.sender == actor) return;
        bytes32 digest = _hashTypedDataV4(terms);
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure == ECDSA.RecoverError.NoError && signer == actor) return;
        // Last, because to look at an account without code costs 2,600 gas. All bytes and all gas.
        bool accepts = SignatureChecker.isValidERC1271SignatureNowCalldata(actor, digest, signature);
        require(accepts, NotActor(actor, msg.sender));
    }

    /* SETS OF LESSONS */

    /// @dev The lessons in a status.
    function _set(uint256 state, uint256 status) private pure returns (uint40) {
        return uint40(state >> 40 * status);
    }

    function _statusOf(uint256 state, uint256 i) private pure returns (uint256) {
        for (uint256 status = 1; status <= uint256(Status.Cancelled); ++status) {
            if (_has(_set(state, status), i)) return status;
        }
        return uint256(Status.None);
    }

    function _has(uint256 lessons, uint256 i) private pure returns (bool) {
        return lessons & (1 << i) != 0;
    }

    /* HASHES */

    /// @inheritdoc IBookingEscrow
    function hashOrder(Order calldata order) external view returns (bytes32) {
        return _hashTypedDataV4(Slots.hash(order));
    }

    /// @inheritdoc IBookingEscrow
    function batchOf(Order calldata order) public pure returns (bytes32) {
        return _batchOf(Slots.hash(order));
    }

    function _batchOf(bytes32 id) private pure returns (bytes32) {
        return id & ~bytes32(uint256(0xff));
    }

    function _actHash(bytes32 typehash, bytes32 batch, uint40 lessons, uint40 deadline) private pure returns (bytes32) {
        return keccak256(abi.encode(typehash, batch, lessons, deadline));
    }
}
// slither-disable-end timestamp,incorrect-equality,uninitialized-local,unused-return,low-level-calls,calls-loop,reentrancy-benign,reentrancy-events
