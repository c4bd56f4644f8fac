// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Order, Slot, SlotCode} from "./interfaces/IBookingEscrow.sol";

// The block's time says whether a slot is past; the assembly functions say why they are.
// slither-disable-start timestamp,assembly

/// @title Slots
/// @notice Reads an order's packed slots from calldata, prices them, and hashes an order as wallets do.
/// @dev Its functions are internal: the compiler puts them into `BookingEscrow`, which stays one contract at one address.
/// They are apart because they know how slots are laid out and what they cost, and nothing of states, calendars, payments or consent.
library Slots {
    uint256 internal constant QUARTER = 15 minutes;
    uint256 internal constant MINUTES = 15; // of a quarter
    uint256 internal constant MAX_QUARTERS = 32;
    uint256 internal constant LAST_START = (1 << 24) * QUARTER - QUARTER; // what a slot can name
    uint256 internal constant BPS = 10_000;
    uint256 private constant QUARTERS_PER_HOUR = 4;

    bytes32 private constant SLOT_TYPEHASH = keccak256("Slot(uint40 start,uint16 duration)");
    bytes32 private constant ORDER_TYPEHASH = keccak256(
        "Order(address student,address tutor,bytes32 listing,uint96 hourlyRate,uint8 minLessons,uint40 deadline,bytes32 salt,Slot[] slots)Slot(uint40 start,uint16 duration)"
    );

    /// @dev Start and length of slot `i`, in quarters, without a look at the array's bounds or at bits that a slot does not
    /// have: `pack` finds those, and later calls bring the slots of a batch that was created. Saves 150 gas a lesson.
    function read(Slot[] calldata slots, uint256 i) internal pure returns (uint256 start, uint256 length) {
        assembly ("memory-safe") {
            let slot := calldataload(add(slots.offset, shl(5, i)))
            start := shr(8, slot)
            length := and(slot, 0xff)
        }
    }

    /// @dev Start and end of slot `i`, in seconds.
    function times(Slot[] calldata slots, uint256 i) internal pure returns (uint256 start, uint256 end) {
        (uint256 first, uint256 length) = read(slots, i);
        unchecked {
            (start, end) = (first * QUARTER, (first + length) * QUARTER);
        }
    }

    /// @dev What a lesson of so many quarters costs, in base units, rounded down: of a rate of 96 bits, a length of 8.
    function amount(uint256 length, uint256 hourlyRate) internal pure returns (uint256) {
        unchecked {
            return hourlyRate * length / QUARTERS_PER_HOUR;
        }
    }

    /// @dev The money of a set of lessons: at most 40 amounts of less than 2^101.
    function total(Slot[] calldata slots, uint256 lessons, uint256 hourlyRate) internal pure returns (uint256 sum) {
        unchecked {
            for (uint256 i; lessons >> i != 0; ++i) {
                if (lessons & (1 << i) == 0) continue;
                (, uint256 length) = read(slots, i);
                sum += amount(length, hourlyRate);
            }
        }
    }

    /// @dev Splits the money of a set of lessons, each of which is rounded down for the tutor.
    function split(Slot[] calldata slots, uint256 lessons, uint256 hourlyRate, uint256 tutorShareBps)
        internal
        pure
        returns (uint256 tutorAmount, uint256 studentAmount)
    {
        unchecked {
            for (uint256 i; lessons >> i != 0; ++i) {
                if (lessons & (1 << i) == 0) continue;
                (, uint256 length) = read(slots, i);
                uint256 all = amount(length, hourlyRate);
                uint256 share = all * tutorShareBps / BPS;
                tutorAmount += share;
                studentAmount += all - share;
            }
        }
    }

    /// @dev What is wrong with a slot by itself, for a lesson that starts from `earliest` to `latest` (in seconds); and its
    /// start in seconds, its length in quarters. Reading it as Solidity does, the caller reverts on a word with more bits
    /// than a slot has.
    function check(Slot slot, uint256 earliest, uint256 latest)
        internal
        view
        returns (SlotCode code, uint256 start, uint256 length)
    {
        (start, length) = ((Slot.unwrap(slot) >> 8) * QUARTER, Slot.unwrap(slot) & 0xff);
        if (start <= block.timestamp) code = SlotCode.InPast;
        else if (start < earliest) code = SlotCode.TooSoon;
        else if (start > latest) code = SlotCode.TooFar;
        else if (length == 0 || length > MAX_QUARTERS) code = SlotCode.Duration;
    }

    /// @dev Whether slot `i` overlaps an earlier one of a set, and which. Only asked when something is in the way.
    function overlapsEarlier(Slot[] calldata slots, uint256 i, uint256 set) internal pure returns (bool, uint256) {
        (uint256 start, uint256 end) = times(slots, i);
        for (uint256 j; j < i; ++j) {
            if (set & (1 << j) == 0) continue;
            (uint256 otherStart, uint256 otherEnd) = times(slots, j);
            if (start < otherEnd && otherStart < end) return (true, j);
        }
        return (false, 0);
    }

    /// @dev The slots in four bytes each, and whether one of them is bad by itself: starts before `earliest` or after
    /// `latest` (in quarters), or has a length that no lesson has. A word with more bits than a slot has lies after the
    /// last. Assembly saves 350 gas a lesson, together with the 28 bytes that a slot does not take in the event.
    function pack(Slot[] calldata slots, uint256 earliest, uint256 latest)
        internal
        pure
        returns (bytes memory packed, bool bad)
    {
        packed = new bytes(4 * slots.length);
        assembly ("memory-safe") {
            let target := add(packed, 0x20)
            let end := add(slots.offset, shl(5, slots.length))
            for { let source := slots.offset } lt(source, end) { source := add(source, 0x20) } {
                let slot := calldataload(source)
                let start := shr(8, slot)
                bad := or(bad, or(lt(start, earliest), gt(start, latest)))
                bad := or(bad, gt(sub(and(slot, 0xff), 1), 31)) // 1 to 32 quarters long
                mstore(target, shl(224, slot))
                target := add(target, 4)
            }
        }
    }

    /// @dev EIP-712's `hashStruct(order)`; slots in seconds and minutes, as a wallet shows them. One scratch area for all
    /// saves about 590 gas a slot. Words are copied as they are: one with bits that its type does not have gives another
    /// hash than any order without, and gets no further, because the escrow's creation reads and refuses it.
    function hash(Order calldata order) internal pure returns (bytes32 terms) {
        Slot[] calldata slots = order.slots;
        (bytes32 orderType, bytes32 slotType) = (ORDER_TYPEHASH, SLOT_TYPEHASH);
        assembly ("memory-safe") {
            let scratch := mload(0x40)
            let hashes := add(scratch, 0x60)
            let end := add(hashes, shl(5, slots.length))
            let source := slots.offset
            mstore(scratch, slotType)
            for { let target := hashes } lt(target, end) { target := add(target, 0x20) } {
                let slot := calldataload(source)
                mstore(add(scratch, 0x20), mul(shr(8, slot), 900))
                mstore(add(scratch, 0x40), mul(and(slot, 0xff), 15))
                mstore(target, keccak256(scratch, 0x60))
                source := add(source, 0x20)
            }
            let slotsHash := keccak256(hashes, shl(5, slots.length))
            mstore(scratch, orderType)
            calldatacopy(add(scratch, 0x20), order, 0xe0) // student .. salt
            mstore(add(scratch, 0x100), slotsHash)
            terms := keccak256(scratch, 0x120)
        }
    }
}
// slither-disable-end timestamp,assembly
