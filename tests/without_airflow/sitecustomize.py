"""Makes Airflow and airflow_ray unimportable in the processes that have this folder on their path."""

import sys


class _Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("airflow", "airflow_ray"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, _Missing())
