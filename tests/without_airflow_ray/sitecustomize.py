"""Makes airflow_ray unimportable in the processes that have this folder on their path, but for the file that brings it.

And gives the heads of tests that run side by side different ports for the processes that serve Ray Clients: Ray looks
for one that is free a second before it listens there, and then shares it with whoever came first.
"""

import os
import sys


class _Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow_ray":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if not any(argument.endswith("airflow_ray_gateway.pyz") for argument in sys.orig_argv):
    sys.meta_path.insert(0, _Missing())

if "ray.util.client.server" in sys.orig_argv and "--mode=proxy" in sys.orig_argv:
    from ray.util.client.server import proxier

    first = int(os.environ["TESTS_FIRST_CLIENT_PORT"])
    proxier.MIN_SPECIFIC_SERVER_PORT, proxier.MAX_SPECIFIC_SERVER_PORT = first, first + 200
