"""The admin API over real HTTP: every route with every kind of key, and what each of them does."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from kb.settings import BackupSettings, Settings
from kb.types import Scope
from serving.bootstrap import Services, open_services
from serving.keys import create_key
from tests.served import hashing, served

pytestmark = pytest.mark.slow

PATIENCE_S = 240
ADMIN: Final = "/v1/admin"
KEYS: Final[dict[str, dict[str, Any]]] = {
    "admin": {"scopes": (Scope.ADMIN,)},
    "limited": {"scopes": (Scope.ADMIN,), "collections": ("handbook",)},
    "query": {"scopes": (Scope.QUERY,)},
    "ingest": {"scopes": (Scope.INGEST,)},
    "other": {"scopes": (Scope.INGEST,)},
}
SOURCES, RUNS = f"{ADMIN}/sources", f"{ADMIN}/runs"
OF_COLLECTIONS: Final = [
    ("GET", f"{ADMIN}/collections"),
    ("POST", f"{ADMIN}/collections"),
    ("DELETE", f"{ADMIN}/collections/none"),
    ("GET", SOURCES),
    ("GET", f"{SOURCES}/none"),
    ("PATCH", f"{SOURCES}/none"),
    ("DELETE", f"{SOURCES}/none"),
    ("POST", f"{SOURCES}/none/sync"),
    ("POST", f"{ADMIN}/sync"),
    ("POST", f"{ADMIN}/documents/none/retry"),
    ("GET", RUNS),
    ("GET", f"{RUNS}/none"),
    ("GET", f"{RUNS}/none/events"),
    ("POST", f"{RUNS}/none/cancel"),
    ("GET", f"{ADMIN}/generations"),
    ("POST", f"{ADMIN}/generations/prune"),
    ("POST", f"{ADMIN}/reindex"),
    ("POST", f"{ADMIN}/rollback"),
    ("GET", f"{ADMIN}/doctor"),
    ("POST", f"{ADMIN}/doctor/repair"),
]
OF_THE_SERVER: Final = [
    ("POST", SOURCES),
    ("GET", f"{ADMIN}/keys"),
    ("POST", f"{ADMIN}/keys"),
    ("POST", f"{ADMIN}/keys/none/rotate"),
    ("DELETE", f"{ADMIN}/keys/none"),
    ("GET", f"{ADMIN}/backups"),
    ("POST", f"{ADMIN}/backups"),
    ("POST", f"{ADMIN}/backups/none/verify"),
    ("GET", f"{ADMIN}/configuration"),
]
WRONG: Final = {"surplus": True}
"""Refused by every body: nothing is begun by asking who may ask."""


@dataclass(frozen=True)
class Api:
    url: str
    keys: dict[str, str]
    folder: Path

    def as_(self, kind: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys[kind]}"} if kind in self.keys else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("admin")
    keys: dict[str, str] = {}

    async def prepare(services: Services) -> None:
        await services.ensure_collection("default")
        for kind, rights in KEYS.items():
            _, keys[kind] = await create_key(services.catalog.keys, kind, **rights)

    with served(folder / "data", prepare, backup=BackupSettings(folder=folder / "backups")) as url:
        yield Api(url, keys, folder)


@pytest.fixture
def admin(api: Api) -> Iterator[httpx.Client]:
    with api.as_("admin") as http:
        yield http


@pytest.fixture
def docs(admin: httpx.Client, tmp_path: Path) -> Iterator[Path]:
    """A folder with two documents, in the collection `handbook`, which is deleted afterwards."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "leave.md").write_text("# Leave\n\nTwenty days a year.", "utf-8")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    yield folder
    admin.delete(f"{ADMIN}/collections/handbook")


