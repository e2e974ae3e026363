"""What a cluster's own reports say is wrong, as sentences that say what to do. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kb.errors import KBError
from retrieval.elasticsearch_errors import DISK_FULL, READ_ONLY, api_error

HEAP_LIMIT: Final = 90
"""Per cent of the Java heap in use beyond which requests are about to be refused."""

WATERMARKS: Final = "cluster.routing.allocation.disk.watermark"
_UNITS: Final = {"kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40, "pb": 2**50, "b": 1}

Report = Mapping[str, Any]


def refused_index(name: str, error: Report) -> KBError:
    return api_error(400, error, name)


def cluster_problems(cluster: Report, indexes: Report) -> Iterator[str]:
    """From `_cluster/health`, of everything and of our indexes."""
    red = sorted(name for name, index in indexes["indices"].items() if index["status"] == "red")
    if red:
        yield (
            f"Indexes with primary shards that no node holds: {', '.join(red)}. What is in them can't be"
            " searched. GET _cluster/allocation/explain tells why: start the missing node, or make the"
            " index anew with `kb reindex`."
        )
    elif cluster["status"] == "red":
        yield (
            "Elasticsearch's status is red, though not for indexes of ours. GET _cluster/allocation/explain"
            " tells why."
        )


def cluster_settings(settings: Report) -> dict[str, Any]:
    """From `_cluster/settings` with defaults: what is in force, flat."""
    return {
        **settings.get("defaults", {}),
        **settings.get("persistent", {}),
        **settings.get("transient", {}),
    }


def node_problems(nodes: Report, settings: Report) -> Iterator[str]:
    """From `_nodes/stats` of fs and jvm."""
    for node in nodes["nodes"].values():
        heap = node["jvm"]["mem"]["heap_used_percent"]
        if heap > HEAP_LIMIT:
            yield (
                f"The Java heap of Elasticsearch's node {node['name']} is {heap}% full: it may refuse"
                " requests. Give it more memory (-Xmx), or send it fewer requests at once."
            )
        disk = node["fs"]["total"]
        total, free = disk["total_in_bytes"], disk["available_in_bytes"]
        if settings.get("cluster.routing.allocation.disk.threshold_enabled") == "false":
            continue
        if free < least_free(total, settings, "high"):
            yield (
                f"The disk of Elasticsearch's node {node['name']} has {free / 2**30:.1f} GiB free of"
                f" {total / 2**30:.1f}, which is beyond the high watermark: it gets no new shards, and at"
                " the flood stage its indexes take no more writes. Free space or add a node."
            )


def least_free(total: float, settings: Report, stage: str) -> float:
    """Bytes that must be free on a disk of `total` bytes for a watermark not to be exceeded."""
    mark = str(settings.get(f"{WATERMARKS}.{stage}", "90%"))
    if mark[-1] in "bB":
        return size_of(mark)
    share = float(mark[:-1]) / 100 if mark.endswith("%") else float(mark)
    free = total * (1 - share)
    headroom = str(settings.get(f"{WATERMARKS}.{stage}.max_headroom", "-1"))
    return min(free, size_of(headroom)) if headroom[-1] in "bB" else free


def size_of(text: str) -> float:
    """ "1.5gb" as bytes, in Elasticsearch's units (powers of 1,024)."""
    text = text.lower()
    unit = next(unit for unit in _UNITS if text.endswith(unit))
    return float(text.removesuffix(unit)) * _UNITS[unit]


def block_problems(indexes: Report) -> Iterator[str]:
    """From our indexes' settings `index.blocks.*`, flat."""
    for name, index in sorted(indexes.items()):
        blocks = {key for key, value in index["settings"].items() if str(value) == "true"}
        if "index.blocks.read_only_allow_delete" in blocks:
            yield DISK_FULL.format(name=name)
        elif blocks:
            yield READ_ONLY.format(name=name, reason=", ".join(sorted(blocks)))
