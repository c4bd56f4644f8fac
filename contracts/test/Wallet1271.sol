// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

// Contract wallets for the tests of `BookingEscrow`.

/// @notice A wallet whose owner has it make any call, such as approving a token, and whose owner's signatures count as its
/// own (ERC-1271).
contract Wallet1271 is IERC1271 {
    address public immutable owner;

    constructor(address owner_) {
        owner = owner_;
    }

    function execute(address target, bytes calldata data) external returns (bytes memory) {
        require(msg.sender == owner);
        return Address.functionCall(target, data);
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view virtual returns (bytes4) {
        return _signer(hash, signature) == owner ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }

    function _signer(bytes32 hash, bytes calldata signature) internal pure returns (address signer) {
        (signer,,) = ECDSA.tryRecoverCalldata(hash, signature);
    }
}

/// @notice A wallet that refuses every signature, its owner's too.
contract RefusingWallet is Wallet1271 {
    constructor(address owner_) Wallet1271(owner_) {}

    function isValidSignature(bytes32, bytes calldata) external pure override returns (bytes4) {
        return 0xffffffff;
    }
}

/// @notice A wallet of two owners, whose signatures it takes one after the other, 130 bytes.
contract PairWallet is Wallet1271 {
    address public immutable second;

    constructor(address first_, address second_) Wallet1271(first_) {
        second = second_;
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view override returns (bytes4) {
        bool both = signature.length == 130 && _signer(hash, signature[:65]) == owner
            && _signer(hash, signature[65:]) == second;
        return both ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// @notice A wallet that accepts what its owner approved before, by its hash, and takes no signature: the empty one, or of
/// 64 bytes, or of as many as the owner said.
contract ApprovingWallet is Wallet1271 {
    mapping(bytes32 hash => bool) public approved;
    uint256 public length;

    constructor(address owner_) Wallet1271(owner_) {}

    function approve(bytes32 hash, uint256 length_) external {
        require(msg.sender == owner);
        (approved[hash], length) = (true, length_);
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view override returns (bytes4) {
        return approved[hash] && signature.length == length ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// @notice A wallet that needs a million gas to say that a signature is its owner's.
contract ExpensiveWallet is Wallet1271 {
    constructor(address owner_) Wallet1271(owner_) {}

    function isValidSignature(bytes32 hash, bytes calldata signature) external view override returns (bytes4) {
        uint256 before = gasleft();
        bytes32 digest = hash;
        while (before - gasleft() < 1_000_000) digest = keccak256(abi.encode(digest));
        return _signer(hash, signature) == owner ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// @notice A wallet that burns all the gas that it gets.
contract BurningWallet is Wallet1271 {
    constructor(address owner_) Wallet1271(owner_) {}

    function isValidSignature(bytes32, bytes calldata) external pure override returns (bytes4) {
        assembly {
            invalid()
        }
    }
}

/// @notice A wallet that lies: it answers something that only looks like a yes.
contract LyingWallet is Wallet1271 {
    enum Lie {
        ShortAnswer, // the four right bytes alone
        DirtyAnswer, // the right bytes, then others
        True, // a bool
        RevertedYes // the right word, reverted with
    }

    Lie private immutable _lie;

    constructor(address owner_, Lie lie) Wallet1271(owner_) {
        _lie = lie;
    }

    function isValidSignature(bytes32, bytes calldata) external view override returns (bytes4) {
        bytes32 yes = bytes32(IERC1271.isValidSignature.selector);
        Lie lie = _lie;
        assembly {
            switch lie
            case 0 {
                mstore(0, yes)
                return(0, 4)
            }
            case 1 {
                mstore(0, or(yes, 1))
                return(0, 0x20)
            }
            case 2 {
                mstore(0, 1)
                return(0, 0x20)
            }
            default {
                mstore(0, yes)
                revert(0, 0x20)
            }
        }
    }
}
