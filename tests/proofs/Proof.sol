// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Batch, IBookingEscrow, Order, Slot} from "../../contracts/interfaces/IBookingEscrow.sol";

/// @dev The part of forge's cheat codes that the proofs use.
interface Vm {
    function assume(bool condition) external;
    function getCode(string calldata artifact) external returns (bytes memory);
    function load(address account, bytes32 slot) external view returns (bytes32);
    function prank(address sender) external;
    function warp(uint256 timestamp) external;
}

/// @dev The part of halmos' cheat codes that the proofs use: values of which nothing is known. Their names must be plain
/// words: an apostrophe makes a question that the solver cannot read.
interface Svm {
    function createUint(uint256 bits, string calldata name) external returns (uint256);
    function createAddress(string calldata name) external returns (address);
    function createBool(string calldata name) external returns (bool);
    function createBytes(uint256 length, string calldata name) external returns (bytes memory);
    function createBytes32(string calldata name) external returns (bytes32);
    function enableSymbolicStorage(address account) external;
}

/// @notice A token that only keeps the books of what it was asked to move, so that a proof can say "exactly this".
contract Ledger {
    uint256 public pushes; // calls of `transfer`
    uint256 public pulls; // calls of `transferFrom`
    uint256 public pushed; // their sums
    uint256 public pulled;
    mapping(address => uint256) public received;
    mapping(address => uint256) public paid;

    function transfer(address to, uint256 amount) external returns (bool) {
        unchecked {
            ++pushes;
            pushed += amount;
            received[to] += amount;
        }
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        unchecked {
            ++pulls;
            pulled += amount;
            paid[from] += amount;
            received[to] += amount;
        }
        return true;
    }
}

