// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title OldBookings
/// @notice The old way, for comparison only: one approval and one call for each lesson, each stored as one record with
/// the fields of the old system's request (tutor, annonce, date and time, duration, amount, the frontend's id). It keeps
/// no lists and guards nothing that `BookingEscrow` guards, so its gas is a lower bound of what the old way cost.
contract OldBookings {
    using SafeERC20 for IERC20;

    enum Status {
        Pending,
        Confirmed,
        Completed,
        Cancelled
    }

    struct Booking {
        uint256 id;
        string frontendId;
        address student;
        address tutor;
        uint256 amount;
        string title;
        uint256 startTime;
        uint256 duration;
        uint256 createdAt;
        Status status;
    }

    event BookingCreated(uint256 indexed id, string frontendId, address student, address tutor, uint256 amount);

    IERC20 public immutable token;
    uint256 public count;
    mapping(uint256 id => Booking) public bookings;

    constructor(IERC20 token_) {
        token = token_;
    }

    /// @notice Books one lesson and pulls its amount.
    function createBooking(
        string calldata frontendId,
        address tutor,
        uint256 amount,
        string calldata title,
        uint256 startTime,
        uint256 duration
    ) external returns (uint256 id) {
        id = ++count;
        bookings[id] = Booking({
            id: id,
            frontendId: frontendId,
            student: msg.sender,
            tutor: tutor,
            amount: amount,
            title: title,
            startTime: startTime,
            duration: duration,
            createdAt: block.timestamp,
            status: Status.Pending
        });
        token.safeTransferFrom(msg.sender, address(this), amount);
        emit BookingCreated(id, frontendId, msg.sender, tutor, amount);
    }
}
