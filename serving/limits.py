"""How much one key may ask: so often a minute, and so many at a time.

Rates are counted in Redis where one is set, so that several servers share them, else in this process.
What goes on at this moment is counted by each server for itself.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import time
from typing import Any

import structlog
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from kb.errors import TooManyRequests
from kb.metrics import LIMITED
from kb.settings import LimitsSettings
from serving.redis_pool import redis_pool

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key may still ask. `resets_s`: whole seconds until it may ask once more than now."""

    limit: int
    remaining: int
    resets_s: int


class Limits:
    """Of one server. Raises ConfigError for a Redis address that can't be one."""

    def __init__(self, settings: LimitsSettings) -> None:
        self._rate: RateLimitItem | None = (
            RateLimitItemPerMinute(settings.requests_per_minute)
            if settings.requests_per_minute
            else None
        )
        self._at_once = settings.concurrent_requests
        self._going_on: Counter[str] = Counter()
        self._here = MovingWindowRateLimiter(MemoryStorage())
        redis = settings.redis_url.get_secret_value()
        self._pool = redis_pool(redis, "KB_LIMITS__REDIS_URL") if redis else None
        self._shared = MovingWindowRateLimiter(_redis(redis, self._pool)) if self._pool else None

    async def count(self, key_id: str) -> Allowance | None:
        """One request more of this key; None where rates are not limited. Raises TooManyRequests."""
        if self._rate is None:
            return None
        allowed, allowance = await self._counted(self._rate, key_id)
        if not allowed:
            LIMITED.labels("rate").inc()
            raise TooManyRequests(
                f"This API key may ask {allowance.limit} times a minute. Try again in"
                f" {allowance.resets_s} s.",
                allowance.resets_s,
            )
        return allowance

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """Held as long as a request of this key goes on. Raises TooManyRequests."""
        if self._at_once and self._going_on[key_id] >= self._at_once:
            LIMITED.labels("concurrency").inc()
            raise TooManyRequests(
                f"{self._at_once} requests of this API key go on already, which is the most at a"
                " time. Wait for one of them to end.",
                1,
            )
        self._going_on[key_id] += 1
        try:
            yield
        finally:
            self._going_on[key_id] -= 1
            if not self._going_on[key_id]:
                del self._going_on[key_id]

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.disconnect()

    async def _counted(self, rate: RateLimitItem, key_id: str) -> tuple[bool, Allowance]:
        """Without its Redis a server counts for itself: better than nobody or everybody let in."""
        if self._shared is not None:
            try:
                return await _hit(self._shared, rate, key_id)
            except StorageError as error:
                log.warning("shared_limits_unavailable", reason=str(error))
                LIMITED.labels("redis_unavailable").inc()
        return await _hit(self._here, rate, key_id)


async def _hit(
    limiter: MovingWindowRateLimiter, rate: RateLimitItem, key_id: str
) -> tuple[bool, Allowance]:
    allowed = await limiter.hit(rate, key_id)
    window = await limiter.get_window_stats(rate, key_id)
    resets_s = max(1, round(window.reset_time - time()))
    return allowed, Allowance(rate.amount, max(0, window.remaining), resets_s)


def _redis(url: str, pool: Any) -> Storage:
    storage = storage_from_string(
        f"async+{url}",
        implementation="redispy",
        wrap_exceptions=True,
        key_prefix="kb-limits",
        connection_pool=pool,
    )
    assert isinstance(storage, Storage)
    return storage
