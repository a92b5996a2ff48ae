"""The DataFrames that the benchmarks move."""

from __future__ import annotations

from typing import Any

COLUMNS = 10
MIXED_BYTES_PER_ROW = 73


def floats(megabytes: float) -> Any:
    """Return a frame of random floats, which nothing can compress.

    :param megabytes: its size, in units of 10^6 bytes.
    """
    import numpy as np
    import pandas as pd

    rows = int(megabytes * 1_000_000) // (8 * COLUMNS)
    return pd.DataFrame(np.random.default_rng(0).random((rows, COLUMNS)), columns=[f"c{i}" for i in range(COLUMNS)])


def mixed(megabytes: float) -> Any:
    """Return a frame as a shop has it: numbers, prices, times, categories and text.

    :param megabytes: its size when pickled, in units of 10^6 bytes.
    """
    import numpy as np
    import pandas as pd

    rows = int(megabytes * 1_000_000) // MIXED_BYTES_PER_ROW
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "c0": np.arange(rows),
            "price": random.normal(100, 15, rows).round(2),
            "quantity": random.integers(0, 100, rows),
            "sold_at": pd.date_range("2026-01-01", periods=rows, freq="s"),
            "shop": pd.Categorical(random.choice(["north", "south", "east", "west"], rows)),
            "product": [f"product-{number:05}" for number in random.integers(0, 5000, rows)],
            "returned": random.random(rows) < 0.05,
            "weight": random.random(rows),
        }
    )
