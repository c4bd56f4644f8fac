// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Listing, Order} from "../../contracts/interfaces/IBookingEscrow.sol";
import {Proof} from "./Proof.sol";

/// @notice Nobody acts for somebody else. For each act, any sender, and no signature or any of 65 bytes: it goes through
/// only if the sender is the actor, or the signature is the actor's for exactly this act, these lessons, this batch,
/// this contract and this chain.
///
/// The actor has no code; what an ERC-1271 wallet accepts is the wallet's own affair.
contract Consent is Proof {
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    struct Claim {
        address sender;
        bytes signature;
        bytes32 r;
        bytes32 s;
        uint8 v;
    }

    function check_consent_to_create() external {
        Order memory order = _order();
        Claim memory claim = _claim();
        bytes32 digest = escrow.hashOrder(order);
        bool done = _act(claim.sender, abi.encodeCall(escrow.createBookings, (order, claim.signature)));
        assert(_implies(done, _agreed(STUDENT, claim, digest)));
    }

    function check_consent_to_confirm() external {
        (Order memory order, uint40 lessons, Claim memory claim, bytes32 digest) =
            _one("Confirm(bytes32 batch,uint40 lessons)");
        bool done = _act(claim.sender, abi.encodeCall(escrow.confirm, (order, lessons, claim.signature)));
        assert(_implies(done, _agreed(TUTOR, claim, digest)));
    }

    function check_consent_to_cancel() external {
        (Order memory order, uint40 lessons, Claim memory claim, bytes32 digest) =
            _one("Cancel(bytes32 batch,uint40 lessons)");
        bool done = _act(claim.sender, abi.encodeCall(escrow.cancel, (order, lessons, STUDENT, claim.signature)));
        assert(_implies(done, _agreed(STUDENT, claim, digest)));
    }

    function check_consent_to_complete() external {
        (Order memory order, uint40 lessons, Claim memory claim, bytes32 digest) =
            _one("Complete(bytes32 batch,uint40 lessons)");
        bool done = _act(claim.sender, abi.encodeCall(escrow.complete, (order, lessons, STUDENT, claim.signature)));
        assert(_implies(done, _agreed(STUDENT, claim, digest)));
    }

    function check_consent_to_dispute() external {
        (Order memory order, uint40 lessons, Claim memory claim, bytes32 digest) =
            _one("Dispute(bytes32 batch,uint40 lessons)");
        bool done = _act(claim.sender, abi.encodeCall(escrow.dispute, (order, lessons, claim.signature)));
        assert(_implies(done, _agreed(STUDENT, claim, digest)));
    }

    /// @notice And a signed publication counts once: its nonce is used up.
    function check_consent_to_publish() external {
        Claim memory claim = _claim();
        bytes32 name = svm.createBytes32("listing");
        uint96 rate = uint96(svm.createUint(96, "rate"));
        Listing memory before = escrow.listings(TUTOR, name);
        bytes32 typehash =
            keccak256("Listing(address tutor,bytes32 listing,uint96 hourlyRate,bool instant,uint64 nonce)");
        bytes32 digest = _digest(keccak256(abi.encode(typehash, TUTOR, name, rate, true, before.nonce)));

        bool done = _act(claim.sender, abi.encodeCall(escrow.publish, (TUTOR, name, rate, true, claim.signature)));
        if (!done) return;

        Listing memory published = escrow.listings(TUTOR, name);
        bool kept = _both(published.hourlyRate == rate, published.instant);
        unchecked {
            kept = _both(kept, published.nonce == before.nonce + 1);
        }
        assert(_both(kept, _agreed(TUTOR, claim, digest)));
    }

    function _claim() private returns (Claim memory claim) {
        claim.sender = svm.createAddress("sender");
        claim.r = svm.createBytes32("r");
        claim.s = svm.createBytes32("s");
        claim.v = uint8(svm.createUint(8, "v"));
        if (svm.createBool("signed")) claim.signature = abi.encodePacked(claim.r, claim.s, claim.v);
    }

    function _one(string memory act)
        private
        returns (Order memory order, uint40 lessons, Claim memory claim, bytes32 digest)
    {
        order = _order();
        lessons = 2;
        claim = _claim();
        digest = _digest(keccak256(abi.encode(keccak256(bytes(act)), escrow.batchOf(order), lessons)));
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPEHASH, keccak256("Creneau"), keccak256("1"), block.chainid, address(escrow))
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function _agreed(address actor, Claim memory claim, bytes32 digest) private pure returns (bool) {
        address signer = ecrecover(digest, claim.v, claim.r, claim.s);
        return _either(claim.sender == actor, _both(claim.signature.length == 65, signer == actor));
    }
}
