"""A helper module that is imported while a callable runs."""

from helpers.cleaning import Cleaner


def clean_later(values):
    return Cleaner(None).clean(values)
