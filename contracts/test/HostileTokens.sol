// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

// Tokens for the tests of `BookingEscrow`, each of which behaves badly in one way. Anyone may mint them.

/// @notice Moves nothing and returns false, as the oldest tokens do instead of reverting.
contract FalseToken {
    function transferFrom(address, address, uint256) external pure returns (bool) {
        return false;
    }
}

/// @notice Reverts every transfer, with a reason of its own or without any.
contract RevertingToken {
    error TransferRefused(address from, address to, uint256 amount);

    bool private immutable _silent;

    constructor(bool silent) {
        _silent = silent;
    }

    function transferFrom(address from, address to, uint256 amount) external view returns (bool) {
        require(!_silent);
        revert TransferRefused(from, to, amount);
    }
}

/// @notice Returns nothing, like USDT, and reverts without a reason. It works. It has no `permit`.
contract NoReturnToken {
    event Transfer(address indexed from, address indexed to, uint256 value);

    mapping(address account => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    function mint(address account, uint256 amount) external {
        balanceOf[account] += amount;
        emit Transfer(address(0), account, amount);
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        require(amount <= allowance[from][msg.sender] && amount <= balanceOf[from]);
        allowance[from][msg.sender] -= amount;
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
        emit Transfer(from, to, amount);
    }

    function transfer(address to, uint256 amount) external {
        require(amount <= balanceOf[msg.sender]);
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
        emit Transfer(msg.sender, to, amount);
    }
}

/// @notice Accepts calls of functions that it does not have, like WETH: every `permit` seems to work and gives nothing.
contract PhantomPermitToken is NoReturnToken {
    fallback() external {}
}

/// @notice Names its domain and takes every permit, and no permit gives anything.
contract IdlePermitToken is ERC20, ERC20Permit {
    constructor() ERC20("Idle", "ID") ERC20Permit("Idle") {}

    function permit(address, address, uint256, uint256, uint8, bytes32, bytes32) public override {}
}

/// @notice Makes a call that was set before, once, in the midst of the next transfer or permit, and keeps its outcome.
contract ReentrantToken is ERC20, ERC20Permit {
    address public target;
    bytes public data;
    bool public succeeded;
    bytes public answer;

    constructor() ERC20("Reentrant", "RE") ERC20Permit("Reentrant") {}

    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    function reenterWith(address target_, bytes calldata data_) external {
        (target, data) = (target_, data_);
    }

    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        public
        override
    {
        super.permit(owner, spender, value, deadline, v, r, s);
        _reenter();
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        _reenter();
        return super.transferFrom(from, to, amount);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        _reenter();
        return super.transfer(to, amount);
    }

    function _reenter() private {
        if (target == address(0)) return;
        address once = target;
        delete target;
        (succeeded, answer) = once.call(data);
    }
}

/// @notice Pays nobody on its list, like USDC: such a transfer reverts, or moves nothing and returns false.
contract BlockingToken is ERC20, ERC20Permit {
    error Blocked(address account);

    bool private immutable _silent;
    mapping(address account => bool) public blocked;

    constructor(bool silent) ERC20("Blocking", "BL") ERC20Permit("Blocking") {
        _silent = silent;
    }

    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    function setBlocked(address account, bool blocked_) external {
        blocked[account] = blocked_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        if (!blocked[to]) return super.transfer(to, amount);
        require(_silent, Blocked(to));
        return false;
    }
}

/// @notice Keeps a hundredth of what is moved: of every transfer, or only of those by an allowance.
contract FeeToken is ERC20, ERC20Permit {
    bool private immutable _always;

    constructor(bool always) ERC20("Fee", "FEE") ERC20Permit("Fee") {
        _always = always;
    }

    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        super.transfer(to, amount);
        if (_always) _burn(to, amount / 100);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        super.transferFrom(from, to, amount);
        _burn(to, amount / 100);
        return true;
    }
}
