"""eth_abi's own `encode` and `decode`, whatever else is imported.

Ape changes the decoder of unsigned integers for the whole process: bytes that are missing count as zeros, and
so an address without a contract would answer with a balance of zero.
"""

from eth_abi.codec import ABICodec
from eth_abi.decoding import UnsignedIntegerDecoder
from eth_abi.encoding import UnsignedIntegerEncoder
from eth_abi.registry import ABIRegistry, BaseEquals, registry

_registry: ABIRegistry = registry.copy()  # type: ignore[no-untyped-call]
_registry.unregister("uint")
_registry.register(
    BaseEquals("uint"),  # type: ignore[no-untyped-call]
    UnsignedIntegerEncoder,
    UnsignedIntegerDecoder,
    label="uint",
)
_codec = ABICodec(_registry)

encode = _codec.encode
decode = _codec.decode
