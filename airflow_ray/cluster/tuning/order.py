"""What a search is asked to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Search(TypedDict):
    """What a search is of: a dict, since the cluster does not have this package.

    :param trainable: the user's function, class or trainer.
    :param data: further arguments for it.
    :param param_space: constants and search spaces, see :mod:`airflow_ray.cluster.tuning.space`.
    :param folder: where under the storage of the task the experiment lies.
    :param name: of the experiment; the same for each try that may go on with it.
    :param scheduling_timeout: seconds to wait for a node that is large enough for a trial; None for not at all.
    :param with_history: also return the learning curves.

    The others are as Ray Tune's ``TuneConfig`` and ``RunConfig`` have them.
    """

    trainable: Any
    data: dict[str, Any]
    param_space: dict[str, Any]
    folder: str
    name: str
    metric: str
    mode: str
    num_samples: int
    scheduler: Any
    search_alg: Any
    resources_per_trial: dict[str, float] | None
    scheduling_timeout: float | None
    max_concurrent_trials: int | None
    time_budget_s: float | None
    stop: Any
    callbacks: Sequence[Any] | Callable[[], Sequence[Any]]
    load_best_checkpoint: bool | Callable[[str], Any]
    with_history: bool
