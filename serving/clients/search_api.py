"""POST /v1/search from outside: what both retrievers ask."""

from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class SearchAPI:
    """`url` is the server's, such as http://127.0.0.1:8000. Errors are httpx's."""

    url: str
    collection: str = "default"
    limit: int = 5
    api_key: str = ""
    timeout_s: float = 30.0

    def search(self, query: str) -> list[dict[str, Any]]:
        """The hits, best first, as docs/api.md has them."""
        with httpx.Client(**self._options()) as client:
            return _hits(client.post("/v1/search", json=self._body(query)))

    async def asearch(self, query: str) -> list[dict[str, Any]]:
        """As `search`."""
        async with httpx.AsyncClient(**self._options()) as client:
            return _hits(await client.post("/v1/search", json=self._body(query)))

    def _body(self, query: str) -> dict[str, Any]:
        return {"query": query, "collection": self.collection, "limit": self.limit}

    def _options(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {"base_url": self.url, "headers": headers, "timeout": self.timeout_s}


def _hits(response: httpx.Response) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = response.raise_for_status().json()["data"]
    return found


def split(hit: dict[str, Any]) -> tuple[str, float, dict[str, Any]]:
    """(text, score, everything else) of a hit."""
    rest = {name: value for name, value in hit.items() if name not in ("text", "score")}
    return hit["text"], hit["score"], rest
