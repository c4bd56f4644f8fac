// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

import {Batch, IBookingEscrow, Listing, Order, Permit, Slot, SlotCode, Status} from "./interfaces/IBookingEscrow.sol";

// What slither reports here is meant: lessons begin and end by block time, on which the seconds that a proposer can shift
// have no bearing; sums and sets start at zero; the two assembly functions say why they are.
// slither-disable-start timestamp,uninitialized-local,assembly

/// @title BookingEscrow
/// @notice See `IBookingEscrow`, which documents every function, event and error.
contract BookingEscrow is IBookingEscrow, EIP712, Multicall, Ownable2Step {
    using SafeERC20 for IERC20;

    /* CONSTANTS */

    uint256 private constant MAX_SLOTS = 40;
    uint256 private constant QUARTER = 15 minutes;
    uint256 private constant MINUTES_PER_QUARTER = 15;
    uint256 private constant MAX_DURATION = 8 * 60;
    uint256 private constant MAX_PERIOD = 365 days;
    uint256 private constant BPS = 10_000;
    uint256 private constant NO_PAGE = type(uint256).max;

    /// @dev Sets of statuses, bit s standing for status s.
    uint256 private constant PENDING = 1 << uint256(Status.Pending);
    uint256 private constant CONFIRMED = 1 << uint256(Status.Confirmed);
    uint256 private constant DISPUTED = 1 << uint256(Status.Disputed);

    bytes32 private constant SLOT_TYPEHASH = keccak256("Slot(uint40 start,uint16 duration)");
    bytes32 private constant ORDER_TYPEHASH = keccak256(
        "Order(address student,address tutor,bytes32 listing,uint96 hourlyRate,bool allowPartial,uint40 deadline,bytes32 salt,Slot[] slots)Slot(uint40 start,uint16 duration)"
    );
    bytes32 private constant LISTING_TYPEHASH =
        keccak256("Listing(address tutor,bytes32 listing,uint96 hourlyRate,bool instant,uint64 nonce)");
    bytes32 private constant CONFIRM_TYPEHASH = keccak256("Confirm(bytes32 batch,uint40 lessons)");
    bytes32 private constant CANCEL_TYPEHASH = keccak256("Cancel(bytes32 batch,uint40 lessons)");
    bytes32 private constant COMPLETE_TYPEHASH = keccak256("Complete(bytes32 batch,uint40 lessons)");
    bytes32 private constant DISPUTE_TYPEHASH = keccak256("Dispute(bytes32 batch,uint40 lessons)");

    /* IMMUTABLES */

    /// @inheritdoc IBookingEscrow
    address public immutable token;
    /// @inheritdoc IBookingEscrow
    uint256 public immutable cancelWindow;
    /// @inheritdoc IBookingEscrow
    uint256 public immutable reviewPeriod;
    /// @inheritdoc IBookingEscrow
    uint256 public immutable arbitrationPeriod;

    /* STORAGE */

    mapping(bytes32 batch => Batch) private _batches;
    mapping(address tutor => mapping(bytes32 listing => Listing)) private _listings;
    mapping(address tutor => mapping(uint256 page => uint256 quarters)) private _calendar;

    /* CONSTRUCTOR */

    /// @param token_ The ERC-20 that lessons are paid in; see the assumptions in `IBookingEscrow`.
    /// @param arbiter_ The first arbiter.
    /// @param cancelWindow_ In seconds, at most a year, like the two after it.
    constructor(
        address token_,
        address arbiter_,
        uint256 cancelWindow_,
        uint256 reviewPeriod_,
        uint256 arbitrationPeriod_
    ) EIP712("Creneau", "1") Ownable(arbiter_) {
        require(token_.code.length != 0, TokenWithoutCode(token_));
        require(cancelWindow_ <= MAX_PERIOD, PeriodTooLong(cancelWindow_, MAX_PERIOD));
        require(reviewPeriod_ <= MAX_PERIOD, PeriodTooLong(reviewPeriod_, MAX_PERIOD));
        require(arbitrationPeriod_ <= MAX_PERIOD, PeriodTooLong(arbitrationPeriod_, MAX_PERIOD));
        token = token_;
        cancelWindow = cancelWindow_;
        reviewPeriod = reviewPeriod_;
        arbitrationPeriod = arbitrationPeriod_;
    }

    /* LISTINGS */

    /// @inheritdoc IBookingEscrow
    function publish(address tutor, bytes32 listing, uint96 hourlyRate, bool instant, bytes calldata signature)
        external
    {
        Listing storage published = _listings[tutor][listing];
        uint64 nonce = published.nonce;
        bytes32 terms = keccak256(abi.encode(LISTING_TYPEHASH, tutor, listing, hourlyRate, instant, nonce));
        _requireActor(tutor, _hashTypedDataV4(terms), signature);

        published.hourlyRate = hourlyRate;
        published.instant = instant;
        published.nonce = nonce + 1;
        emit ListingPublished(tutor, listing, hourlyRate, instant, nonce + 1);
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
        // slither-disable-next-line reentrancy-benign
        try IERC20Permit(token)
            .permit(order.student, address(this), permit.value, permit.deadline, permit.v, permit.r, permit.s) {}
            catch {}
        return _create(order, signature);
    }

    function _create(Order calldata order, bytes calldata signature) private returns (bytes32 batch, uint40 booked) {
        bytes32 digest = hashOrder(order);
        batch = _batchOf(digest);
        _requireActor(order.student, digest, signature);
        require(order.student != order.tutor, StudentIsTutor(order.student));
        require(block.timestamp <= order.deadline, OrderExpired(order.deadline, block.timestamp));
        require(_batches[batch].createdAt == 0, OrderExists(batch));
        Listing memory listing = _listings[order.tutor][order.listing];
        require(listing.hourlyRate != 0, NotListed(order.tutor, order.listing));
        require(order.hourlyRate == listing.hourlyRate, RateMismatch(order.hourlyRate, listing.hourlyRate));

        uint256 total;
        (booked, total) = _fill(order);
        require(booked != 0, NothingFree(order.slots.length));

        _batches[batch] = Batch({
            createdAt: uint40(block.timestamp),
            pending: listing.instant ? 0 : booked,
            confirmed: listing.instant ? booked : 0,
            disputed: 0,
            completed: 0,
            cancelled: 0
        });
        _emitCreated(batch, order, booked, total);

        // slither-disable-next-line arbitrary-send-erc20 (the student sent this order or signed it)
        IERC20(token).safeTransferFrom(order.student, address(this), total);
    }

    /// @dev Marks the slots in the tutor's calendar. If they come in order of time, each word is read and written once.
    function _fill(Order calldata order) private returns (uint40 booked, uint256 total) {
        Slot[] calldata slots = order.slots;
        _requireSlotCount(slots.length);
        mapping(uint256 => uint256) storage pages = _calendar[order.tutor];
        uint256 page = NO_PAGE;
        uint256 word;

        for (uint256 i; i < slots.length; ++i) {
            Slot calldata slot = slots[i];
            (uint256 start, uint256 duration) = (slot.start, slot.duration);
            require(start > block.timestamp, SlotInPast(i, start, block.timestamp));
            require(start % QUARTER == 0, SlotMisaligned(i, start, QUARTER));
            require(_isDuration(duration), SlotDuration(i, duration, MINUTES_PER_QUARTER, MAX_DURATION));

            (uint256 slotPage, uint256 mask, uint256 spill) = _quarters(start, duration);
            if (slotPage != page) {
                if (page != NO_PAGE) pages[page] = word;
                page = slotPage;
                word = pages[page];
            }
            if (word & mask != 0 || (spill != 0 && pages[page + 1] & spill != 0)) {
                (bool overlaps, uint256 other) = _overlapsEarlier(slots, i, booked);
                require(!overlaps, SlotOverlap(i, other));
                require(order.allowPartial, SlotTaken(i, start));
                continue;
            }

            word |= mask;
            if (spill != 0) {
                pages[page] = word;
                word = pages[++page] | spill;
            }
            booked |= uint40(1 << i);
            // At most 40 times 2^96 * 480 / 60.
            unchecked {
                total += _amount(order.hourlyRate, duration);
            }
        }
        pages[page] = word;
    }

    /// @dev `emit BookingsCreated(batch, student, tutor, order, booked, total)`, but the order is copied in two pieces:
    /// about 240 gas less for a slot. Every word was read in Solidity before, which reverts on dirty upper bits.
    function _emitCreated(bytes32 batch, Order calldata order, uint40 booked, uint256 total) private {
        bytes32 topic = BookingsCreated.selector;
        Slot[] calldata slots = order.slots;
        address student = order.student;
        address tutor = order.tutor;
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, 0x60) // where the order begins
            mstore(add(data, 0x20), booked)
            mstore(add(data, 0x40), total)
            calldatacopy(add(data, 0x60), order, 0xe0) // student .. salt
            mstore(add(data, 0x140), 0x100) // where the slots begin, counted from the order
            mstore(add(data, 0x160), slots.length)
            calldatacopy(add(data, 0x180), slots.offset, shl(6, slots.length))
            log4(data, add(0x180, shl(6, slots.length)), topic, batch, student, tutor)
        }
    }

    /* THE LIFE OF A LESSON */

    /// @inheritdoc IBookingEscrow
    function confirm(Order calldata order, uint40 lessons, bytes calldata signature) external {
        (bytes32 batch, Batch memory state) = _load(order);
        _requireActor(order.tutor, _actDigest(CONFIRM_TYPEHASH, batch, lessons), signature);
        _requireStatus(state, lessons, PENDING);
        Slot[] calldata slots = order.slots;
        for (uint256 i; i < slots.length; ++i) {
            if (!_has(lessons, i)) continue;
            uint256 start = slots[i].start;
            require(block.timestamp < start, TooLate(i, start - 1, block.timestamp));
        }

        state.pending ^= lessons;
        state.confirmed |= lessons;
        _batches[batch] = state;
        emit BookingsConfirmed(batch, lessons);
    }

    /// @inheritdoc IBookingEscrow
    function cancel(Order calldata order, uint40 lessons, address by, bytes calldata signature) external {
        (bytes32 batch, Batch memory state) = _load(order);
        _requireActor(by, _actDigest(CANCEL_TYPEHASH, batch, lessons), signature);
        bool isParty = by == order.student || by == order.tutor;
        _requireStatus(state, lessons, isParty ? PENDING | CONFIRMED | DISPUTED : DISPUTED);
        if (by != order.tutor) _requireCancellable(order, lessons & ~state.pending, state.disputed);

        state.pending &= ~lessons;
        state.confirmed &= ~lessons;
        state.disputed &= ~lessons;
        state.cancelled |= lessons;
        _batches[batch] = state;
        _free(order, lessons);
        uint256 refund = _amountOf(order, lessons);
        emit BookingsCancelled(batch, lessons, by, refund);

        _pay(order.student, refund);
    }

    /// @inheritdoc IBookingEscrow
    function complete(Order calldata order, uint40 lessons, address by, bytes calldata signature) external {
        (bytes32 batch, Batch memory state) = _load(order);
        _requireActor(by, _actDigest(COMPLETE_TYPEHASH, batch, lessons), signature);
        if (by == order.student) {
            _requireStatus(state, lessons, PENDING | CONFIRMED | DISPUTED);
        } else {
            _requireStatus(state, lessons, CONFIRMED);
            Slot[] calldata slots = order.slots;
            for (uint256 i; i < slots.length; ++i) {
                if (!_has(lessons, i)) continue;
                (, uint256 end) = _times(slots[i]);
                _requireAfter(i, end + reviewPeriod);
            }
        }

        state.pending &= ~lessons;
        state.confirmed &= ~lessons;
        state.disputed &= ~lessons;
        state.completed |= lessons;
        _batches[batch] = state;
        uint256 amount = _amountOf(order, lessons);
        emit BookingsCompleted(batch, lessons, amount);

        _pay(order.tutor, amount);
    }

    /// @inheritdoc IBookingEscrow
    function dispute(Order calldata order, uint40 lessons, bytes calldata signature) external {
        (bytes32 batch, Batch memory state) = _load(order);
        _requireActor(order.student, _actDigest(DISPUTE_TYPEHASH, batch, lessons), signature);
        _requireStatus(state, lessons, CONFIRMED);
        Slot[] calldata slots = order.slots;
        for (uint256 i; i < slots.length; ++i) {
            if (!_has(lessons, i)) continue;
            (uint256 start, uint256 end) = _times(slots[i]);
            require(block.timestamp >= start, TooEarly(i, start, block.timestamp));
            _requireUntil(i, end + reviewPeriod);
        }

        state.confirmed ^= lessons;
        state.disputed |= lessons;
        _batches[batch] = state;
        emit BookingsDisputed(batch, lessons);
    }

    /// @inheritdoc IBookingEscrow
    function resolve(Order calldata order, uint40 lessons, uint16 tutorShareBps) external {
        require(msg.sender == owner(), NotActor(owner(), msg.sender));
        require(tutorShareBps <= BPS, ShareTooLarge(tutorShareBps, BPS));
        (bytes32 batch, Batch memory state) = _load(order);
        _requireStatus(state, lessons, DISPUTED);

        state.disputed ^= lessons;
        state.completed |= lessons;
        _batches[batch] = state;
        uint256 tutorAmount;
        uint256 studentAmount;
        Slot[] calldata slots = order.slots;
        for (uint256 i; i < slots.length; ++i) {
            if (!_has(lessons, i)) continue;
            uint256 amount = _amount(order.hourlyRate, slots[i].duration);
            uint256 share = amount * tutorShareBps / BPS;
            tutorAmount += share;
            studentAmount += amount - share;
        }
        emit BookingsResolved(batch, lessons, tutorAmount, studentAmount);

        _pay(order.tutor, tutorAmount);
        _pay(order.student, studentAmount);
    }

    /// @dev Gives the quarters of cancelled lessons back. No other lesson has them, so clearing them touches none.
    function _free(Order calldata order, uint40 lessons) private {
        mapping(uint256 => uint256) storage pages = _calendar[order.tutor];
        uint256 page = NO_PAGE;
        uint256 word;
        Slot[] calldata slots = order.slots;
        for (uint256 i; i < slots.length; ++i) {
            if (!_has(lessons, i)) continue;
            Slot calldata slot = slots[i];
            (uint256 slotPage, uint256 mask, uint256 spill) = _quarters(slot.start, slot.duration);
            if (slotPage != page) {
                if (page != NO_PAGE) pages[page] = word;
                page = slotPage;
                word = pages[page];
            }
            word &= ~mask;
            if (spill != 0) {
                pages[page] = word;
                word = pages[++page] & ~spill;
            }
        }
        pages[page] = word;
    }

    /// @dev Nothing to pay is not an error: a lesson may be so cheap that its amount rounds to zero.
    function _pay(address account, uint256 amount) private {
        if (amount != 0) IERC20(token).safeTransfer(account, amount);
    }

    /* VIEWS */

    /// @inheritdoc IBookingEscrow
    function arbiter() external view returns (address) {
        return owner();
    }

    /// @inheritdoc IBookingEscrow
    function batchOf(Order calldata order) external view returns (bytes32) {
        return _batchOf(hashOrder(order));
    }

    /// @inheritdoc IBookingEscrow
    function batches(bytes32 batch) external view returns (Batch memory) {
        return _batches[batch];
    }

    /// @inheritdoc IBookingEscrow
    function statusOf(bytes32 bookingId) external view returns (Status) {
        return _statusOf(_batches[_batchOf(bookingId)], uint8(uint256(bookingId)));
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
        Slot[] calldata slots = order.slots;
        _requireSlotCount(slots.length);
        codes = new SlotCode[](slots.length);
        uint40 booked;
        for (uint256 i; i < slots.length; ++i) {
            codes[i] = _codeOf(order, i, booked);
            if (codes[i] == SlotCode.Ok) {
                booked |= uint40(1 << i);
                total += _amount(order.hourlyRate, slots[i].duration);
            }
        }
    }

    /// @dev The rules of `_fill` for one slot, given the slots before it that would be booked.
    function _codeOf(Order calldata order, uint256 i, uint40 booked) private view returns (SlotCode) {
        (uint256 start, uint256 duration) = (order.slots[i].start, order.slots[i].duration);
        if (start <= block.timestamp) return SlotCode.InPast;
        if (start % QUARTER != 0) return SlotCode.Misaligned;
        if (!_isDuration(duration)) return SlotCode.Duration;

        (bool overlaps,) = _overlapsEarlier(order.slots, i, booked);
        if (overlaps) return SlotCode.Overlap;
        (uint256 page, uint256 mask, uint256 spill) = _quarters(start, duration);
        mapping(uint256 => uint256) storage pages = _calendar[order.tutor];
        return pages[page] & mask != 0 || pages[page + 1] & spill != 0 ? SlotCode.Taken : SlotCode.Ok;
    }

    /* ARBITER */

    /// @notice Always reverts: somebody has to resolve disputes.
    function renounceOwnership() public pure override {
        revert ArbiterRequired();
    }

    /* RULES */

    /// @dev Reverts unless `actor` sent this call or signed `digest`.
    function _requireActor(address actor, bytes32 digest, bytes calldata signature) private view {
        bool acts = msg.sender == actor || SignatureChecker.isValidSignatureNowCalldata(actor, digest, signature);
        require(acts, NotActor(actor, msg.sender));
    }

    /// @dev The batch of an order that was created. That it exists proves every term of the order.
    function _load(Order calldata order) private view returns (bytes32 batch, Batch memory state) {
        batch = _batchOf(hashOrder(order));
        state = _batches[batch];
        require(state.createdAt != 0, UnknownBatch(batch));
    }

    /// @dev Reverts unless every lesson is in one of the `allowed` statuses, bit s standing for status s.
    function _requireStatus(Batch memory state, uint40 lessons, uint256 allowed) private pure {
        require(lessons != 0, NoLessons());
        uint256 others = lessons;
        if (allowed & PENDING != 0) others &= ~uint256(state.pending);
        if (allowed & CONFIRMED != 0) others &= ~uint256(state.confirmed);
        if (allowed & DISPUTED != 0) others &= ~uint256(state.disputed);
        if (others != 0) {
            uint256 i = Math.log2(others & (~others + 1)); // the lowest of them
            revert WrongStatus(i, _statusOf(state, i), allowed);
        }
    }

    /// @dev What a student, or anyone, may cancel of lessons that are confirmed or disputed.
    function _requireCancellable(Order calldata order, uint40 lessons, uint40 disputed) private view {
        Slot[] calldata slots = order.slots;
        for (uint256 i; i < slots.length; ++i) {
            if (!_has(lessons, i)) continue;
            (uint256 start, uint256 end) = _times(slots[i]);
            if (_has(disputed, i)) _requireAfter(i, end + reviewPeriod + arbitrationPeriod);
            else _requireUntil(i, start - cancelWindow);
        }
    }

    function _statusOf(Batch memory state, uint256 i) private pure returns (Status) {
        if (_has(state.pending, i)) return Status.Pending;
        if (_has(state.confirmed, i)) return Status.Confirmed;
        if (_has(state.disputed, i)) return Status.Disputed;
        if (_has(state.completed, i)) return Status.Completed;
        if (_has(state.cancelled, i)) return Status.Cancelled;
        return Status.None;
    }

    function _has(uint256 lessons, uint256 i) private pure returns (bool) {
        return lessons & (1 << i) != 0;
    }

    function _requireUntil(uint256 i, uint256 until) private view {
        require(block.timestamp <= until, TooLate(i, until, block.timestamp));
    }

    function _requireAfter(uint256 i, uint256 time) private view {
        require(block.timestamp > time, TooEarly(i, time + 1, block.timestamp));
    }

    function _requireSlotCount(uint256 count) private pure {
        require(count != 0 && count <= MAX_SLOTS, SlotCount(count, MAX_SLOTS));
    }

    function _isDuration(uint256 duration) private pure returns (bool) {
        return duration % MINUTES_PER_QUARTER == 0 && duration != 0 && duration <= MAX_DURATION;
    }

    /// @dev Whether slot `i` overlaps an earlier booked one, and which. Only asked when something is in the way.
    function _overlapsEarlier(Slot[] calldata slots, uint256 i, uint40 booked) private pure returns (bool, uint256) {
        (uint256 start, uint256 end) = _times(slots[i]);
        for (uint256 j; j < i; ++j) {
            if (!_has(booked, j)) continue;
            (uint256 otherStart, uint256 otherEnd) = _times(slots[j]);
            if (start < otherEnd && otherStart < end) return (true, j);
        }
        return (false, 0);
    }

    /// @dev Both factors come from calldata, of 40 and 16 bits.
    function _times(Slot calldata slot) private pure returns (uint256 start, uint256 end) {
        start = slot.start;
        unchecked {
            end = start + uint256(slot.duration) * 1 minutes;
        }
    }

    /// @dev The quarters of a slot as bits of the calendar word `page`, and those that reach into the next word.
    function _quarters(uint256 start, uint256 duration)
        private
        pure
        returns (uint256 page, uint256 mask, uint256 spill)
    {
        // A duration is at most 8 hours, 32 quarters, wherever this is called.
        unchecked {
            uint256 quarter = start / QUARTER;
            uint256 run = (1 << (duration / MINUTES_PER_QUARTER)) - 1;
            uint256 offset = quarter & 255;
            page = quarter >> 8;
            mask = run << offset;
            spill = run >> (256 - offset); // Nothing if offset is 0: a shift by 256 gives 0.
        }
    }

    /// @dev In base units. Both factors come from calldata, of 96 and 16 bits.
    function _amount(uint256 hourlyRate, uint256 duration) private pure returns (uint256) {
        unchecked {
            return hourlyRate * duration / 60;
        }
    }

    /// @dev At most 40 amounts of less than 2^100.
    function _amountOf(Order calldata order, uint40 lessons) private pure returns (uint256 total) {
        Slot[] calldata slots = order.slots;
        uint256 hourlyRate = order.hourlyRate;
        for (uint256 i; i < slots.length; ++i) {
            unchecked {
                if (_has(lessons, i)) total += _amount(hourlyRate, slots[i].duration);
            }
        }
    }

    /* HASHES */

    function _actDigest(bytes32 typehash, bytes32 batch, uint40 lessons) private view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(typehash, batch, lessons)));
    }

    function _batchOf(bytes32 digest) private pure returns (bytes32) {
        return digest & ~bytes32(uint256(0xff));
    }

    /// @inheritdoc IBookingEscrow
    function hashOrder(Order calldata order) public view returns (bytes32) {
        bytes memory terms = abi.encode(
            ORDER_TYPEHASH,
            order.student,
            order.tutor,
            order.listing,
            order.hourlyRate,
            order.allowPartial,
            order.deadline,
            order.salt,
            _hashSlots(order.slots)
        );
        return _hashTypedDataV4(keccak256(terms));
    }

    /// @dev EIP-712: the hash of the concatenated hashes, `keccak256(abi.encode(SLOT_TYPEHASH, start, duration))` each.
    /// One scratch area for all saves about 590 gas a slot. Dirty upper bits are copied too, but get no further:
    /// `_fill` and `check` read every slot, which reverts on them.
    function _hashSlots(Slot[] calldata slots) private pure returns (bytes32 result) {
        bytes32 typehash = SLOT_TYPEHASH;
        assembly ("memory-safe") {
            let scratch := mload(0x40)
            let hashes := add(scratch, 0x60)
            let end := add(hashes, shl(5, slots.length))
            mstore(scratch, typehash)
            let source := slots.offset
            for { let target := hashes } lt(target, end) { target := add(target, 0x20) } {
                calldatacopy(add(scratch, 0x20), source, 0x40)
                mstore(target, keccak256(scratch, 0x60))
                source := add(source, 0x40)
            }
            result := keccak256(hashes, shl(5, slots.length))
        }
    }
}
// slither-disable-end timestamp,uninitialized-local,assembly
