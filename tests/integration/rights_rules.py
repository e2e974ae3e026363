"""What each route may tell a key: one rule for every route, in a table.

A route without a rule fails tests/integration/test_rights.py. To add one, write an async function over
a `Reader` and enter it in `RULES`; `Reader.ask` looks for leaks by itself, `Reader.same` compares what is
hidden with what is not there. `admin_only` is a whole rule for routes of administrators.
"""

import json
from typing import Any

from kb.types import Scope
from tests.integration.admin_rules import ADMIN_RULES, Rule
from tests.integration.rights_world import NO_COLLECTION, NO_ID, Reader
from tests.integration.rights_world import refused as _refused

QUESTION = "What is the code of the vault?"


async def search(reader: Reader) -> None:
    if not reader.key.may(Scope.QUERY):
        await _refused(reader, "POST", "/v1/search", json={"query": QUESTION})
        return
    for collection in reader.world.collections() - reader.hidden_collections():
        for question in (QUESTION, *(f"code {p.word}" for p in reader.world.placed)):
            asked = question.rpartition(" ")[2]
            body = {"query": question, "collection": collection, "limit": 50}
            found = (await reader.ask("POST", "/v1/search", asked=asked, json=body)).json()["data"]
            # Their words show too: a hit of a hidden text would name its document, which `ask` sees.
            uris = {uri for hit in found for uri in (hit["uri"], *hit["also_at"])}
            readable = {p.name for p in reader.readable() if p.plan.collection == collection}
            assert {uri.rpartition("/")[2].removesuffix(".txt") for uri in uris} == readable
    for hidden in reader.hidden_collections():
        body = {"query": QUESTION, "collection": "{}"}
        await reader.same("POST", "/v1/search", hidden, NO_COLLECTION, json=body)


async def chat(reader: Reader) -> None:
    path = "/v1/chat/completions"
    body: dict[str, Any] = {"model": "kb", "messages": [{"role": "user", "content": QUESTION}]}
    if not reader.key.may(Scope.QUERY):
        await _refused(reader, "POST", path, json=body)
        return
    for collection in reader.world.collections() - reader.hidden_collections():
        readable = {p.id for p in reader.readable() if p.plan.collection == collection}
        whole = (await reader.ask("POST", path, json=body | {"model": f"kb/{collection}"})).json()
        streamed = await reader.ask(
            "POST", path, json=body | {"model": f"kb/{collection}", "stream": True}
        )
        last = [line[6:] for line in streamed.text.splitlines() if line.startswith("data: {")][-1]
        for answer in (whole, json.loads(last)):
            cited = {citation["document_id"] for citation in answer["citations"]}
            assert cited <= readable
            assert bool(cited) == bool(readable)
    for hidden in reader.hidden_collections():
        for stream in (False, True):
            asked = body | {"model": "kb/{}", "stream": stream}
            await reader.same("POST", path, hidden, NO_COLLECTION, json=asked)


async def own_key(reader: Reader) -> None:
    told = (await reader.ask("GET", "/v1/key")).json()
    assert tuple(told["scopes"]) == tuple(sorted(reader.key.scopes))
    assert tuple(told["collections"]) == reader.key.collections
    assert told["runs_server"] == reader.key.runs_the_server


async def feedback(reader: Reader) -> None:
    path = "/v1/feedback"
    body = {"answer_id": "chatcmpl-1", "question": QUESTION, "answer": "", "rating": "up"}
    if not reader.key.may(Scope.QUERY):
        await _refused(reader, "POST", path, json=body)
        return
    for collection in reader.world.collections() - reader.hidden_collections():
        given = await reader.ask("POST", path, json=body | {"collection": collection})
        assert given.status_code == 201
    for hidden in reader.hidden_collections():
        asked = body | {"collection": "{}"}
        await reader.same("POST", path, hidden, NO_COLLECTION, json=asked)


