// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title EduToken
/// @notice The token of local and test networks: an ERC-20 with EIP-2612 permits and 18 decimals, minted by its owner.
/// On a live network the token is a parameter of the deployment, and this contract is not deployed.
contract EduToken is ERC20, ERC20Permit, Ownable {
    constructor(address owner) ERC20("Creneau test EDU", "EDU") ERC20Permit("Creneau test EDU") Ownable(owner) {}

    /// @notice Makes `amount` base units out of nothing for `account`. Only the owner may.
    function mint(address account, uint256 amount) external onlyOwner {
        _mint(account, amount);
    }
}
