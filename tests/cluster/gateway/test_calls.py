"""What a client is told of an owner that does not answer."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from airflow_ray.cluster.failures import Refusal
from airflow_ray.cluster.gateway.calls import OwnerName, Owners
from airflow_ray.cluster.protocol import RefusalKind


# Ray makes such calls again for a minute and more, which no test waits for.
@pytest.mark.parametrize(
    ("raised", "kind"),
    [(ActorUnavailableError("reset", None), RefusalKind.BROKEN), (ActorDiedError(), RefusalKind.OWNER_DIED)],
    ids=["connection within the cluster was reset", "died"],
)
def test_owner_that_cannot_be_reached_is_not_told_to_have_died(mocker, raised, kind):
    mocker.patch("ray.get", side_effect=raised)
    with pytest.raises(Refusal) as refused:
        Owners().answer(OwnerName("namespace", "owner"), None)
    assert refused.value.error["kind"] == kind
