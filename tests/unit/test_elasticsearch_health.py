"""What a cluster's reports become for a person."""

from typing import Any

import pytest

from retrieval import elasticsearch_health as health

GIB = 2**30


def _nodes(heap: int, free: int, total: int = 1000) -> dict[str, Any]:
    disk = {"total_in_bytes": total * GIB, "available_in_bytes": free * GIB}
    node = {"name": "n1", "jvm": {"mem": {"heap_used_percent": heap}}, "fs": {"total": disk}}
    return {"nodes": {"x": node}}


def test_red_indexes_are_named() -> None:
    indexes = {"indices": {"kb-a-1": {"status": "red"}, "kb-a-2": {"status": "yellow"}}}
    (problem,) = health.cluster_problems({"status": "red"}, indexes)
    assert "kb-a-1." in problem
    assert "kb-a-2" not in problem
    (problem,) = health.cluster_problems({"status": "red"}, {"indices": {}})
    assert "not for indexes of ours" in problem
    assert list(health.cluster_problems({"status": "yellow"}, {"indices": {}})) == []


def test_a_full_heap_and_a_full_disk() -> None:
    assert list(health.node_problems(_nodes(90, 500), {})) == []
    (problem,) = health.node_problems(_nodes(91, 500), {})
    assert "91% full" in problem
    (problem,) = health.node_problems(_nodes(50, 99), {})
    assert "99.0 GiB free of 1000.0" in problem
    off = {"cluster.routing.allocation.disk.threshold_enabled": "false"}
    assert list(health.node_problems(_nodes(50, 1), off)) == []


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({}, 100),
        ({"high": "85%"}, 150),
        ({"high": "0.95"}, 50),
        ({"high": "30gb"}, 30),
        ({"high": "90%", "high.max_headroom": "80gb"}, 80),
        ({"high": "90%", "high.max_headroom": "150gb"}, 100),
        ({"high": "90%", "high.max_headroom": "-1"}, 100),
    ],
)
def test_watermarks_are_shares_or_sizes(settings: dict[str, str], least: float) -> None:
    flat = {f"{health.WATERMARKS}.{name}": value for name, value in settings.items()}
    assert health.least_free(1000 * GIB, flat, "high") / GIB == pytest.approx(least)


def test_sizes() -> None:
    sizes = ["1b", "1.5kb", "2MB", "1tb"]
    assert [health.size_of(size) for size in sizes] == [1, 1536, 2**21, 2**40]


def test_settings_in_force() -> None:
    given = {"defaults": {"a": 1, "b": 1, "c": 1}, "persistent": {"b": 2, "c": 2}}
    assert health.cluster_settings({**given, "transient": {"c": 3}}) == {"a": 1, "b": 2, "c": 3}


def test_blocks() -> None:
    def problems(**blocks: str) -> list[str]:
        flat = {f"index.blocks.{name}": value for name, value in blocks.items()}
        return list(health.block_problems({"kb-a-1": {"settings": flat}}))

    assert problems() == problems(write="false") == []
    assert "Free space" in problems(read_only_allow_delete="true")[0]
    assert "kb-a-1 is blocked: index.blocks.write" in problems(write="true")[0]
