// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Batch, Listing, Order, Permit, Slot} from "../../contracts/interfaces/IBookingEscrow.sol";
import {Proof} from "./Proof.sol";

/// @notice The creation of a batch, at any time, with any calendar, listing and allowance:
/// - it causes one `transferFrom`, from the student to the escrow, of exactly the amounts of the lessons booked, which
///   become live: the escrow's balance grows by what it owes;
/// - a slot is booked if and only if its time was free, left out only if enough others are, and no other time is taken;
/// - an order that was created is never created again.
contract Creation is Proof {
    function check_creation_pulls_once_what_it_books() external {
        vm.assume(block.timestamp != 0);
        Order memory order = _order();
        order.minLessons = uint8(svm.createUint(8, "minLessons"));
        order.deadline = uint40(svm.createUint(40, "deadline"));
        bytes32 batch = escrow.batchOf(order);
        Batch memory before = escrow.batches(batch);
        Listing memory listing = escrow.listings(TUTOR, order.listing);

        (bool done, uint40 booked) = _create(order);
        if (!done) return;

        bool allowed = _both(before.createdAt == 0, block.timestamp <= order.deadline);
        allowed = _both(allowed, _both(listing.hourlyRate != 0, listing.hourlyRate == order.hourlyRate));
        allowed = _both(allowed, _both(booked != 0, _count(booked) >= order.minLessons));
        for (uint256 i; i < SLOTS; ++i) {
            uint256 start = _start(order.slots[i]);
            bool late = _both(start > block.timestamp, start >= block.timestamp + listing.minNotice);
            bool soon = _either(listing.horizon == 0, start <= block.timestamp + listing.horizon);
            allowed = _both(allowed, _both(late, soon));
        }
        Batch memory expected = Batch(uint40(block.timestamp), booked, 0, 0, 0, 0);
        if (listing.instant) (expected.pending, expected.confirmed) = (0, booked);
        Batch memory state = escrow.batches(batch);
        uint256 total = _amounts(order, booked);
        // What costs nothing, because its amounts are rounded down to it, is not pulled.
        bool pulled = _both(token.paid(STUDENT) == total, token.pulled() == total);
        pulled = _both(pulled, token.pulls() == (total == 0 ? 0 : 1));
        pulled = _both(pulled, _both(token.received(address(escrow)) == total, token.pushes() == 0));
        assert(_both(_both(allowed, pulled), _both(_same(state, expected), _invariant(state))));
    }

    /// @notice Two lessons, one of which crosses into the next calendar word, against any calendar.
    function check_creation_takes_free_time_only() external {
        Order memory order = _order();
        order.minLessons = uint8(svm.createUint(8, "minLessons"));
        uint256[] memory before = escrow.calendar(TUTOR, FIRST_PAGE, 2);

        (bool done, uint40 booked) = _create(order);
        if (!done) return;

        uint256[] memory words = escrow.calendar(TUTOR, FIRST_PAGE, 2);
        bool ok = _both(order.minLessons != 0, _count(booked) >= order.minLessons);
        for (uint256 i; i < SLOTS; ++i) {
            (uint256 low, uint256 high) = _quarters(1 << i);
            bool free = _both(before[0] & low == 0, before[1] & high == 0);
            ok = _both(ok, free == _has(booked, i));
        }
        (uint256 bookedLow, uint256 bookedHigh) = _quarters(booked);
        ok = _both(ok, _both(words[0] == before[0] | bookedLow, words[1] == before[1] | bookedHigh));
        assert(ok);
    }

    /// @notice A lesson of any length, at any time of two calendar words, and any quarter hour: it is taken afterwards
    /// exactly if it was before or the lesson covers it, and never both.
    function check_no_quarter_is_taken_twice() external {
        uint256 first = svm.createUint(8, "first");
        uint256 length = svm.createUint(6, "length");
        uint256 quarter = svm.createUint(9, "quarter");
        vm.assume(_both(length != 0, length <= 32));
        Order memory order = _order();
        order.slots = new Slot[](1);
        order.slots[0] = _slot(first, length);
        bool before = _isTaken(quarter);

        (bool done,) = _create(order);
        if (!done) return;

        bool covered;
        unchecked {
            covered = _both(first <= quarter, quarter < first + length);
        }
        assert(_both(!_both(before, covered), _isTaken(quarter) == _either(before, covered)));
    }

    /// @notice Nor do two lessons of one order overlap, the second of any length at any time of two calendar words.
    function check_no_lessons_of_an_order_overlap() external {
        uint256 first = svm.createUint(9, "first");
        uint256 length = svm.createUint(6, "length");
        vm.assume(_both(length != 0, length <= 32));
        Order memory order = _order();
        order.slots[0] = order.slots[1]; // 6 quarters from the 253rd on
        order.slots[1] = _slot(first, length);

        (bool done, uint40 booked) = _create(order);
        if (!done) return;

        unchecked {
            assert(!_both(booked == 3, _both(first < 253 + 6, 253 < first + length)));
        }
    }

    function check_an_order_is_created_once() external {
        Order memory order = _order();
        vm.assume(escrow.batches(escrow.batchOf(order)).createdAt != 0);
        (bool done,) = _create(order);
        assert(!done);
    }

    function check_an_order_is_created_once_with_permit() external {
        Order memory order = _order();
        vm.assume(escrow.batches(escrow.batchOf(order)).createdAt != 0);
        Permit memory permit = Permit(svm.createUint(256, "value"), 0, 27, 0, 0);
        assert(!_act(STUDENT, abi.encodeCall(escrow.createBookingsWithPermit, (order, "", permit))));
    }

    /// @notice A creation whose every rule is kept succeeds: no proof above passes on a contract in which nothing can be
    /// booked.
    function check_possible_creation() external {
        Order memory order = _order();
        vm.assume(_isNew(order));
        Listing memory listing = escrow.listings(TUTOR, order.listing);
        vm.assume(_both(listing.hourlyRate != 0, listing.hourlyRate == order.hourlyRate));
        vm.assume(_both(listing.minNotice == 0, listing.horizon == 0));
        uint256[] memory words = escrow.calendar(TUTOR, FIRST_PAGE, 2);
        (uint256 low, uint256 high) = _quarters(3);
        vm.assume(_both(words[0] & low == 0, words[1] & high == 0));
        vm.assume(_both(block.timestamp < _start(order.slots[0]), block.timestamp != 0));
        (bool done, uint40 booked) = _create(order);
        assert(_both(done, booked == 3));
    }

    /// @notice And so does the blocking of a tutor's own time, which costs nothing and needs no listing.
    function check_possible_own_time_for_nothing() external {
        Order memory order = _order();
        (order.student, order.hourlyRate) = (TUTOR, 0);
        vm.assume(_isNew(order));
        uint256[] memory words = escrow.calendar(TUTOR, FIRST_PAGE, 2);
        (uint256 low, uint256 high) = _quarters(3);
        vm.assume(_both(words[0] & low == 0, words[1] & high == 0));
        vm.assume(_both(block.timestamp < _start(order.slots[0]), block.timestamp != 0));
        assert(_act(TUTOR, abi.encodeCall(escrow.createBookings, (order, ""))));
        assert(_both(token.pulls() == 0, escrow.batches(escrow.batchOf(order)).confirmed == 3));
    }

    /// @notice A revoked order is never created.
    function check_a_revoked_order_is_not_created() external {
        Order memory order = _order();
        vm.assume(block.timestamp != 0);
        bool revoked = _act(STUDENT, abi.encodeCall(escrow.revoke, (order, 0, "")));
        (bool done,) = _create(order);
        assert(!_both(revoked, done));
    }

    /// @dev Of two.
    function _count(uint256 booked) private pure returns (uint256) {
        unchecked {
            return (booked & 1) + (booked >> 1 & 1);
        }
    }

    function _create(Order memory order) private returns (bool done, uint40 booked) {
        bytes memory answer;
        vm.prank(STUDENT);
        (done, answer) = address(escrow).call(abi.encodeCall(escrow.createBookings, (order, "")));
        if (done) (, booked) = abi.decode(answer, (bytes32, uint40));
    }

    function _isTaken(uint256 quarter) private view returns (bool) {
        return _has(escrow.calendar(TUTOR, FIRST_PAGE + (quarter >> 8), 1)[0], quarter & 255);
    }
}
