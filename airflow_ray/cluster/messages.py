"""The messages between Airflow's processes and the gateway as bytes: plain data in MessagePack, which Ray brings.

Of what is packed a tuple arrives as a list. Bytes, text with lone surrogates and keys that are no text stay as they
are.
"""

from __future__ import annotations

from typing import Any


def packed(message: Any) -> bytes:
    """Return a message as bytes.

    :raises TypeError: there is something in it that is no plain data.
    :raises OverflowError: a number has more than 64 bits.
    """
    import msgpack

    data: bytes = msgpack.packb(message, unicode_errors="surrogatepass")
    return data


def unpacked(data: Any) -> Any:
    """Return the message of some bytes, which may come from anybody.

    :param data: a buffer; what is unpacked has no more parts than that has bytes.
    :raises ValueError: they are none.
    """
    import msgpack

    options = {"strict_map_key": False, "unicode_errors": "surrogatepass"}
    try:
        # Neither an extension nor a moment is plain data; a moment comes as its seconds.
        return msgpack.unpackb(data, ext_hook=_refuse, timestamp=1, **options)
    # A list or a mapping as a key.
    except TypeError as error:
        raise ValueError(str(error)) from error


def _refuse(code: int, data: bytes) -> Any:
    raise ValueError(f"extension {code} of MessagePack is not plain data")
