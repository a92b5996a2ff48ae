"""A module that stands for a user's helper module: the cluster does not have it."""

from __future__ import annotations


class Interval:
    def __init__(self, low, high):
        self.low, self.high = low, high

    def __eq__(self, other):
        return (self.low, self.high) == (other.low, other.high)

    __hash__ = None


def widen(interval, by):
    return Interval(interval.low - by, interval.high + by)
