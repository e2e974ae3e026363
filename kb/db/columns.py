"""Column types that give the same values back on SQLite and on PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import JSON, DateTime, Dialect, Enum, Text
from sqlalchemy.types import TypeDecorator

NOT_STORABLE = dict.fromkeys((0, *range(0xD800, 0xE000)), "\N{REPLACEMENT CHARACTER}")
"""NUL and lone surrogates, which broken documents and file names contain and databases refuse."""


class CleanText(TypeDecorator[str]):
    """Text for people to read: what no database can store becomes U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.translate(NOT_STORABLE)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware times in, aware UTC times out. SQLite has no time zones, so UTC is stored there."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Strings(TypeDecorator[tuple[str, ...]]):
    """A short tuple of strings, as a JSON array. JSON escapes what plain text columns refuse."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> list[str]:
        return list(value or ())

    def process_result_value(self, value: list[str] | None, dialect: Dialect) -> tuple[str, ...]:
        return tuple(value or ())


def one_of(members: type[StrEnum]) -> Enum:
    """A string column for an enumeration's values.

    No database type and no check constraint, so a new member needs no migration.
    """
    return Enum(
        members,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda kind: [member.value for member in kind],
    )
