"""Write a file of the shape of the HIGGS data, for those who do not have the data: a label and 28 features.

``python generate_higgs.py --rows 200000 --path ~/higgs.csv.gz``
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

DEFAULT_PATH = str(Path(tempfile.gettempdir(), "higgs.csv"))
CHUNK_ROWS = 50_000


def generate(rows, path, seed=0):
    """Write a file of ``rows`` rows, packed if its name ends in ``.gz``; it appears when it is complete."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    random = np.random.default_rng(seed)
    schema = pa.schema([(str(number), pa.float32()) for number in range(29)])
    with (
        pa.output_stream(str(unfinished), compression="detect") as file,
        csv.CSVWriter(file, schema, write_options=csv.WriteOptions(include_header=False)) as writer,
    ):
        for start in range(0, rows, CHUNK_ROWS):
            columns = collisions(random, min(CHUNK_ROWS, rows - start))
            writer.write_table(pa.table([column.astype("float32") for column in columns], schema=schema))
    unfinished.replace(path)


def collisions(random, rows):
    """Return the columns of a number of rows: the label, 21 features as measured and 7 made of them.

    What tells the two kinds of rows apart is spread over features and products of them, so that trees find more
    of it than a line does.
    """
    import numpy as np

    label = random.random(rows) < 0.53
    shift = np.where(label, 0.25, -0.25)
    measured = random.normal(size=(21, rows))
    measured[3:9] += shift
    measured[9] *= np.where(label, 1.3, 1.0)
    # Momenta are positive and have a long tail.
    measured[0:3] = np.exp(0.5 * measured[0:3])
    made = [measured[3 + i] * measured[12 + i] + shift + random.normal(size=rows) for i in range(6)]
    made.append(np.hypot(measured[9], measured[10]))
    return [label, *measured, *made]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="11000000 is the size of the data itself")
    parser.add_argument("--path", default=DEFAULT_PATH, help="ends in .csv or .csv.gz")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generate(arguments.rows, arguments.path, arguments.seed)
    print(f"{arguments.rows:,} rows in {arguments.path}")


if __name__ == "__main__":
    main()
