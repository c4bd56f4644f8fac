// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

import {Batch, IBookingEscrow, Listing, Order, Permit, Slot, SlotCode, Status} from "./interfaces/IBookingEscrow.sol";

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
    uint256 private constant NO_PAGE = type(uint256).max;

    bytes32 private constant SLOT_TYPEHASH = keccak256("Slot(uint40 start,uint16 duration)");
    bytes32 private constant ORDER_TYPEHASH = keccak256(
        "Order(address student,address tutor,bytes32 listing,uint96 hourlyRate,bool allowPartial,uint40 deadline,bytes32 salt,Slot[] slots)Slot(uint40 start,uint16 duration)"
    );
    bytes32 private constant LISTING_TYPEHASH =
        keccak256("Listing(address tutor,bytes32 listing,uint96 hourlyRate,bool instant,uint64 nonce)");

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
        _requireActor(
            tutor,
            _hashTypedDataV4(keccak256(abi.encode(LISTING_TYPEHASH, tutor, listing, hourlyRate, instant, nonce))),
            signature
        );

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
        return _createBookings(order, signature);
    }

    /// @inheritdoc IBookingEscrow
    function createBookingsWithPermit(Order calldata order, bytes calldata signature, Permit calldata permit)
        external
        returns (bytes32 batch, uint40 booked)
    {
        // A permit that someone else has used already fails here, and has done its work.
        try IERC20Permit(token)
            .permit(order.student, address(this), permit.value, permit.deadline, permit.v, permit.r, permit.s) {}
            catch {}
        return _createBookings(order, signature);
    }

    function _createBookings(Order calldata order, bytes calldata signature)
        private
        returns (bytes32 batch, uint40 booked)
    {
        bytes32 digest = _hashOrder(order);
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

        IERC20(token).safeTransferFrom(order.student, address(this), total);
    }

    /// @dev Marks the order's slots in the tutor's calendar. Each calendar word is read and written once as long as
    /// the slots come in order of time.
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

    /// @dev `emit BookingsCreated(batch, order.student, order.tutor, order, booked, total)`, but with the order copied
    /// from calldata in two pieces instead of word by word, which saves about 400 gas a slot. Every word copied was
    /// read in Solidity before, which reverts on dirty upper bits.
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

    /* VIEWS */

    /// @inheritdoc IBookingEscrow
    function arbiter() external view returns (address) {
        return owner();
    }

    /// @inheritdoc IBookingEscrow
    function hashOrder(Order calldata order) external view returns (bytes32) {
        return _hashOrder(order);
    }

    /// @inheritdoc IBookingEscrow
    function batchOf(Order calldata order) external view returns (bytes32) {
        return _batchOf(_hashOrder(order));
    }

    /// @inheritdoc IBookingEscrow
    function batches(bytes32 batch) external view returns (Batch memory) {
        return _batches[batch];
    }

    /// @inheritdoc IBookingEscrow
    function statusOf(bytes32 bookingId) external view returns (Status) {
        Batch memory batch = _batches[_batchOf(bookingId)];
        uint256 lesson = 1 << uint8(uint256(bookingId));
        if (batch.pending & lesson != 0) return Status.Pending;
        if (batch.confirmed & lesson != 0) return Status.Confirmed;
        if (batch.disputed & lesson != 0) return Status.Disputed;
        if (batch.completed & lesson != 0) return Status.Completed;
        if (batch.cancelled & lesson != 0) return Status.Cancelled;
        return Status.None;
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
        require(
            msg.sender == actor || SignatureChecker.isValidSignatureNowCalldata(actor, digest, signature),
            NotActor(actor, msg.sender)
        );
    }

    function _requireSlotCount(uint256 count) private pure {
        require(count != 0 && count <= MAX_SLOTS, SlotCount(count, MAX_SLOTS));
    }

    function _isDuration(uint256 duration) private pure returns (bool) {
        return duration % MINUTES_PER_QUARTER == 0 && duration != 0 && duration <= MAX_DURATION;
    }

    /// @dev Whether slot `i` shares time with an earlier slot of the order that is booked, and with which. Only asked
    /// when something is in the way, so the loop costs nothing otherwise.
    function _overlapsEarlier(Slot[] calldata slots, uint256 i, uint40 booked) private pure returns (bool, uint256) {
        (uint256 start, uint256 end) = _times(slots[i]);
        for (uint256 j; j < i; ++j) {
            if (booked & (1 << j) == 0) continue;
            (uint256 otherStart, uint256 otherEnd) = _times(slots[j]);
            if (start < otherEnd && otherStart < end) return (true, j);
        }
        return (false, 0);
    }

    function _times(Slot calldata slot) private pure returns (uint256 start, uint256 end) {
        start = slot.start;
        end = start + uint256(slot.duration) * 1 minutes;
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

    /* HASHES */

    function _batchOf(bytes32 digest) private pure returns (bytes32) {
        return digest & ~bytes32(uint256(0xff));
    }

    /// @dev EIP-712: the array is hashed as the concatenation of the hashes of its elements.
    function _hashOrder(Order calldata order) private view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    ORDER_TYPEHASH,
                    order.student,
                    order.tutor,
                    order.listing,
                    order.hourlyRate,
                    order.allowPartial,
                    order.deadline,
                    order.salt,
                    _hashSlots(order.slots)
                )
            )
        );
    }

    /// @dev EIP-712 `encodeData` of the array: the hash of the concatenated hashes of its elements. The same as
    /// `keccak256(abi.encodePacked(hashes))` over `keccak256(abi.encode(SLOT_TYPEHASH, start, duration))`, but with one
    /// scratch area for all slots, which saves about 450 gas a slot. The elements are copied as they are: values with
    /// dirty upper bits never get further, because `_fill` and `check` read every slot, which reverts on them.
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
