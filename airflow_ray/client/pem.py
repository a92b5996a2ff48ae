"""Files with certificates and keys, which connections name by their path on this machine."""

from __future__ import annotations

import errno
import os
import stat

# The certificates of all authorities that a browser knows are a quarter of this.
MAX_BYTES = 1_000_000


def text_of(certificates: bytes) -> str:
    """Return certificates as ``ssl`` takes them: in ASCII, which comments between them need not be."""
    return certificates.decode("ascii", errors="ignore")


def read_pem(path: str) -> bytes:
    """Return what is in a file of certificates or keys.

    :raises OSError: it is not there, not readable, no regular file, or too large to be one of these.
    """
    # Whoever opens a pipe without this waits for somebody who writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_BYTES:,} bytes", path)
    return content
