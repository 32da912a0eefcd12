"""Damaged copies of a file, for tests."""

import random
from collections.abc import Callable, Iterator
from typing import TypeVar

Content = TypeVar("Content")


def damaged(whole: bytes, flips: int = 200) -> Iterator[tuple[str, bytes]]:
    """What was done, and the content: single flipped bits at random places, then the file cut off at every tenth."""
    places = random.Random(0)
    for _ in range(flips):
        bit = places.randrange(8 * len(whole))
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} of {8 * len(whole)} flipped", bytes(changed)
    for tenth in range(10):
        yield f"cut off at {10 * tenth} %", whole[: len(whole) * tenth // 10]


def content_or_error(read: Callable[[], Content]) -> Content | ValueError:
    """What it returns or raises."""
    try:
        return read()
    except ValueError as error:
        return error