/// @notice What all proofs share. `make audit` runs them with halmos, which follows every path of the compiled escrow
/// for all values at once and asks a solver whether an assertion can fail.
///
/// Unknown in every proof: the whole storage of the escrow (every batch, listing, calendar word, and the arbiter), the
/// three periods, the default share, the time, the rate, and whatever a proof names `svm.create…`. So what a proof says of one act holds after any history that
/// keeps the assumptions on the state (`_invariant`), and each act is asserted to keep them.
///
/// Bounds:
/// - An order has two slots (`SLOTS`). The loops treat each slot alike and carry only a total, a set and a calendar word
///   from one to the next, which two slots show.
/// - Student and tutor are two fixed accounts without code. The escrow only compares addresses, and pays to them.
/// - Times are below 2^40; lessons begin after 1970.
/// - The token does what it is asked (`Ledger`), as `IBookingEscrow` assumes.
/// - Keccak has no collisions, and signatures cannot be forged.
abstract contract Proof {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    Svm internal constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

    uint256 internal constant SLOTS = 2;
    address internal constant STUDENT = address(0x57);
    address internal constant TUTOR = address(0x70);
    uint256 internal constant BATCHES = 4; // the storage slot of the mapping of batches
    uint256 internal constant PAGE = 256 * 900; // seconds that one calendar word spans
    uint256 internal constant FIRST_PAGE = 8000; // in 2028

    Ledger internal token;
    IBookingEscrow internal escrow;
    uint256 internal cancelWindow;
    uint256 internal reviewPeriod;
    uint256 internal arbitrationPeriod;
    uint256 internal defaultShare;

    function setUp() public {
        token = new Ledger();
        cancelWindow = _period("cancelWindow");
        reviewPeriod = _period("reviewPeriod");
        arbitrationPeriod = _period("arbitrationPeriod");
        defaultShare = svm.createUint(16, "defaultShare");
        // From the artefact, so that the escrow is compiled once and not again within each proof.
        bytes memory creation = bytes.concat(
            vm.getCode(".cache/forge/out/BookingEscrow.sol/BookingEscrow.json"),
            abi.encode(token, address(this), cancelWindow, reviewPeriod, arbitrationPeriod, defaultShare)
        );
        address created;
        assembly ("memory-safe") {
            created := create(0, add(creation, 0x20), mload(creation))
        }
        vm.assume(created != address(0)); // no period is too short or too long, and the share is one
        escrow = IBookingEscrow(created);
        svm.enableSymbolicStorage(created);
        vm.warp(svm.createUint(40, "time"));
    }

    function _period(string memory name) private returns (uint256 period) {
        period = svm.createUint(32, name);
        vm.assume(period <= 365 days);
    }

    /// @dev Two lessons, the second of which reaches into the next calendar word.
    function _order() internal returns (Order memory order) {
        order.student = STUDENT;
        order.tutor = TUTOR;
        order.listing = bytes32("piano");
        order.hourlyRate = uint96(svm.createUint(96, "hourlyRate"));
        order.minLessons = 1;
        order.deadline = type(uint40).max;
        order.salt = svm.createBytes32("salt");
        order.slots = new Slot[](SLOTS);
        order.slots[0] = _slot(20, 3);
        order.slots[1] = _slot(253, 6);
    }

    /// @dev A lesson from a quarter of the first calendar word on, of so many quarters.
    function _slot(uint256 quarter, uint256 length) internal pure returns (Slot) {
        unchecked {
            return Slot.wrap(uint32((FIRST_PAGE * 256 + quarter) << 8 | length));
        }
    }

    /// @dev The quarters of its lessons in the calendar words `FIRST_PAGE` and the next: 3 of the first lesson from the
    /// 20th on, 6 of the second from the 253rd on.
    function _quarters(uint256 lessons) internal pure returns (uint256 low, uint256 high) {
        if (_has(lessons, 0)) low |= 7 << 20;
        if (_has(lessons, 1)) (low, high) = (low | (7 << 253), 7);
    }

    /// @dev The same with lessons of any length at any time from 1971 on. Every lesson that was booked begins after the block
    /// that booked it, so none is earlier, and no period is longer than that year.
    function _anyOrder() internal returns (Order memory order) {
        order = _order();
        for (uint256 i; i < SLOTS; ++i) {
            uint256 slot = svm.createUint(32, "slot");
            vm.assume(slot >> 8 > 365 days / 15 minutes);
            order.slots[i] = Slot.wrap(uint32(slot));
        }
    }

    /// @dev Nothing is kept of an order: no time, and no lesson either, in any bit of the batch's word. (If `BATCHES` named
    /// another slot, no creation that this assumes to be possible would be.)
    function _isNew(Order memory order) internal view returns (bool) {
        return vm.load(address(escrow), keccak256(abi.encode(escrow.batchOf(order), BATCHES))) == 0;
    }

    /// @dev The sets of a batch are disjoint and name lessons of the order.
    function _invariant(Batch memory state) internal pure returns (bool) {
        uint256 all = _live(state) | state.completed | state.cancelled;
        unchecked {
            // A sum of sets is their union only if they are disjoint.
            uint256 sum = uint256(state.pending) + state.confirmed + state.disputed + state.completed + state.cancelled;
            return _both(_both(state.createdAt != 0, all < 1 << SLOTS), sum == all);
        }
    }

    function _live(Batch memory state) internal pure returns (uint256) {
        return uint256(state.pending) | state.confirmed | state.disputed;
    }

    function _amount(Order memory order, uint256 i) internal pure returns (uint256) {
        unchecked {
            return uint256(order.hourlyRate) * (Slot.unwrap(order.slots[i]) & 0xff) / 4;
        }
    }

    function _amounts(Order memory order, uint256 lessons) internal pure returns (uint256 total) {
        unchecked {
            for (uint256 i; i < SLOTS; ++i) {
                if (_has(lessons, i)) total += _amount(order, i);
            }
        }
    }

    function _start(Slot slot) internal pure returns (uint256) {
        unchecked {
            return uint256(Slot.unwrap(slot) >> 8) * 900;
        }
    }

    function _end(Slot slot) internal pure returns (uint256) {
        unchecked {
            return _start(slot) + uint256(Slot.unwrap(slot) & 0xff) * 900;
        }
    }

    function _act(address sender, bytes memory data) internal returns (bool done) {
        vm.prank(sender);
        (done,) = address(escrow).call(data);
    }

    function _same(Batch memory a, Batch memory b) internal pure returns (bool) {
        return _both(
            _both(a.createdAt == b.createdAt, _both(a.pending == b.pending, a.confirmed == b.confirmed)),
            _both(a.disputed == b.disputed, _both(a.completed == b.completed, a.cancelled == b.cancelled))
        );
    }

    function _has(uint256 set, uint256 i) internal pure returns (bool) {
        return (set >> i) & 1 != 0;
    }

    /* Logic without jumps, so that the proofs add no paths of their own. */

    function _both(bool a, bool b) internal pure returns (bool c) {
        assembly ("memory-safe") {
            c := and(a, b)
        }
    }

    function _either(bool a, bool b) internal pure returns (bool c) {
        assembly ("memory-safe") {
            c := or(a, b)
        }
    }

    /// @dev If `a` then `b`.
    function _implies(bool a, bool b) internal pure returns (bool) {
        return _either(!a, b);
    }
}
