"""Index generations as indexes of an Elasticsearch cluster."""

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from kb.errors import ConfigError, IndexSchemaMismatch, IndexUnavailable, NotFoundError
from kb.settings import IndexSettings
from kb.types import IndexSchema
from retrieval import elasticsearch_health as health
from retrieval import mapping
from retrieval.elasticsearch_errors import translated
from retrieval.elasticsearch_index import ElasticsearchIndex
from retrieval.elasticsearch_mapping import index_body, stored_schema
from retrieval.elasticsearch_snapshots import ElasticsearchSnapshots

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

OURS: Final = "kb-*"
"""What our indexes are called, after the prefix."""
CHECKED_FOR_S: Final = 10.0
"""An index opened again within this time is not looked at again: a search is one round trip."""


class ElasticsearchStore:
    """The `IndexStore` port. Nothing is imported, opened or written before the first call."""

    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._client: AsyncElasticsearch | None = None
        self._connecting = asyncio.Lock()
        self._checked: dict[str, tuple[IndexSchema, float]] = {}

    async def create(self, name: str, schema: IndexSchema) -> ElasticsearchIndex:
        client = await self._connect()
        index = self._prefixed(name)
        with translated(index):
            answer = await client.options(ignore_status=400).indices.create(
                index=index, body=index_body(schema, self._settings)
            )
        kind = answer.body.get("error", {}).get("type")
        if kind and kind != "resource_already_exists_exception":
            raise health.refused_index(index, answer.body["error"])
        return await self._checked_index(name, schema)

    async def open(self, name: str, schema: IndexSchema) -> ElasticsearchIndex:
        known, at = self._checked.get(name, (None, 0.0))
        if known == schema and time.monotonic() - at < CHECKED_FOR_S:
            return self._index(await self._connect(), name, schema)
        return await self._checked_index(name, schema)

    async def drop(self, name: str) -> None:
        self._checked.pop(name, None)
        client = await self._connect()
        with translated(self._prefixed(name)):
            await client.indices.delete(index=self._prefixed(name), ignore_unavailable=True)

    async def names(self) -> list[str]:
        client = await self._connect()
        with translated("store"):
            found = await client.indices.get_mapping(index=self._prefixed(OURS))
        prefix = len(self._settings.prefix)
        return sorted(
            name[prefix:] for name, index in found.body.items() if stored_schema(index["mappings"])
        )

    async def alias(self, alias: str, name: str) -> None:
        client = await self._connect()
        index, alias = self._prefixed(name), self._prefixed(alias)
        others = {"index": self._prefixed(OURS), "alias": alias, "must_exist": False}
        with translated(index):
            await client.indices.update_aliases(
                actions=[{"remove": others}, {"add": {"index": index, "alias": alias}}]
            )

    async def aliased(self, alias: str) -> str | None:
        from elasticsearch import NotFoundError as NoAlias

        client = await self._connect()
        with translated("store"):
            try:
                found = await client.indices.get_alias(name=self._prefixed(alias))
            except NoAlias:
                return None
        names = sorted(found.body)
        return names[0][len(self._settings.prefix) :] if names else None

    async def snapshots(self, repository: str) -> ElasticsearchSnapshots:
        return ElasticsearchSnapshots(await self._connect(), repository, self._settings.prefix)

    async def problems(self) -> list[str]:
        """Of the cluster and of our indexes; an unreachable cluster is one problem."""
        try:
            client = await self._connect()
            ours = self._prefixed(OURS)
            with translated(ours):
                cluster, indexes, nodes, settings, blocks = await asyncio.gather(
                    client.cluster.health(),
                    client.cluster.health(index=ours, level="indices"),
                    client.nodes.stats(metric=["fs", "jvm"]),
                    client.cluster.get_settings(include_defaults=True, flat_settings=True),
                    client.indices.get_settings(
                        index=ours, name="index.blocks.*", flat_settings=True
                    ),
                )
        except (ConfigError, IndexUnavailable, NotFoundError) as error:
            return [error.message]
        return [
            *health.cluster_problems(cluster.body, indexes.body),
            *health.node_problems(nodes.body, health.cluster_settings(settings.body)),
            *health.block_problems(blocks.body),
        ]

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _prefixed(self, name: str) -> str:
        return self._settings.prefix + name

    def _index(
        self, client: "AsyncElasticsearch", name: str, schema: IndexSchema
    ) -> ElasticsearchIndex:
        return ElasticsearchIndex(client, self._prefixed(name), schema, self._settings)

    async def _checked_index(self, name: str, schema: IndexSchema) -> ElasticsearchIndex:
        client = await self._connect()
        index = self._prefixed(name)
        with translated(index):
            found = await client.indices.get_mapping(index=index)
        built = stored_schema(found.body.get(index, {}).get("mappings", {}))
        if mismatch := mapping.difference(index, built, schema):
            raise IndexSchemaMismatch(mismatch)
        self._checked[name] = (schema, time.monotonic())
        return self._index(client, name, schema)

    async def _connect(self) -> "AsyncElasticsearch":
        async with self._connecting:
            if self._client is None:
                # Importing the client takes half a second: not while the event loop waits.
                await asyncio.to_thread(__import__, "elasticsearch")
                self._client = new_client(self._settings)
            return self._client


def new_client(settings: IndexSettings) -> "AsyncElasticsearch":
    """A client that has not connected yet. Raises ConfigError for addresses that can't be ones."""
    from elasticsearch import AsyncElasticsearch, OrjsonSerializer

    try:
        return AsyncElasticsearch(
            **connection(settings),
            request_timeout=settings.write_timeout_s,
            # Every write of ours may be sent twice: ids are our own. A timeout is not tried again.
            max_retries=2,
            retry_on_status=(502, 504),
            # Halves the time of writes, against the standard library's JSON.
            serializers={"application/json": OrjsonSerializer()},
        )
    except (ValueError, OSError) as error:
        # Without its message: that may quote a part of the address which is the password.
        raise ConfigError(
            "Elasticsearch's settings are not right. KB_INDEX__URL must be like"
            " https://user:password@host:9200, several nodes with commas, without user and password"
            " where KB_INDEX__API_KEY is set; KB_INDEX__CA_CERTS must be a file with certificates."
        ) from error


def connection(settings: IndexSettings) -> Mapping[str, Any]:
    """How the client reaches and convinces the cluster. Raises ConfigError without an address."""
    nodes = [url for part in settings.url.get_secret_value().split(",") if (url := part.strip())]
    strange = [url for url in nodes if not url.startswith(("http://", "https://"))]
    if strange:
        # Without the address: it may hold a password.
        raise ConfigError(
            "KB_INDEX__URL must begin with http:// or https://, each of several nodes of it."
        )
    if not nodes:
        raise ConfigError(
            "index.kind is elasticsearch, but index.url names no server."
            " Set KB_INDEX__URL, for example to https://user:password@host:9200."
        )
    options: dict[str, Any] = {"hosts": nodes}
    if key := settings.api_key.get_secret_value():
        options["api_key"] = key
    if settings.ca_certs is not None:
        options["ca_certs"] = str(settings.ca_certs)
    if any(url.startswith("https:") for url in nodes) and not settings.verify_certs:
        options |= {"verify_certs": False, "ssl_show_warn": False}
    return options
