"""What the routes of administrators may tell a key: a part of the table in rights_rules.py.

A key that is limited to collections administers those; of all else it is told what it would be told were it
not there. What concerns the whole server is refused to it, as to every other key.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from kb.types import Scope
from tests.integration.rights_world import NO_COLLECTION, NO_ID, Reader, refused

Rule = Callable[[Reader], Awaitable[None]]
Things = Callable[[Reader], Awaitable[list[tuple[str, str]]]]
"""Collection and id of what there is."""


def whole_server(method: str, path: str, **given: Any) -> Rule:
    """Only for keys that administer everything; asked for nothing that would change anything."""

    async def rule(reader: Reader) -> None:
        if reader.key.runs_the_server:
            response = await reader.ask(method, path, **given)
            assert response.status_code in (200, 400, 404, 409), response.text
        else:
            await refused(reader, method, path, **given)

    return rule


def one_of(method: str, path: str, things: Things) -> Rule:
    async def rule(reader: Reader) -> None:
        if not _administers(reader):
            await refused(reader, method, path.format(NO_ID), json={})
            return
        for collection, thing in await things(reader):
            if not reader.key.access.may_read(collection):
                await reader.same(method, path, thing, NO_ID, **_empty(method))
            elif method == "GET":
                assert (await reader.ask(method, path.format(thing))).status_code == 200

    return rule


def of_collection(method: str, path: str, status: int = 200, **others: Any) -> Rule:
    """Routes that name a collection in their body, or in their query."""
    where = "params" if method == "GET" else "json"

    async def rule(reader: Reader) -> None:
        given: dict[str, Any] = {where: {"collection": "{}"} | others}
        if not _administers(reader):
            await refused(reader, method, path, **given)
            return
        for hidden in reader.hidden_collections():
            await reader.same(method, path, hidden, NO_COLLECTION, **given)
        for collection in reader.world.collections() - reader.hidden_collections():
            if status:
                asked: dict[str, Any] = {where: {"collection": collection} | others}
                response = await reader.ask(method, path, **asked)
                assert response.status_code == status, response.text

    return rule


def listed(path: str, shown: Callable[[dict[str, Any]], str | None]) -> Rule:
    """A list of what is in the collections that the key administers, and of nothing else."""

    async def rule(reader: Reader) -> None:
        if not _administers(reader):
            await refused(reader, "GET", path)
            return
        response = await reader.ask("GET", path)
        assert response.status_code == 200
        collections = {shown(each) for each in response.json()["data"]}
        assert collections <= reader.world.collections() - reader.hidden_collections()
        for hidden in reader.hidden_collections():
            named = {"collection": "{}"}
            await reader.same("GET", path, hidden, NO_COLLECTION, params=named)

    return rule


async def make_collection(reader: Reader) -> None:
    path, body = "/v1/admin/collections", {"name": "{}"}
    if not _administers(reader):
        await refused(reader, "POST", path, json=body)
        return
    for hidden in reader.hidden_collections():
        await reader.same("POST", path, hidden, NO_COLLECTION, json=body)


async def drop_collection(reader: Reader) -> None:
    path = "/v1/admin/collections/{}"
    if not _administers(reader):
        await refused(reader, "DELETE", path.format(NO_COLLECTION))
        return
    for hidden in reader.hidden_collections():
        await reader.same("DELETE", path, hidden, NO_COLLECTION)


async def doctor(reader: Reader) -> None:
    if not _administers(reader):
        await refused(reader, "GET", "/v1/admin/doctor")
        return
    looked_at = (await reader.ask("GET", "/v1/admin/doctor")).json()["data"]
    parts = {finding["part"] for finding in looked_at}
    there = reader.world.collections() - reader.hidden_collections()
    assert {f"collection {name}" for name in there} <= parts
    assert ("embedder" in parts) == reader.key.runs_the_server


async def runs(reader: Reader) -> list[tuple[str, str]]:
    return [(reader.world.placed[0].plan.collection, reader.world.run_id)]


async def sources(reader: Reader) -> list[tuple[str, str]]:
    return [(each.collection, each.id) for each in await reader.world.services.catalog.sources()]


async def documents(reader: Reader) -> list[tuple[str, str]]:
    return [(placed.plan.collection, placed.id) for placed in reader.world.placed]


def _administers(reader: Reader) -> bool:
    return Scope.ADMIN in reader.key.scopes


def _empty(method: str) -> dict[str, Any]:
    return {"json": {}} if method in ("POST", "PATCH") else {}


def _collection(each: dict[str, Any]) -> str | None:
    found: str | None = each["collection"]
    return found


def _name(each: dict[str, Any]) -> str:
    return str(each["name"])


ADMIN = "/v1/admin"
RUN, SOURCE = f"{ADMIN}/runs/{{}}", f"{ADMIN}/sources/{{}}"
ADMIN_RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/v1/admin/collections"): listed(f"{ADMIN}/collections", _name),
    ("POST", "/v1/admin/collections"): make_collection,
    ("DELETE", "/v1/admin/collections/{name}"): drop_collection,
    ("GET", "/v1/admin/feedback"): of_collection("GET", f"{ADMIN}/feedback"),
    ("GET", "/v1/admin/sources"): listed(f"{ADMIN}/sources", _collection),
    ("POST", "/v1/admin/sources"): whole_server("POST", f"{ADMIN}/sources", json={}),
    ("GET", "/v1/admin/sources/{source_id}"): one_of("GET", SOURCE, sources),
    ("PATCH", "/v1/admin/sources/{source_id}"): one_of("PATCH", SOURCE, sources),
    ("DELETE", "/v1/admin/sources/{source_id}"): one_of("DELETE", SOURCE, sources),
    ("POST", "/v1/admin/sources/{source_id}/sync"): one_of("POST", f"{SOURCE}/sync", sources),
    ("POST", "/v1/admin/sync"): of_collection("POST", f"{ADMIN}/sync", 202),
    ("POST", "/v1/admin/documents/{document_id}/retry"): one_of(
        "POST", f"{ADMIN}/documents/{{}}/retry", documents
    ),
    ("GET", "/v1/admin/runs"): listed(f"{ADMIN}/runs", _collection),
    ("GET", "/v1/admin/runs/{run_id}"): one_of("GET", RUN, runs),
    ("GET", "/v1/admin/runs/{run_id}/events"): one_of("GET", f"{RUN}/events", runs),
    ("POST", "/v1/admin/runs/{run_id}/cancel"): one_of("POST", f"{RUN}/cancel", runs),
    ("GET", "/v1/admin/generations"): of_collection("GET", f"{ADMIN}/generations"),
    ("POST", "/v1/admin/generations/prune"): of_collection("POST", f"{ADMIN}/generations/prune"),
    ("POST", "/v1/admin/reindex"): of_collection("POST", f"{ADMIN}/reindex", dry_run=True),
    ("POST", "/v1/admin/evaluate"): of_collection("POST", f"{ADMIN}/evaluate", 202),
    ("POST", "/v1/admin/rollback"): of_collection("POST", f"{ADMIN}/rollback", 404),
    ("GET", "/v1/admin/doctor"): doctor,
    ("POST", "/v1/admin/doctor/repair"): of_collection("POST", f"{ADMIN}/doctor/repair", 202),
    ("GET", "/v1/admin/keys"): whole_server("GET", f"{ADMIN}/keys"),
    ("POST", "/v1/admin/keys"): whole_server("POST", f"{ADMIN}/keys", json={"name": ""}),
    ("POST", "/v1/admin/keys/{key_id}/rotate"): whole_server("POST", f"{ADMIN}/keys/x/rotate"),
    ("DELETE", "/v1/admin/keys/{key_id}"): whole_server("DELETE", f"{ADMIN}/keys/x"),
    ("GET", "/v1/admin/backups"): whole_server("GET", f"{ADMIN}/backups"),
    ("POST", "/v1/admin/backups"): whole_server("POST", f"{ADMIN}/backups"),
    ("POST", "/v1/admin/backups/{name}/verify"): whole_server("POST", f"{ADMIN}/backups/x/verify"),
    ("GET", "/v1/admin/configuration"): whole_server("GET", f"{ADMIN}/configuration"),
}
