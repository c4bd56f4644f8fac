// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IBookingEscrow, Order} from "../interfaces/IBookingEscrow.sol";

/// @title Floor
/// @notice What any contract must spend that books lessons with `BookingEscrow`'s calldata, for comparison only: one
/// new word, one calendar word, one event that repeats the order, one pull of the total. It checks nothing, and it
/// takes the order's salt for its hash, so a contract that keeps the same facts can hardly cost less.
contract Floor {
    IERC20 public immutable token;
    mapping(bytes32 salt => uint256) public batches;
    mapping(address tutor => mapping(uint256 page => uint256 quarters)) public calendar;

    constructor(IERC20 token_) {
        token = token_;
    }

    /// @notice Takes an order as `BookingEscrow` does; its lessons are hours, in one calendar word.
    function createBookings(Order calldata order, bytes calldata) external {
        (bytes32 salt, address student, address tutor) = (order.salt, order.student, order.tutor);
        uint256 total = order.hourlyRate * order.slots.length;
        batches[salt] = block.timestamp;
        calendar[tutor][order.slots[0].start / (256 * 15 minutes)] ^= uint256(salt);
        bytes32 topic = IBookingEscrow.BookingsCreated.selector;
        assembly ("memory-safe") {
            let data := mload(0x40)
            let size := sub(calldatasize(), 4)
            calldatacopy(data, 4, size)
            log4(data, size, topic, salt, student, tutor)
        }
        token.transferFrom(student, address(this), total);
    }
}