def ended(http: httpx.Client, run: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        now: dict[str, Any] = http.get(f"{RUNS}/{run['id']}").json()
        if now["finished_at"]:
            return now
        assert time.monotonic() < deadline, now
        time.sleep(0.05)


def done(http: httpx.Client, answer: httpx.Response) -> list[dict[str, Any]]:
    """The run that was asked for, or the runs, once they are done."""
    assert answer.status_code == 202, answer.text
    body = answer.json()
    runs = [ended(http, run) for run in body.get("data", [body])]
    assert {run["status"] for run in runs} <= {"done"}, runs
    return runs


def added(http: httpx.Client, folder: Path, **changes: Any) -> str:
    body = {"path": str(folder), "collection": "handbook"} | changes
    answer = http.post(SOURCES, json=body)
    assert answer.status_code == 201, answer.text
    source_id: str = answer.json()["id"]
    return source_id


# --- Who may ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", *KEYS])
def test_each_kind_of_key_at_each_route(api: Api, kind: str) -> None:
    expected = {"none": 401, "query": 403, "ingest": 403, "other": 403}.get(kind)
    with api.as_(kind) as http:
        for method, path in OF_COLLECTIONS + OF_THE_SERVER:
            of_server = (method, path) in OF_THE_SERVER
            status = 403 if kind == "limited" and of_server else expected
            sent = {} if method == "GET" or path.endswith("/backups") else {"json": WRONG}
            if status is None and (method, path) == ("POST", f"{ADMIN}/backups"):
                continue  # It would begin one; another test does.
            answer = http.request(method, path, **sent)  # type: ignore[arg-type]
            if status is not None:
                assert answer.status_code == status, (method, path)
                assert answer.json()["error"]["code"] in ("access_denied", "invalid_api_key")
            else:
                assert answer.status_code in (200, 400, 404), (method, path, answer.text)


def test_own_runs_are_seen_by_who_uploaded_and_by_administrators(api: Api) -> None:
    with api.as_("ingest") as http:
        sent = http.post("/v1/documents", files={"file": ("own.md", b"# Own\n\nMine alone.")})
        document, run_id = sent.json()["id"], sent.json()["run_id"]
        with http.stream("GET", f"/v1/runs/{run_id}/events") as stream:
            assert '"status":"done"' in stream.read().decode().replace(": ", ":")
        assert http.get(f"/v1/runs/{run_id}").json()["document_id"] == document
        listed = http.get("/v1/documents").json()["data"]
        assert document in {each["id"] for each in listed}
        assert http.get(f"/v1/documents/{document}").json()["status"] == "indexed"
        assert http.get(f"/v1/documents/{document}/status").json()["status"] == "indexed"
        assert http.get(f"/v1/documents/{document}/chunks").status_code == 403
    for kind, status in {"admin": 200, "limited": 404, "query": 403, "other": 404}.items():
        with api.as_(kind) as http:
            for path in (f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/events"):
                assert http.get(path).status_code == status, (kind, path)


def test_a_limited_administrator_has_its_collections_and_no_more(
    api: Api, admin: httpx.Client, docs: Path
) -> None:
    mine = added(admin, docs)
    theirs = added(admin, docs, collection="default")
    try:
        with api.as_("limited") as http:
            names = [each["name"] for each in http.get(f"{ADMIN}/collections").json()["data"]]
            assert names == ["handbook"]
            assert [each["id"] for each in http.get(SOURCES).json()["data"]] == [mine]
            done(http, http.post(f"{SOURCES}/{mine}/sync"))
            assert http.post(f"{SOURCES}/{theirs}/sync").status_code == 404
            runs = done(http, http.post(f"{ADMIN}/sync"))
            assert [run["source_id"] for run in runs] == [mine]
            parts = {each["part"] for each in http.get(f"{ADMIN}/doctor").json()["data"]}
            assert parts == {"collection handbook"}
            paused = http.patch(f"{SOURCES}/{mine}", json={"paused": True, "groups": ["hr"]})
            assert (paused.json()["paused"], paused.json()["groups"]) == (True, ["hr"])
            assert http.patch(f"{SOURCES}/{mine}", json={"include": []}).status_code == 403
            assert http.post(f"{SOURCES}/{mine}/sync").json()["error"]["code"] == "source_paused"
            body = {"collection": "handbook", "embedder": "/etc"}
            assert http.post(f"{ADMIN}/reindex", json=body).status_code == 403
            made = http.post(f"{ADMIN}/collections", json={"name": "another"})
            assert made.status_code == 403
    finally:
        admin.delete(f"{SOURCES}/{theirs}")


# --- What it does -----------------------------------------------------------------------------


def test_a_source_from_its_beginning_to_its_end(admin: httpx.Client, docs: Path) -> None:
    source = added(admin, docs, exclude=["drafts/"], max_file_mb=5)
    (run,) = done(admin, admin.post(f"{SOURCES}/{source}/sync", json={"mode": "full"}))
    assert (run["kind"], run["source_id"]) == ("full", source)
    assert (run["counts"]["indexed"], run["counts"]["failed"]) == (1, 1)
    shown = admin.get(f"{SOURCES}/{source}").json()
    assert (shown["exclude"], shown["last_run"]["id"]) == (["drafts/"], run["id"])

    listed = admin.get("/v1/documents", params={"collection": "handbook"}).json()["data"]
    broken = next(each for each in listed if each["status"] == "failed")
    again = ended(admin, admin.post(f"{ADMIN}/documents/{broken['id']}/retry").json())
    assert (again["status"], again["document_id"]) == ("failed", broken["id"])
    assert again["error"] == broken["error"]["message"]
    (docs / "broken.pdf").rename(docs / "notes.txt")
    (docs / "notes.txt").write_text("Readable now.", "utf-8")
    done(admin, admin.post(f"{ADMIN}/sync", json={"collection": "handbook"}))
    (collection,) = [
        each
        for each in admin.get(f"{ADMIN}/collections").json()["data"]
        if each["name"] == "handbook"
    ]
    assert collection["documents"] == {"indexed": 2}

    deleted = admin.delete(f"{SOURCES}/{source}").json()
    assert deleted["deleted_documents"] == 2
    assert admin.get(f"{SOURCES}/{source}").status_code == 404


def test_an_index_is_built_anew_and_gone_back_from(admin: httpx.Client, docs: Path) -> None:
    source = added(admin, docs)
    done(admin, admin.post(f"{SOURCES}/{source}/sync"))
    asked = {"collection": "handbook"}
    cost = admin.post(f"{ADMIN}/reindex", json=asked | {"dry_run": True})
    assert (cost.status_code, cost.json()["documents"]) == (200, 1)
    (run,) = done(admin, admin.post(f"{ADMIN}/reindex", json=asked))
    assert run["counts"]["copied_chunks"] == 1

    def live() -> list[int]:
        found = admin.get(f"{ADMIN}/generations", params=asked).json()["data"]
        return [each["number"] for each in found if each["live"]]

    assert live() == [2]
    back = admin.post(f"{ADMIN}/rollback", json=asked).json()
    assert (back["generation"]["index"], back["changed_since"]) == ("kb-handbook.1", 0)
    assert live() == [1]
    pruned = admin.post(f"{ADMIN}/generations/prune", json=asked).json()["data"]
    assert [each["number"] for each in pruned] == [2]
    assert admin.post(f"{ADMIN}/rollback", json=asked).status_code == 404


def test_what_an_index_lost_is_found_and_repaired(
    api: Api, admin: httpx.Client, docs: Path
) -> None:
    source = added(admin, docs)
    done(admin, admin.post(f"{SOURCES}/{source}/sync"))
    looked = admin.get(f"{ADMIN}/doctor").json()
    assert looked["healthy"], looked
    assert {"embedder", "catalogue"} <= {each["part"] for each in looked["data"]}
    asyncio.run(_lose_documents(api.folder / "data"))
    (problem,) = [each for each in admin.get(f"{ADMIN}/doctor").json()["data"] if each["problem"]]
    assert problem["part"] == "collection handbook"
    assert "missing in the index" in problem["problem"]
    (run,) = done(admin, admin.post(f"{ADMIN}/doctor/repair", json={"collection": "handbook"}))
    assert (run["kind"], run["collection"]) == ("repair", "handbook")
    assert admin.get(f"{ADMIN}/doctor").json()["healthy"]
    assert admin.post(f"{ADMIN}/doctor/repair", json={"collection": "none"}).status_code == 404


async def _lose_documents(data_dir: Path) -> None:
    async with open_services(Settings(data_dir=data_dir), hashing) as services:
        index = await services.index("handbook")
        await index.delete(list(await index.contents()))


def test_keys_are_made_rotated_and_revoked(api: Api, admin: httpx.Client) -> None:
    made = admin.post(f"{ADMIN}/keys", json={"name": "bot", "groups": ["hr"], "days": 1})
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    key = made.json()

    def may_ask(text: str) -> bool:
        headers = {"Authorization": f"Bearer {text}"}
        return httpx.get(f"{api.url}/v1/models", headers=headers).status_code == 200

    assert may_ask(key["key"])
    newer = admin.post(f"{ADMIN}/keys/{key['id']}/rotate").json()
    assert not may_ask(key["key"])
    assert may_ask(newer["key"])
    listed = admin.get(f"{ADMIN}/keys")
    assert newer["key"] not in listed.text
    secret = newer["key"].split("-", 2)[2]  # It may have dashes of its own.
    assert len(secret) > 20
    assert secret not in listed.text
    revoked = admin.delete(f"{ADMIN}/keys/{key['id']}").json()
    assert revoked["revoked_at"]
    assert not may_ask(newer["key"])
    assert admin.post(f"{ADMIN}/keys/{key['id']}/rotate").status_code == 404


def test_a_backup_is_made_listed_and_verified(api: Api, admin: httpx.Client) -> None:
    (run,) = done(admin, admin.post(f"{ADMIN}/backups"))
    assert (run["kind"], run["collection"]) == ("backup", None)
    newest = admin.get(f"{ADMIN}/backups").json()["data"][0]
    verify = f"{ADMIN}/backups/{newest['name']}/verify"
    assert admin.post(verify).json()["intact"] is True
    (api.folder / "backups" / newest["name"] / "settings.json").write_text("{}")
    damaged = admin.post(verify).json()
    assert damaged["intact"] is False
    assert "settings.json" in damaged["problem"]
    for name in ("..%2F..%2Fetc", ".", "kb-20000101-000000"):
        assert admin.post(f"{ADMIN}/backups/{name}/verify").status_code == 404


def test_configuration_tells_no_secret(admin: httpx.Client) -> None:
    rows = {each["name"]: each for each in admin.get(f"{ADMIN}/configuration").json()["data"]}
    assert rows["server.port"]["variable"] == "KB_SERVER__PORT"
    assert rows["backup.folder"]["value"].endswith("backups")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "needs a path"),
        ({"path": "relative"}, "absolute"),
        ({"path": "/nowhere/at/all"}, "is not a folder"),
        ({"path": "/\0"}, "NUL"),
        ({"path": "/tmp", "include": ["!"]}, "pattern"),
        ({"path": "/tmp", "groups": ["a,b"]}, "can't be a group"),
    ],
)
def test_a_wrong_source_says_what_is_wrong(
    admin: httpx.Client, body: dict[str, Any], says: str
) -> None:
    answer = admin.post(SOURCES, json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


# --- The description --------------------------------------------------------------------------


def test_every_body_is_described_with_an_example_and_every_operation_with_its_errors(
    api: Api,
) -> None:
    description = httpx.get(f"{api.url}/openapi.json").json()
    schemas = description["components"]["schemas"]

    def has_example(content: dict[str, Any]) -> bool:
        for media in content.values():
            if "example" in media:
                continue
            kinds = media["schema"].get("anyOf", [media["schema"]])
            names = [kind["$ref"].rpartition("/")[2] for kind in kinds if "$ref" in kind]
            if not names or not all(schemas[name].get("examples") for name in names):
                return False
        return True

    for path, operations in description["paths"].items():
        if not path.startswith((ADMIN, "/v1/runs", "/v1/documents")):
            continue
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["tags"], where
            assert {"401", "403", "404"} <= operation["responses"].keys(), where
            if body := operation.get("requestBody"):
                assert has_example(body["content"]), f"{where}: request"
            for status, answer in operation["responses"].items():
                if status < "300":
                    assert has_example(answer["content"]), f"{where}: {status}"
