"""The hook that makes a cluster client from an Airflow connection."""

from typing import Any

from airflow.sdk import BaseHook

from distilray.deploy.errors import SubmitError
from distilray.deploy.jobs_api import Cluster


class RayJobsHook(BaseHook):
    """A hook for a connection of type `http`.

    The connection has the host and port of Ray's dashboard, and the cluster's token as password. For TLS, its schema is
    `https`, or its host starts with `https://`. Its extra field may have the key `verify`, whose value is false or a
    file of certificate authorities.
    """

    conn_name_attr = "conn_id"
    default_conn_name = "ray_default"
    conn_type = "http"
    hook_name = "Ray Jobs"

    def __init__(self, conn_id: str = default_conn_name):
        super().__init__()
        self.conn_id = conn_id

    def get_conn(self) -> Cluster:
        """Return the cluster. Raises SubmitError if the connection has no host or an invalid one."""
        return _cluster(self.get_connection(self.conn_id))

    async def aget_conn(self) -> Cluster:
        """Return the cluster in a triggerer, as `get_conn` does in a worker."""
        return _cluster(await self.aget_connection(self.conn_id))


def _cluster(connection: Any) -> Cluster:
    if not connection.host:
        raise SubmitError(f"the connection {connection.conn_id} has no host; set the host of a Ray dashboard")
    host = connection.host if "://" in connection.host else f"{connection.schema or 'http'}://{connection.host}"
    address = f"{host}:{connection.port}" if connection.port else host
    return Cluster(address, connection.password or None, connection.extra_dejson.get("verify", True))
