// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Batch, Order, Slot} from "../../contracts/interfaces/IBookingEscrow.sol";
import {Proof} from "./Proof.sol";

/// @notice The life of a lesson. For each act, from any state, on any set of lessons, at any time:
/// - it goes through only if the table of `IBookingEscrow` allows it for every lesson named, to the second; so only while
///   a lesson is live: completed and cancelled are final;
/// - it moves exactly the lessons named, to exactly one status, and no other batch;
/// - it pays exactly their amounts to exactly whom the table says, at most once each. So an amount leaves exactly once,
///   and the escrow's balance changes as what it owes does.
/// - `cancel` frees the time of exactly these lessons; no other act touches the calendar.
/// And where the table names a way out for money, it is open (`check_…_is_possible`).
///
/// The actor is the sender here; `Consent` has the signatures. Where money moves, the lessons are two fixed ones (clock,
/// rate and share are free); those of `confirm` and `dispute` start and last as they like.
contract Acts is Proof {
    struct Before {
        Batch state;
        bytes32 batch;
        uint256 owed; // for the lessons named
        bytes32 otherBatch;
        Batch other;
        uint256[] calendar;
    }

    function check_confirm_by_tutor() external {
        Order memory order = _anyOrder();
        (uint40 lessons, Before memory b) = _before(order);
        bool allowed = _within(lessons, b.state.pending);
        for (uint256 i; i < SLOTS; ++i) {
            allowed = _both(allowed, _implies(_has(lessons, i), block.timestamp < order.slots[i].start));
        }

        if (!_act(TUTOR, abi.encodeCall(escrow.confirm, (order, lessons, "")))) return;

        Batch memory expected = _without(b.state, lessons);
        expected.confirmed |= lessons;
        assert(_both(allowed, _both(_became(b, expected, 0), _paid(0, 0))));
    }

    function check_cancel_by_student() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        bool allowed = _within(lessons, _live(b.state));
        for (uint256 i; i < SLOTS; ++i) {
            Slot memory slot = order.slots[i];
            bool early = block.timestamp <= slot.start - cancelWindow;
            bool late = block.timestamp > _end(slot) + reviewPeriod + arbitrationPeriod;
            allowed = _both(allowed, _implies(_has(lessons & b.state.confirmed, i), early));
            allowed = _both(allowed, _implies(_has(lessons & b.state.disputed, i), late));
        }

        if (!_act(STUDENT, abi.encodeCall(escrow.cancel, (order, lessons, STUDENT, "")))) return;

        assert(_both(allowed, _isCancelled(lessons, b)));
    }

    function check_cancel_by_tutor() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        bool allowed = _within(lessons, _live(b.state));

        if (!_act(TUTOR, abi.encodeCall(escrow.cancel, (order, lessons, TUTOR, "")))) return;

        assert(_both(allowed, _isCancelled(lessons, b)));
    }

    function check_cancel_by_anyone() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        address anyone = svm.createAddress("anyone");
        vm.assume(_both(anyone != STUDENT, anyone != TUTOR));
        bool allowed = _within(lessons, b.state.disputed);
        for (uint256 i; i < SLOTS; ++i) {
            uint256 over = _end(order.slots[i]) + reviewPeriod + arbitrationPeriod;
            allowed = _both(allowed, _implies(_has(lessons, i), block.timestamp > over));
        }

        if (!_act(anyone, abi.encodeCall(escrow.cancel, (order, lessons, anyone, "")))) return;

        assert(_both(allowed, _isCancelled(lessons, b)));
    }

    function check_complete_by_student() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        bool allowed = _within(lessons, _live(b.state));

        if (!_act(STUDENT, abi.encodeCall(escrow.complete, (order, lessons, STUDENT, "")))) return;

        assert(_both(allowed, _isCompleted(lessons, b)));
    }

    function check_complete_by_anyone() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        address anyone = svm.createAddress("anyone"); // the tutor, too
        vm.assume(anyone != STUDENT);
        bool allowed = _within(lessons, b.state.confirmed);
        for (uint256 i; i < SLOTS; ++i) {
            uint256 over = _end(order.slots[i]) + reviewPeriod;
            allowed = _both(allowed, _implies(_has(lessons, i), block.timestamp > over));
        }

        if (!_act(anyone, abi.encodeCall(escrow.complete, (order, lessons, anyone, "")))) return;

        assert(_both(allowed, _isCompleted(lessons, b)));
    }

    function check_dispute_by_student() external {
        Order memory order = _anyOrder();
        (uint40 lessons, Before memory b) = _before(order);
        bool allowed = _within(lessons, b.state.confirmed);
        for (uint256 i; i < SLOTS; ++i) {
            Slot memory slot = order.slots[i];
            bool inTime = _both(block.timestamp >= slot.start, block.timestamp <= _end(slot) + reviewPeriod);
            allowed = _both(allowed, _implies(_has(lessons, i), inTime));
        }

        if (!_act(STUDENT, abi.encodeCall(escrow.dispute, (order, lessons, "")))) return;

        Batch memory expected = _without(b.state, lessons);
        expected.disputed |= lessons;
        assert(_both(allowed, _both(_became(b, expected, 0), _paid(0, 0))));
    }

    /// @notice Both shares are paid, together exactly the amounts of the lessons, each tutor's share rounded down.
    function check_resolve_by_arbiter() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        uint16 share = uint16(svm.createUint(16, "share"));
        uint256 tutorAmount;
        unchecked {
            for (uint256 i; i < SLOTS; ++i) {
                if (_has(lessons, i)) tutorAmount += _amount(order, i) * share / 10_000;
            }
        }
        bool allowed = _both(share <= 10_000, _within(lessons, b.state.disputed));

        address sender = svm.createAddress("sender");
        allowed = _both(allowed, sender == escrow.arbiter());
        if (!_act(sender, abi.encodeCall(escrow.resolve, (order, lessons, share)))) return;

        Batch memory expected = _without(b.state, lessons);
        expected.completed |= lessons;
        unchecked {
            assert(_both(allowed, _both(_became(b, expected, 0), _paid(b.owed - tutorAmount, tutorAmount))));
        }
    }

    /* NO MONEY IS STUCK */

    function check_refund_of_pending_is_possible() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        vm.assume(_within(lessons, b.state.pending));
        assert(_act(STUDENT, abi.encodeCall(escrow.cancel, (order, lessons, STUDENT, ""))));
    }

    function check_refund_of_disputed_is_possible() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        vm.assume(_within(lessons, b.state.disputed));
        vm.assume(block.timestamp > _end(order.slots[1]) + reviewPeriod + arbitrationPeriod); // the later one
        assert(_act(STUDENT, abi.encodeCall(escrow.cancel, (order, lessons, STUDENT, ""))));
    }

    function check_payment_of_confirmed_is_possible() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        vm.assume(_within(lessons, b.state.confirmed));
        vm.assume(block.timestamp > _end(order.slots[1]) + reviewPeriod);
        assert(_act(TUTOR, abi.encodeCall(escrow.complete, (order, lessons, TUTOR, ""))));
    }

    /* THE REST IS SHARED */

    function _before(Order memory order) private returns (uint40 lessons, Before memory b) {
        b.batch = escrow.batchOf(order);
        b.state = escrow.batches(b.batch);
        vm.assume(_invariant(b.state));
        b.otherBatch = svm.createBytes32("otherBatch");
        vm.assume(b.otherBatch != b.batch);
        b.other = escrow.batches(b.otherBatch);
        b.calendar = escrow.calendar(TUTOR, FIRST_PAGE, 2);

        lessons = uint40(svm.createUint(40, "lessons"));
        // Told apart here, so that no loop below branches on what is in the set.
        if (lessons == 1) lessons = 1;
        else if (lessons == 2) lessons = 2;
        else if (lessons == 3) lessons = 3;
        b.owed = _amounts(order, lessons);
    }

    function _within(uint256 lessons, uint256 set) private pure returns (bool) {
        return _both(lessons != 0, lessons & ~set == 0);
    }

    function _without(Batch memory state, uint40 lessons) private pure returns (Batch memory) {
        return Batch(
            state.createdAt,
            state.pending & ~lessons,
            state.confirmed & ~lessons,
            state.disputed & ~lessons,
            state.completed,
            state.cancelled
        );
    }

    function _isCancelled(uint40 lessons, Before memory b) private view returns (bool) {
        Batch memory expected = _without(b.state, lessons);
        expected.cancelled |= lessons;
        return _both(_became(b, expected, lessons), _paid(b.owed, 0));
    }

    function _isCompleted(uint40 lessons, Before memory b) private view returns (bool) {
        Batch memory expected = _without(b.state, lessons);
        expected.completed |= lessons;
        return _both(_became(b, expected, 0), _paid(0, b.owed));
    }

    /// @dev The batch, no other one, and the tutor's calendar.
    function _became(Before memory b, Batch memory expected, uint40 freed) private view returns (bool) {
        Batch memory state = escrow.batches(b.batch);
        (uint256 low, uint256 high) = _quarters(freed);
        uint256[] memory words = escrow.calendar(TUTOR, FIRST_PAGE, 2);
        bool free = _both(words[0] == b.calendar[0] & ~low, words[1] == b.calendar[1] & ~high);
        bool others = _same(escrow.batches(b.otherBatch), b.other);
        return _both(_both(free, others), _both(_same(state, expected), _invariant(state)));
    }

    /// @dev Exactly this was paid, nothing else, and nothing pulled.
    function _paid(uint256 toStudent, uint256 toTutor) private view returns (bool) {
        unchecked {
            bool amounts = _both(token.received(STUDENT) == toStudent, token.received(TUTOR) == toTutor);
            bool calls = _both(token.pushes() <= 2, token.pulls() == 0);
            return _both(_both(amounts, calls), token.pushed() == toStudent + toTutor);
        }
    }
}
