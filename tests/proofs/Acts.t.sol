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
/// - `cancel` frees the time of exactly these lessons; no other act touches the calendar, and none any other word of
///   anybody's.
/// And each entry of the table is possible (`check_possible_…`): no proof passes on a contract that can do nothing.
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
        address otherTutor; // and any other word of anybody's calendar
        uint256 otherPage;
        uint256 otherWord;
    }

    function check_confirm_by_tutor() external {
        Order memory order = _anyOrder();
        (uint40 lessons, Before memory b) = _before(order);
        bool allowed = _within(lessons, b.state.pending);
        for (uint256 i; i < SLOTS; ++i) {
            allowed = _both(allowed, _implies(_has(lessons, i), block.timestamp < _start(order.slots[i])));
        }

        if (!_act(TUTOR, abi.encodeCall(escrow.confirm, (order, lessons, 0, "")))) return;

        Batch memory expected = _without(b.state, lessons);
        expected.confirmed |= lessons;
        assert(_both(allowed, _both(_became(b, expected, 0), _paid(0, 0))));
    }

    function check_cancel_by_student() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        bool allowed = _within(lessons, b.state.pending | b.state.confirmed);
        for (uint256 i; i < SLOTS; ++i) {
            bool early = block.timestamp + cancelWindow <= _start(order.slots[i]);
            allowed = _both(allowed, _implies(_has(lessons & b.state.confirmed, i), early));
        }

        if (!_act(STUDENT, abi.encodeCall(escrow.cancel, (order, lessons, STUDENT, 0, "")))) return;

        assert(_both(allowed, _isCancelled(lessons, b)));
    }

    function check_cancel_by_tutor() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        bool allowed = _within(lessons, _live(b.state));

        if (!_act(TUTOR, abi.encodeCall(escrow.cancel, (order, lessons, TUTOR, 0, "")))) return;

        assert(_both(allowed, _isCancelled(lessons, b)));
    }

    function check_cancel_by_anyone() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        address anyone = svm.createAddress("anyone");
        vm.assume(_both(anyone != STUDENT, anyone != TUTOR));
        bool allowed = _within(lessons, b.state.pending);
        for (uint256 i; i < SLOTS; ++i) {
            allowed = _both(allowed, _implies(_has(lessons, i), block.timestamp >= _start(order.slots[i])));
        }

        if (!_act(anyone, abi.encodeCall(escrow.cancel, (order, lessons, anyone, 0, "")))) return;

        assert(_both(allowed, _isCancelled(lessons, b)));
    }

    function check_complete_by_student() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        bool allowed = _within(lessons, _live(b.state));

        if (!_act(STUDENT, abi.encodeCall(escrow.complete, (order, lessons, STUDENT, 0, "")))) return;

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

        if (!_act(anyone, abi.encodeCall(escrow.complete, (order, lessons, anyone, 0, "")))) return;

        assert(_both(allowed, _isCompleted(lessons, b)));
    }

    function check_dispute_by_student() external {
        Order memory order = _anyOrder();
        (uint40 lessons, Before memory b) = _before(order);
        bool allowed = _within(lessons, b.state.confirmed);
        for (uint256 i; i < SLOTS; ++i) {
            Slot slot = order.slots[i];
            bool inTime = _both(block.timestamp >= _start(slot), block.timestamp <= _end(slot) + reviewPeriod);
            allowed = _both(allowed, _implies(_has(lessons, i), inTime));
        }

        if (!_act(STUDENT, abi.encodeCall(escrow.dispute, (order, lessons, 0, "")))) return;

        Batch memory expected = _without(b.state, lessons);
        expected.disputed |= lessons;
        assert(_both(allowed, _both(_became(b, expected, 0), _paid(0, 0))));
    }

    /// @notice By the arbiter at any time with any share, by anyone once arbitration is over with the default one. Both
    /// shares are paid, together exactly the amounts of the lessons, each tutor's share rounded down.
    function check_resolve_by_anyone() external {
        Order memory order = _order();
        (uint40 lessons, Before memory b) = _before(order);
        uint16 share = uint16(svm.createUint(16, "share"));
        address sender = svm.createAddress("sender");
        bool byArbiter = _both(sender == escrow.arbiter(), _both(sender != STUDENT, sender != TUTOR));
        bool late = true;
        for (uint256 i; i < SLOTS; ++i) {
            uint256 over = _end(order.slots[i]) + reviewPeriod + arbitrationPeriod;
            late = _both(late, _implies(_has(lessons, i), block.timestamp > over));
        }
        bool allowed = _either(byArbiter, _both(late, share == defaultShare));
        allowed = _both(allowed, _both(share <= 10_000, _within(lessons, b.state.disputed)));

        if (!_act(sender, abi.encodeCall(escrow.resolve, (order, lessons, share)))) return;

        assert(_both(allowed, _isSplit(order, lessons, b, share)));
    }

    /// @notice By both, of whom one sends it, which `Consent` has. Here both parties are one account that sends: a tutor's
    /// own time, which is worth nothing, ends as agreed.
    function check_possible_settle_of_own_time() external {
        Order memory order = _order();
        order.student = TUTOR;
        order.hourlyRate = 0;
        (uint40 lessons, Before memory b) = _before(order);
        vm.assume(_within(lessons, _live(b.state)));
        assert(_act(TUTOR, abi.encodeCall(escrow.settle, (order, lessons, 10_000, 0, "", ""))));
        assert(token.pushes() == 0);
    }

    /* WHAT CAN BE DONE IS POSSIBLE: each entry of the table, by its actor, in its time */

    function check_possible_confirm() external {
        (Order memory order, uint40 lessons, Before memory b) = _one();
        vm.assume(_both(_within(lessons, b.state.pending), block.timestamp < _start(order.slots[0])));
        assert(_act(TUTOR, abi.encodeCall(escrow.confirm, (order, lessons, 0, ""))));
    }

    function check_possible_dispute() external {
        (Order memory order, uint40 lessons, Before memory b) = _one();
        vm.assume(_within(lessons, b.state.confirmed));
        vm.assume(block.timestamp >= _start(order.slots[1])); // the later one
        vm.assume(block.timestamp <= _end(order.slots[0]) + reviewPeriod);
        assert(_act(STUDENT, abi.encodeCall(escrow.dispute, (order, lessons, 0, ""))));
    }

    function check_possible_cancel_by_student() external {
        (Order memory order, uint40 lessons, Before memory b) = _one();
        bool early = block.timestamp + cancelWindow <= _start(order.slots[0]);
        vm.assume(_either(_within(lessons, b.state.pending), _both(early, _within(lessons, b.state.confirmed))));
        assert(_act(STUDENT, abi.encodeCall(escrow.cancel, (order, lessons, STUDENT, 0, ""))));
    }

    function check_possible_cancel_by_tutor() external {
        (Order memory order, uint40 lessons, Before memory b) = _one();
        vm.assume(_within(lessons, _live(b.state)));
        assert(_act(TUTOR, abi.encodeCall(escrow.cancel, (order, lessons, TUTOR, 0, ""))));
    }

    function check_possible_complete_by_student() external {
        (Order memory order, uint40 lessons, Before memory b) = _one();
        vm.assume(_within(lessons, _live(b.state)));
        assert(_act(STUDENT, abi.encodeCall(escrow.complete, (order, lessons, STUDENT, 0, ""))));
    }

    function check_possible_resolve_by_arbiter() external {
        (Order memory order, uint40 lessons, Before memory b) = _one();
        address sender = escrow.arbiter();
        vm.assume(_both(sender != STUDENT, sender != TUTOR));
        uint16 share = uint16(svm.createUint(16, "share"));
        vm.assume(_both(share <= 10_000, _within(lessons, b.state.disputed)));
        assert(_act(sender, abi.encodeCall(escrow.resolve, (order, lessons, share))));
    }

    /* NO MONEY IS STUCK: from every live status anyone, with time, ends it */

    function check_possible_refund_of_pending_by_anyone() external {
        (Order memory order, uint40 lessons, Before memory b) = _one();
        vm.assume(_both(_within(lessons, b.state.pending), block.timestamp >= _start(order.slots[1])));
        address anyone = svm.createAddress("anyone");
        assert(_act(anyone, abi.encodeCall(escrow.cancel, (order, lessons, anyone, 0, ""))));
    }

    function check_possible_payment_of_confirmed_by_anyone() external {
        (Order memory order, uint40 lessons, Before memory b) = _one();
        vm.assume(_within(lessons, b.state.confirmed));
        vm.assume(block.timestamp > _end(order.slots[1]) + reviewPeriod);
        address anyone = svm.createAddress("anyone");
        assert(_act(anyone, abi.encodeCall(escrow.complete, (order, lessons, anyone, 0, ""))));
    }

    function check_possible_split_of_disputed_by_anyone() external {
        (Order memory order, uint40 lessons, Before memory b) = _one();
        vm.assume(_within(lessons, b.state.disputed));
        vm.assume(block.timestamp > _end(order.slots[1]) + reviewPeriod + arbitrationPeriod);
        address anyone = svm.createAddress("anyone");
        assert(_act(anyone, abi.encodeCall(escrow.resolve, (order, lessons, uint16(defaultShare)))));
    }

    /* THE REST IS SHARED */

    function _one() private returns (Order memory order, uint40 lessons, Before memory b) {
        order = _order();
        (lessons, b) = _before(order);
    }

    function _before(Order memory order) private returns (uint40 lessons, Before memory b) {
        b.batch = escrow.batchOf(order);
        b.state = escrow.batches(b.batch);
        vm.assume(_invariant(b.state));
        b.otherBatch = svm.createBytes32("otherBatch");
        vm.assume(b.otherBatch != b.batch);
        b.other = escrow.batches(b.otherBatch);
        b.calendar = escrow.calendar(TUTOR, FIRST_PAGE, 2);
        b.otherTutor = svm.createAddress("otherTutor");
        b.otherPage = svm.createUint(256, "otherPage");
        vm.assume(_either(b.otherTutor != TUTOR, _both(b.otherPage != FIRST_PAGE, b.otherPage != FIRST_PAGE + 1)));
        vm.assume(b.otherPage != type(uint256).max);
        b.otherWord = escrow.calendar(b.otherTutor, b.otherPage, 1)[0];

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

    function _isSplit(Order memory order, uint40 lessons, Before memory b, uint256 share) private view returns (bool) {
        Batch memory expected = _without(b.state, lessons);
        expected.completed |= lessons;
        uint256 tutorAmount;
        unchecked {
            for (uint256 i; i < SLOTS; ++i) {
                if (_has(lessons, i)) tutorAmount += _amount(order, i) * share / 10_000;
            }
            return _both(_became(b, expected, 0), _paid(b.owed - tutorAmount, tutorAmount));
        }
    }

    /// @dev The batch, no other one, the tutor's calendar, and any other word of anybody's.
    function _became(Before memory b, Batch memory expected, uint40 freed) private view returns (bool) {
        Batch memory state = escrow.batches(b.batch);
        (uint256 low, uint256 high) = _quarters(freed);
        uint256[] memory words = escrow.calendar(TUTOR, FIRST_PAGE, 2);
        bool free = _both(words[0] == b.calendar[0] & ~low, words[1] == b.calendar[1] & ~high);
        bool others = _same(escrow.batches(b.otherBatch), b.other);
        others = _both(others, escrow.calendar(b.otherTutor, b.otherPage, 1)[0] == b.otherWord);
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
