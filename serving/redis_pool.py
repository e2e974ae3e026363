"""Connections to a Redis, opened with the first command, for whoever has one in their settings."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from kb.errors import ConfigError

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

REDIS_TIMEOUT_S: Final = 0.5
"""A Redis that is slow must not hold questions up longer."""


def redis_pool(url: str, variable: str) -> "ConnectionPool":
    """`variable` is the setting that the URL is from. Raises ConfigError, which never repeats the URL."""
    if find_spec("redis") is None:
        raise ConfigError(
            f"{variable} is set, but the client for Redis is missing. Install the extra:"
            " pip install 'kb-server[redis]'"
        )
    from redis.asyncio import ConnectionPool

    try:
        return ConnectionPool.from_url(
            url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )
    except ValueError as error:
        # Without its message: that may quote the password.
        raise ConfigError(
            f"{variable} can't be used. It must be like redis://:password@host:6379/0."
        ) from error
