"""Stub."""


def bundle() -> bytes:
    return b""
