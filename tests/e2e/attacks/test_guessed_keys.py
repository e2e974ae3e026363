"""Guessing keys: a wrong one is told nothing, however it is wrong."""

from collections.abc import Iterator

import httpx
import pytest

from serving.bootstrap import Services
from serving.keys import create_key
from tests.served import served


@pytest.fixture(scope="module")
def right() -> list[str]:
    return []


@pytest.fixture(scope="module")
def url(right: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    async def prepare(services: Services) -> None:
        await services.ensure_collection("default")
        _, text = await create_key(services.catalog.keys, "reader")
        right.append(text)

    with served(tmp_path_factory.mktemp("keys") / "data", prepare) as url:
        yield url


def answer(url: str, authorization: bytes) -> httpx.Response:
    headers = [(b"Authorization", authorization)]
    return httpx.get(f"{url}/v1/models", headers=headers, trust_env=False)


def test_all_wrong_keys_are_answered_alike(url: str, right: list[str]) -> None:
    key = right[0].encode()
    assert answer(url, b"Bearer " + key).status_code == 200
    wrong = [
        key[:-1],
        key + b"x",
        key[:-1] + bytes([key[-1] ^ 1]),
        key.swapcase(),
        key.rpartition(b"-")[0] + b"-",
        b"kb-000000000000-" + b"A" * 43,
        b"' OR 1=1 --",
        b"A" * 8000,
        "钥匙".encode(),
        b"%s%n%00",
    ]
    answers = [answer(url, b"Bearer " + guess) for guess in wrong]
    assert {each.status_code for each in answers} == {401}
    assert len({each.text for each in answers}) == 1
    assert all(each.headers["www-authenticate"] == "Bearer" for each in answers)


@pytest.mark.parametrize("scheme", [b"", b"Basic ", b"Bearer", b"Token "])
def test_another_scheme_opens_nothing(url: str, right: list[str], scheme: bytes) -> None:
    assert answer(url, scheme + right[0].encode()).status_code == 401