async def list_documents(reader: Reader) -> None:
    if not (reader.key.may(Scope.QUERY) or reader.key.may(Scope.INGEST)):
        await _refused(reader, "GET", "/v1/documents")
        return
    listed: list[str] = []
    after: dict[str, str] = {}
    while True:  # By single pages: their number and ends tell nothing either.
        params = {"limit": "1"} | after
        page = (await reader.ask("GET", "/v1/documents", params=params)).json()
        listed += [document["id"] for document in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert sorted(listed) == sorted(p.id for p in reader.readable())
    for hidden in reader.hidden_collections():
        params = {"collection": "{}"}
        await reader.same("GET", "/v1/documents", hidden, NO_COLLECTION, params=params)


def one_document(method: str, path: str, *scopes: Scope) -> Rule:
    """For keys with one of the scopes."""

    async def rule(reader: Reader) -> None:
        if not any(map(reader.key.may, scopes)):
            for placed in reader.world.placed:
                await _refused(reader, method, path.format(placed.id), asked=placed.id)
            return
        for placed in reader.hidden():
            await reader.same(method, path, placed.id, NO_ID)
        if method == "GET":
            for placed in reader.readable():
                response = await reader.ask(method, path.format(placed.id))
                assert response.status_code == 200

    return rule


async def upload(reader: Reader) -> None:
    """Only what is refused: whether to a hidden collection or to none, for a real group or for none."""
    file = {"file": ("x.md", b"x")}
    if not reader.key.may(Scope.INGEST):
        await _refused(reader, "POST", "/v1/documents", files=file)
        return
    for hidden in reader.hidden_collections():
        form = {"collection": "{}"}
        await reader.same("POST", "/v1/documents", hidden, NO_COLLECTION, files=file, data=form)
    for group in {group for p in reader.world.placed for group in p.plan.groups}:
        if Scope.ADMIN not in reader.key.scopes and group not in reader.key.groups:
            form = {"groups": "{}"}
            if not reader.key.collections:
                await reader.same("POST", "/v1/documents", group, "nobody", files=file, data=form)


async def models(reader: Reader) -> None:
    if not reader.key.may(Scope.QUERY):
        await _refused(reader, "GET", "/v1/models")
        return
    listed = (await reader.ask("GET", "/v1/models")).json()["data"]
    names = {model["id"].removeprefix("kb/").replace("kb", "default") for model in listed}
    assert names == reader.world.collections() - reader.hidden_collections()


async def one_model(reader: Reader) -> None:
    if not reader.key.may(Scope.QUERY):
        await _refused(reader, "GET", "/v1/models/kb")
        return
    for hidden in reader.hidden_collections():
        await reader.same("GET", "/v1/models/kb/{}", hidden, NO_COLLECTION)


async def embeddings(reader: Reader) -> None:
    await reader.ask("POST", "/v1/embeddings", json={"model": "kb-embedding", "input": "a"})
    await reader.ask("POST", "/v1/embeddings", json={"model": "other", "input": "a"})


async def metrics(reader: Reader) -> None:
    if reader.key.may(Scope.METRICS):
        # Names of collections are for whoever reads the figures; of documents there are none.
        assert (await reader.ask("GET", "/metrics")).status_code == 200
    else:
        await _refused(reader, "GET", "/metrics")


def told_to_everybody(method: str, path: str) -> Rule:
    """What needs no key, and says nothing of what is inside (`Reader.ask` sees to that)."""

    async def rule(reader: Reader) -> None:
        assert (await reader.ask(method, path)).status_code == 200

    return rule


def own_run(path: str) -> Rule:
    """Of a run that no key asked for: an administrator's to see, and as if it were not there to others."""

    async def rule(reader: Reader) -> None:
        run_id = reader.world.run_id
        if not reader.key.may(Scope.INGEST):
            await _refused(reader, "GET", path.format(run_id), asked=run_id)
        elif Scope.ADMIN in reader.key.scopes and reader.key.access.may_read(_first(reader)):
            assert (await reader.ask("GET", path.format(run_id))).status_code == 200
        else:
            await reader.same("GET", path, run_id, NO_ID)

    return rule


def _first(reader: Reader) -> str:
    return reader.world.placed[0].plan.collection


DOCUMENT = "/v1/documents/{}"
RULES: dict[tuple[str, str], Rule] = {
    ("POST", "/v1/search"): search,
    ("POST", "/v1/chat/completions"): chat,
    ("POST", "/v1/embeddings"): embeddings,
    ("POST", "/v1/feedback"): feedback,
    ("GET", "/v1/key"): own_key,
    ("GET", "/v1/models"): models,
    ("GET", "/v1/models/{model:path}"): one_model,
    ("GET", "/v1/documents"): list_documents,
    ("POST", "/v1/documents"): upload,
    ("GET", "/v1/documents/{document_id}"): one_document(
        "GET", DOCUMENT, Scope.QUERY, Scope.INGEST
    ),
    ("GET", "/v1/documents/{document_id}/status"): one_document(
        "GET", f"{DOCUMENT}/status", Scope.QUERY, Scope.INGEST
    ),
    ("GET", "/v1/documents/{document_id}/chunks"): one_document(
        "GET", f"{DOCUMENT}/chunks", Scope.QUERY
    ),
    ("DELETE", "/v1/documents/{document_id}"): one_document("DELETE", DOCUMENT, Scope.INGEST),
    ("GET", "/documents/{document_id}"): one_document("GET", "/documents/{}", Scope.QUERY),
    ("GET", "/v1/runs/{run_id}"): own_run("/v1/runs/{}"),
    ("GET", "/v1/runs/{run_id}/events"): own_run("/v1/runs/{}/events"),
    **ADMIN_RULES,
    ("GET", "/metrics"): metrics,
    ("GET", "/readyz"): told_to_everybody("GET", "/readyz"),
    ("GET", "/healthz"): told_to_everybody("GET", "/healthz"),
    ("GET", "/openapi.json"): told_to_everybody("GET", "/openapi.json"),
    ("GET", "/"): told_to_everybody("GET", "/"),
    ("GET", "/web"): told_to_everybody("GET", "/web/style.css"),
}
