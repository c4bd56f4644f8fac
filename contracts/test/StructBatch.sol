// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title StructBatch
/// @notice The straightforward batch, for comparison only: an array of lessons in, one record for each, one transfer of
/// the total. Its records are leaner than the old ones: no texts, and what fits shares a word. It guards nothing that
/// `BookingEscrow` guards, so its gas is a lower bound.
contract StructBatch {
    using SafeERC20 for IERC20;

    enum Status {
        Pending,
        Confirmed,
        Completed,
        Cancelled
    }

    struct Lesson {
        uint256 amount;
        uint256 startTime;
        uint256 duration;
    }

    struct Booking {
        address student;
        address tutor;
        Status status;
        bytes32 annonce;
        uint256 amount;
        uint256 startTime;
        uint256 duration;
    }

    event BookingCreated(uint256 indexed id, address indexed student, address indexed tutor, uint256 amount);

    IERC20 public immutable token;
    uint256 public count;
    mapping(uint256 id => Booking) public bookings;

    constructor(IERC20 token_) {
        token = token_;
    }

    /// @notice Books lessons and pulls the sum of their amounts.
    function createBookings(address tutor, bytes32 annonce, Lesson[] calldata lessons) external {
        uint256 total;
        uint256 id = count;
        for (uint256 i; i < lessons.length; ++i) {
            Lesson calldata lesson = lessons[i];
            bookings[++id] = Booking({
                student: msg.sender,
                tutor: tutor,
                status: Status.Pending,
                annonce: annonce,
                amount: lesson.amount,
                startTime: lesson.startTime,
                duration: lesson.duration
            });
            total += lesson.amount;
            emit BookingCreated(id, msg.sender, tutor, lesson.amount);
        }
        count = id;
        token.safeTransferFrom(msg.sender, address(this), total);
    }
}
