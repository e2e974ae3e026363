"""Snapshots of indexes in a repository that the cluster's administrators have registered."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from kb.errors import BackendError, IndexUnavailable, NotFoundError
from retrieval.elasticsearch_errors import translated

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

POLL_S: Final = 0.5
NOTHING_OF_THE_CLUSTERS: Final = ["none"]
"""Elasticsearch would add its own system indexes."""


class ElasticsearchSnapshots:
    """The `Snapshots` port. Indexes are named as the store names them, without its prefix."""

    def __init__(self, client: "AsyncElasticsearch", repository: str, prefix: str) -> None:
        self._client = client
        self._repository = repository
        self._prefix = prefix

    async def take(self, name: str, indexes: Sequence[str]) -> None:
        # Without a name Elasticsearch would take all there are.
        if not indexes:
            raise ValueError("a snapshot is of at least one index")
        with translated(f"of the snapshot {name}"):
            await self._client.snapshot.create(
                repository=self._repository,
                snapshot=name,
                indices=[self._prefix + index for index in indexes],
                partial=False,
                wait_for_completion=False,
                include_global_state=False,
                feature_states=NOTHING_OF_THE_CLUSTERS,
            )
        while (taken := await self._snapshot(name))["state"] == "IN_PROGRESS":  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        if taken["state"] != "SUCCESS":
            failures = taken.get("failures") or [{"reason": taken.get("reason")}]
            raise BackendError(
                f"Elasticsearch could not take the snapshot {name}: {failures[0].get('reason')}."
                " See whether the cluster is green and its repository has room."
            )

    async def restore(self, name: str, index: str, target: str) -> None:
        snapshot = await self._snapshot(name)
        if snapshot["state"] != "SUCCESS" or self._prefix + index not in snapshot["indices"]:
            raise NotFoundError(
                f"The snapshot {name} is {snapshot['state']} and holds {snapshot['indices']}, not"
                f" {self._prefix + index}. KB_INDEX__PREFIX must be as it was when it was taken."
            )
        with translated(f"of the snapshot {name}"):
            await self._client.indices.delete(index=self._prefix + target, ignore_unavailable=True)
            await self._client.snapshot.restore(
                repository=self._repository,
                snapshot=name,
                indices=self._prefix + index,
                include_aliases=False,
                rename_pattern=".+",
                rename_replacement=self._prefix + target,
                wait_for_completion=False,
                include_global_state=False,
                feature_states=NOTHING_OF_THE_CLUSTERS,
            )
        await self._until_there(self._prefix + target)

    async def delete(self, name: str) -> None:
        # Not by its status: a repository that is gone is another 404, and no reason to forget a snapshot.
        with suppress(NotFoundError), translated(f"of the snapshot {name}"):
            await self._client.snapshot.delete(repository=self._repository, snapshot=name)

    async def _snapshot(self, name: str) -> dict[str, Any]:
        with translated(f"of the snapshot {name}"):
            found = await self._client.snapshot.get(repository=self._repository, snapshot=name)
        return dict(found.body["snapshots"][0])

    async def _until_there(self, index: str) -> None:
        """Elasticsearch calls it yellow from the start: what counts is that its shards are there."""
        while True:
            with translated(index):
                health = await self._client.cluster.health(index=index, level="indices")
            found = health.body["indices"].get(index, {})
            if found and found["active_primary_shards"] == found["number_of_shards"]:
                return
            if found.get("status") == "red":
                raise IndexUnavailable(
                    f"Elasticsearch could not restore {index}: no node holds its shards. See"
                    " `GET _cluster/allocation/explain`."
                )
            await asyncio.sleep(POLL_S)
