"""A script as it is run by hand: ``python simulate.py --rows 1000``. Of Ray it knows what Ray's own manual says."""

import argparse
import os
import random

import pandas as pd
import ray


@ray.remote
def wait_times(rows: int, seed: int) -> list[float]:
    chance = random.Random(seed)
    return [chance.expovariate(1.0) for _ in range(rows)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--parts", type=int, default=2)
    arguments = parser.parse_args()
    ray.init()
    parts = ray.get([wait_times.remote(arguments.rows, seed) for seed in range(arguments.parts)])
    frame = pd.DataFrame({"part": number, "wait": wait} for number, part in enumerate(parts) for wait in part)
    print(f"{len(frame)} rows")
    # By hand the variable is not set, and the file stays in this folder.
    frame.to_parquet(os.environ.get("AIRFLOW_RAY_RESULT", "result.parquet"))


if __name__ == "__main__":
    main()
