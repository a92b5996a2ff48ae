"""A module that stands for a user's helper module: the cluster does not have it."""

from __future__ import annotations


def one_more(number):
    return number + 1
