"""What can go wrong, one class for each cause, all under :class:`AirflowRayError`."""

from __future__ import annotations

from airflow_ray._compat import AirflowException


class AirflowRayError(AirflowException):
    """Base of all errors of this package.

    Each has an entry under the name of its class in ``docs/operate/errors.md``: its texts, what to check, what to do.
    """


class RayConfigurationError(AirflowRayError, ValueError):
    """A connection, an operator argument or an option is wrong."""


class ObjectURIError(RayConfigurationError):
    """A string that starts like an object URI is not one, or names an object of another connection."""


class RayClusterNotNamedError(RayConfigurationError):
    """The connection leads to a cluster for each run, or each DAG, and nobody has said of which one."""


class RayConnectionError(AirflowRayError):
    """The cluster cannot be reached, or what answers there is not a Ray cluster."""


class RayClusterGoneError(RayConnectionError):
    """The cluster of a DAG run, or of a DAG, does not exist: it is gone, or was not made yet."""


class RayAuthenticationError(RayConnectionError):
    """The cluster asks for a token that the connection does not have."""


class RayTLSError(RayConnectionError):
    """One side speaks TLS and the other does not, or one refuses the certificate of the other."""


class RayVersionMismatchError(RayConnectionError):
    """The cluster runs another Ray, another Python minor version or a newer airflow-ray than this process."""


class RayGatewayUnreachableError(RayConnectionError):
    """The gateway runs on the Ray head, and its port cannot be reached from this machine."""


class RayForkedError(RayConnectionError):
    """This process was forked while its parent called the cluster, and cannot call it."""


class RayPicklingError(AirflowRayError):
    """A callable, an argument or a result cannot be pickled, or not be unpickled where it went."""


class RaySchedulingError(AirflowRayError):
    """No node can ever run what was asked for, or none could within ``scheduling_timeout``."""


class RayRuntimeEnvError(AirflowRayError):
    """The ``runtime_env`` of a task cannot be built on the cluster."""


class RayTaskCancelledError(AirflowRayError):
    """The remote work was cancelled."""


class RayWorkerCrashedError(AirflowRayError):
    """The process that ran the callable died, or its node did."""


class RayOutOfMemoryError(RayWorkerCrashedError):
    """Ray killed the process that ran the callable because its node ran out of memory."""


class RayResultError(AirflowRayError):
    """What the callable returned cannot be handed over in the way that was asked for."""


class RayObjectLostError(AirflowRayError):
    """An object URI names an object that does not exist, or no longer does."""


class RayCheckpointError(AirflowRayError):
    """A checkpoint cannot be written or read."""


class RayCheckpointNotFoundError(RayCheckpointError):
    """There is no checkpoint of that output under the path."""


class RayCheckpointAccessError(RayCheckpointError):
    """The storage refuses: no such bucket, another region, or credentials that are wrong or not enough."""


class RayCheckpointStorageError(RayCheckpointError):
    """The storage fails: it does not answer, breaks off, or is full."""


class RayCheckpointCorruptError(RayCheckpointError):
    """A file of a checkpoint is missing, cut short or changed."""


class RayCheckpointSignatureError(RayCheckpointError):
    """A checkpoint was not signed with the Fernet key of this Airflow, so nothing of it is read."""


class RayCheckpointVersionError(RayCheckpointError):
    """A checkpoint was written by a newer release in a format that this one does not know."""


class RaySearchSpaceError(RayConfigurationError):
    """A search space is misspelt, or its arguments make no sense."""


class RayTuneError(AirflowRayError):
    """A hyper-parameter search has no result."""


class RayTuneTrialsFailedError(RayTuneError):
    """All trials of a search failed."""


class RayTuneMetricError(RayTuneError):
    """No trial reported the metric that is to be optimised, or none a number."""


class RayTuneStorageError(RayTuneError):
    """The state of a search cannot be written where it was told to."""


class RayTuneCheckpointError(RayTuneError):
    """The best trial left no checkpoint, or one of which nobody has said how to read it."""


class RayJobError(AirflowRayError):
    """A Ray job has not succeeded."""


class RayJobFailedError(RayJobError):
    """The entrypoint of a job ended with another exit code than 0, or could not be started."""


class RayJobStoppedError(RayJobError):
    """Somebody has stopped a job."""


class RayJobLostError(RayJobError):
    """The cluster does not know a job, or no longer does."""


class RayJobResultError(RayJobError):
    """A job has succeeded and left no result that can be read."""


class RayClusterError(AirflowRayError):
    """A Ray cluster on Kubernetes cannot be made, used or taken away."""


class RayClusterManifestError(RayClusterError, RayConfigurationError):
    """What was given is not the manifest of a Ray cluster, or Kubernetes or KubeRay refuses it."""


class RayClusterPermissionError(RayClusterError):
    """Kubernetes does not allow it to whom the connection names."""


class RayClusterQuotaError(RayClusterError):
    """A quota of Kubernetes leaves no room for the cluster."""


class RayClusterForeignError(RayClusterError):
    """A cluster of that name is there, which this Airflow installation has not made: it is left alone."""


class RayClusterImageError(RayClusterError):
    """An image of the cluster cannot be pulled."""


class RayClusterCrashedError(RayClusterError):
    """The head of the cluster dies while it starts."""


class RayClusterDeletedError(RayClusterError):
    """Somebody has deleted the cluster while it was waited for."""


class RayClusterTimeoutError(RayClusterError, TimeoutError):
    """The cluster could not run work, or was not gone, within ``timeout``."""


class KubeRayMissingError(RayClusterError):
    """Kubernetes does not know what a RayCluster is: KubeRay is not installed there."""


class KubernetesUnreachableError(RayClusterError):
    """The API server of Kubernetes cannot be reached, or does not answer as one."""


class RayOwnerDiedError(AirflowRayError):
    """What keeps work and objects on the head of the cluster died, and with it the work it ran and the objects."""


class RayWaitTimeoutError(AirflowRayError, TimeoutError):
    """The remote work had not ended within the time to wait; it goes on."""


class RayTaskFailedError(AirflowRayError):
    """The callable raised an exception on the cluster.

    :param exception_type: name of the exception's class, with its module unless built in.
    :param exception_message: the exception's text.
    :param remote_traceback: the traceback as text, as seen on the cluster.
    """

    def __init__(self, exception_type: str, exception_message: str, remote_traceback: str) -> None:
        super().__init__(
            f"The callable raised {exception_type} on the Ray cluster: {exception_message}\n\n{remote_traceback}"
        )
        self.exception_type = exception_type
        self.exception_message = exception_message
        self.remote_traceback = remote_traceback

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.exception_type, self.exception_message, self.remote_traceback)
