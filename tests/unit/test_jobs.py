"""Lines of cron, read as cron reads them."""

from datetime import UTC, datetime

import pytest

from kb.errors import ConfigError
from serving.jobs import cron_trigger, zone_of

SUNDAY = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize("line", ["0 2 * * 0", "0 2 * * 7", "0 2 * * sun", "0 2 * * 0-0"])
def test_days_are_counted_from_sunday(line: str) -> None:
    due = cron_trigger(line, UTC).get_next_fire_time(None, SUNDAY)
    assert due == datetime(2026, 11, 22, 2, tzinfo=UTC)


def test_ranges_and_steps_of_days() -> None:
    trigger = cron_trigger("30 */6 * * 1-5", UTC)
    assert trigger.get_next_fire_time(None, SUNDAY) == datetime(2026, 11, 23, 0, 30, tzinfo=UTC)
    assert cron_trigger("0 2 * * */2", UTC).get_next_fire_time(None, SUNDAY)


@pytest.mark.parametrize(
    "line", ["", "2", "0 2 * *", "0 25 * * *", "0 2 * * 9", "at two o'clock x y"]
)
def test_what_is_no_time_is_said(line: str) -> None:
    with pytest.raises(ConfigError, match="is no time as cron knows it"):
        cron_trigger(line, UTC)


def test_what_is_no_zone_is_said() -> None:
    with pytest.raises(ConfigError, match="Mars/Crater"):
        zone_of("Mars/Crater")
