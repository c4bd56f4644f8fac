// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title Floor
/// @notice What the guarantees of `BookingEscrow` cost at the least, for comparison only: the student sends an order whose
/// calldata is packed to the byte, within one calendar word, all or nothing. It keeps what makes a batch safe: terms bound
/// by their hash and created once, the published rate, the deadline, lessons of 1 to 32 quarters that lie ahead and are
/// free, one event from which the order can be read, one pull of the total. It can do nothing else.
///
/// Calldata: selector 4, tutor 20, listing 32, rate 12, deadline 5, minLessons 1, salt 8, then slots of 4 bytes each.
contract Floor {
    error Refused();

    event BookingsCreated(bytes32 indexed batch, address indexed student, address indexed tutor);

    uint256 private constant HEAD = 82; // where the slots begin in the calldata
    uint256 private constant LISTED = 1 << 104;

    IERC20 public immutable token;
    mapping(bytes32 batch => uint256) public batches;
    mapping(address tutor => mapping(uint256 page => uint256 quarters)) public calendar;
    mapping(address tutor => mapping(bytes32 listing => uint256)) public listings;

    constructor(IERC20 token_) {
        token = token_;
    }

    /// @notice Sets the rate of a listing of the sender.
    function publish(bytes32 listing, uint96 hourlyRate) external {
        listings[msg.sender][listing] = hourlyRate | LISTED;
    }

    /// @notice Books the packed order of the sender.
    fallback() external {
        (address tutor, bytes32 listing) = (address(bytes20(msg.data[4:24])), bytes32(msg.data[24:56]));
        uint256 rate = uint96(bytes12(msg.data[56:68]));
        uint256 deadline = uint40(bytes5(msg.data[68:73]));
        bytes32 batch = _key();
        require(block.timestamp <= deadline && msg.sender != tutor && batches[batch] == 0, Refused());
        require(uint96(listings[tutor][listing]) == rate, Refused());

        (uint256 lessons, uint256 total) = _fill(calendar[tutor], rate);
        batches[batch] = block.timestamp | lessons << 40;
        _emit(batch, tutor);
        require(token.transferFrom(msg.sender, address(this), total), Refused());
    }

    /// @dev The hash of the sender and of all the calldata after the selector.
    function _key() private view returns (bytes32 batch) {
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, caller())
            calldatacopy(add(data, 0x20), 4, sub(calldatasize(), 4))
            batch := and(keccak256(data, add(0x1c, calldatasize())), not(0xff))
        }
    }

    /// @dev Takes the slots out of the calendar word in which all of them must lie.
    function _fill(mapping(uint256 => uint256) storage pages, uint256 rate)
        private
        returns (uint256 lessons, uint256 total)
    {
        uint256 count = (msg.data.length - HEAD) / 4;
        uint256 page = uint16(bytes2(msg.data[HEAD:HEAD + 2]));
        uint256 word = pages[page];
        bool bad = count == 0 || count > 40;
        assembly ("memory-safe") {
            let end := calldatasize()
            for { let place := HEAD } lt(place, end) { place := add(place, 4) } {
                let slot := shr(224, calldataload(place))
                let length := and(slot, 0xff)
                let start := shr(8, slot)
                let mask := shl(and(start, 0xff), sub(shl(length, 1), 1))
                let outside := or(xor(shr(8, start), page), iszero(gt(mul(start, 900), timestamp())))
                bad := or(bad, or(or(and(word, mask), gt(sub(length, 1), 31)), outside))
                word := or(word, mask)
                total := add(total, shr(2, mul(rate, length)))
            }
        }
        require(!bad, Refused());
        pages[page] = word;
        lessons = (1 << count) - 1;
    }

    /// @dev The event, with the calldata from the listing on as it is.
    function _emit(bytes32 batch, address tutor) private {
        bytes32 topic = BookingsCreated.selector;
        assembly ("memory-safe") {
            let data := mload(0x40)
            let size := sub(calldatasize(), 24)
            calldatacopy(data, 24, size)
            log4(data, size, topic, batch, caller(), tutor)
        }
    }
}
