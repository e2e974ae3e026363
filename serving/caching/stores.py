"""Where kept values lie: in this process, or in a Redis that servers share."""

from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from cachetools import TTLCache

from kb.settings import CacheSettings
from serving.redis_pool import redis_pool

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

ENTRY_BYTES: Final = 400
"""Of a value in this process, beside its own bytes: key, objects, places in the table."""
PAUSE_S: Final = 2.0
"""For so long a Redis that failed is not asked: a question must not wait for it again and again."""
REDIS_PREFIX: Final = "kb-cache:"

log = structlog.get_logger(__name__)


class StoreUnavailable(Exception):
    """Nothing can be read or kept now; what is asked for is worked out instead."""


class Store(Protocol):
    """Values by key for a limited time. Both methods raise StoreUnavailable."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes) -> None:
        """Twice: the later value stays. One that is too large is not kept."""
        ...

    async def close(self) -> None: ...


class MemoryStore:
    """Implements `Store`. Beyond `size` bytes what was not used for longest goes."""

    def __init__(self, size: int, ttl_s: float) -> None:
        self._kept: TTLCache[str, bytes] = TTLCache(size, ttl_s, getsizeof=_weight)

    async def get(self, key: str) -> bytes | None:
        return self._kept.get(key)

    async def put(self, key: str, value: bytes) -> None:
        if _weight(value) <= self._kept.maxsize:
            self._kept[key] = value

    async def close(self) -> None:
        self._kept.clear()


def _weight(value: bytes) -> int:
    return len(value) + ENTRY_BYTES


class RedisStore:
    """Implements `Store`. How much is kept is the server's to limit (its `maxmemory`)."""

    def __init__(self, pool: "ConnectionPool", ttl_s: float, pause_s: float = PAUSE_S) -> None:
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        self._pool = pool
        self._redis = Redis(connection_pool=pool)
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._failures = (RedisError, OSError)
        self._pause_s = pause_s
        self._asked_again_at = 0.0

    async def get(self, key: str) -> bytes | None:
        self._check()
        try:
            value = await self._redis.get(REDIS_PREFIX + key)
        except self._failures as error:
            raise self._unavailable(error) from error
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes) -> None:
        self._check()
        try:
            await self._redis.set(REDIS_PREFIX + key, value, px=self._ttl_ms)
        except self._failures as error:
            raise self._unavailable(error) from error

    async def close(self) -> None:
        await self._pool.disconnect()

    def _check(self) -> None:
        if monotonic() < self._asked_again_at:
            raise StoreUnavailable

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        log.warning("cache_unavailable", reason=str(error))
        self._asked_again_at = monotonic() + self._pause_s
        return StoreUnavailable()


def open_store(settings: CacheSettings) -> Store | None:
    """None where nothing is to be kept. Nothing is connected to yet. Raises ConfigError."""
    if not settings.ttl_s:
        return None
    if url := settings.redis_url.get_secret_value():
        return RedisStore(redis_pool(url, "KB_CACHE__REDIS_URL"), settings.ttl_s)
    return MemoryStore(settings.size_mb << 20, settings.ttl_s) if settings.size_mb else None
