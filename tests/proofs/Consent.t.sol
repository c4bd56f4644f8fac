// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Listing, Order, Permit} from "../../contracts/interfaces/IBookingEscrow.sol";
import {Proof} from "./Proof.sol";

/// @notice Nobody acts for somebody else. For each entry point, any actor, any sender, and no signature or any of 65 bytes:
/// it goes through only if the sender is the actor, or the signature is the actor's for exactly this act, these lessons,
/// this batch, this contract and this chain, and its deadline is not over.
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
        uint40 deadline;
    }

    function check_consent_to_create() external {
        Order memory order = _order();
        order.student = _actor();
        Claim memory claim = _claim();
        bytes32 digest = escrow.hashOrder(order);
        bool done = _act(claim.sender, abi.encodeCall(escrow.createBookings, (order, claim.signature)));
        assert(_implies(done, _signed(order.student, claim, digest)));
    }

    function check_consent_to_create_with_permit() external {
        Order memory order = _order();
        order.student = _actor();
        Claim memory claim = _claim();
        Permit memory permit = Permit(svm.createUint(256, "value"), type(uint256).max, 27, 0, 0);
        bytes32 digest = escrow.hashOrder(order);
        bool done =
            _act(claim.sender, abi.encodeCall(escrow.createBookingsWithPermit, (order, claim.signature, permit)));
        assert(_implies(done, _signed(order.student, claim, digest)));
    }

    function check_consent_to_confirm() external {
        Order memory order = _order();
        order.tutor = _actor();
        Claim memory claim = _claim();
        bytes32 digest = _acting("Confirm", order, claim);
        bool done = _act(claim.sender, abi.encodeCall(escrow.confirm, (order, 2, claim.deadline, claim.signature)));
        assert(_implies(done, _agreed(order.tutor, claim, digest)));
    }

    /// @notice In anybody's name: the student's, the tutor's and everybody else's.
    function check_consent_to_cancel() external {
        Order memory order = _order();
        Claim memory claim = _claim();
        address by = _actor();
        bytes32 digest = _acting("Cancel", order, claim);
        bool done = _act(claim.sender, abi.encodeCall(escrow.cancel, (order, 2, by, claim.deadline, claim.signature)));
        assert(_implies(done, _agreed(by, claim, digest)));
    }

    function check_consent_to_complete() external {
        Order memory order = _order();
        Claim memory claim = _claim();
        address by = _actor();
        bytes32 digest = _acting("Complete", order, claim);
        bool done = _act(claim.sender, abi.encodeCall(escrow.complete, (order, 2, by, claim.deadline, claim.signature)));
        assert(_implies(done, _agreed(by, claim, digest)));
    }

    function check_consent_to_dispute() external {
        Order memory order = _order();
        order.student = _actor();
        Claim memory claim = _claim();
        bytes32 digest = _acting("Dispute", order, claim);
        bool done = _act(claim.sender, abi.encodeCall(escrow.dispute, (order, 2, claim.deadline, claim.signature)));
        assert(_implies(done, _agreed(order.student, claim, digest)));
    }

    /// @notice Of the student and of the tutor, each by a signature of their own or as the sender.
    function check_consent_to_settle() external {
        Order memory order = _order();
        (Claim memory student, Claim memory tutor) = (_claim(), _claim());
        vm.assume(_both(student.sender == tutor.sender, student.deadline == tutor.deadline));
        uint16 share = uint16(svm.createUint(16, "share"));
        bytes32 typehash = keccak256("Settle(bytes32 batch,uint40 lessons,uint16 tutorShareBps,uint40 deadline)");
        bytes32 digest =
            _digest(keccak256(abi.encode(typehash, escrow.batchOf(order), uint40(2), share, student.deadline)));
        bool done = _act(
            student.sender,
            abi.encodeCall(escrow.settle, (order, 2, share, student.deadline, student.signature, tutor.signature))
        );
        assert(_implies(done, _both(_agreed(STUDENT, student, digest), _agreed(TUTOR, tutor, digest))));
    }

    function check_consent_to_revoke() external {
        Order memory order = _order();
        order.student = _actor();
        Claim memory claim = _claim();
        bytes32 typehash = keccak256("Revoke(bytes32 batch,uint40 deadline)");
        bytes32 digest = _digest(keccak256(abi.encode(typehash, escrow.batchOf(order), claim.deadline)));
        bool done = _act(claim.sender, abi.encodeCall(escrow.revoke, (order, claim.deadline, claim.signature)));
        assert(_implies(done, _agreed(order.student, claim, digest)));
    }

    function check_consent_to_withdraw() external {
        Claim memory claim = _claim();
        (address account, address to) = (_actor(), svm.createAddress("to"));
        bytes32 typehash = keccak256("Withdraw(address account,address to,uint40 deadline)");
        bytes32 digest = _digest(keccak256(abi.encode(typehash, account, to, claim.deadline)));
        uint256 credit = escrow.credits(account);
        bool done = _act(claim.sender, abi.encodeCall(escrow.withdraw, (account, to, claim.deadline, claim.signature)));
        if (!done) return;
        bool paid = _both(token.received(to) == credit, _both(token.pushes() == 1, escrow.credits(account) == 0));
        assert(_both(paid, _agreed(account, claim, digest)));
    }

    /// @notice Instant or not, at any rate, of any tutor. And a signed publication counts once: its nonce is used up.
    function check_consent_to_publish() external {
        Claim memory claim = _claim();
        address tutor = _actor();
        Listing memory offer = Listing(
            uint96(svm.createUint(96, "rate")),
            svm.createBool("instant"),
            uint32(svm.createUint(32, "minNotice")),
            uint32(svm.createUint(32, "horizon")),
            escrow.listings(tutor, "piano").nonce
        );
        bytes32 typehash = keccak256(
            "Listing(address tutor,bytes32 listing,uint96 hourlyRate,bool instant,uint32 minNotice,uint32 horizon,uint64 nonce,uint40 deadline)"
        );
        bytes32 digest = _digest(keccak256(abi.encode(typehash, tutor, bytes32("piano"), offer, claim.deadline)));
        bool done = _act(
            claim.sender,
            abi.encodeCall(
                escrow.publish,
                (
                    tutor,
                    "piano",
                    offer.hourlyRate,
                    offer.instant,
                    offer.minNotice,
                    offer.horizon,
                    claim.deadline,
                    claim.signature
                )
            )
        );
        if (!done) return;

        unchecked {
            ++offer.nonce;
        }
        bool kept = keccak256(abi.encode(escrow.listings(tutor, "piano"))) == keccak256(abi.encode(offer));
        assert(_both(kept, _agreed(tutor, claim, digest)));
    }

    /// @dev Anybody, without code.
    function _actor() private returns (address actor) {
        actor = svm.createAddress("actor");
        vm.assume(_both(actor != address(escrow), _both(actor != address(token), actor != address(this))));
    }

    function _claim() private returns (Claim memory claim) {
        claim.sender = svm.createAddress("sender");
        claim.r = svm.createBytes32("r");
        claim.s = svm.createBytes32("s");
        claim.v = uint8(svm.createUint(8, "v"));
        claim.deadline = uint40(svm.createUint(40, "deadline"));
        if (svm.createBool("signed")) claim.signature = abi.encodePacked(claim.r, claim.s, claim.v);
    }

    function _acting(string memory act, Order memory order, Claim memory claim) private view returns (bytes32) {
        bytes32 typehash = keccak256(bytes(string.concat(act, "(bytes32 batch,uint40 lessons,uint40 deadline)")));
        return _digest(keccak256(abi.encode(typehash, escrow.batchOf(order), uint40(2), claim.deadline)));
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPEHASH, keccak256("Creneau"), keccak256("1"), block.chainid, address(escrow))
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    /// @dev The actor sends it, or signed it and the deadline is not over.
    function _agreed(address actor, Claim memory claim, bytes32 digest) private view returns (bool) {
        bool inTime = block.timestamp <= claim.deadline;
        return _either(claim.sender == actor, _both(inTime, _signed(actor, claim, digest)));
    }

    /// @dev The actor sends it, or signed it.
    function _signed(address actor, Claim memory claim, bytes32 digest) private pure returns (bool) {
        address signer = ecrecover(digest, claim.v, claim.r, claim.s);
        return _either(claim.sender == actor, _both(claim.signature.length == 65, signer == actor));
    }
}
