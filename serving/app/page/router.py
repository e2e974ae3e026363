"""The start page, and a readable view of a document that citations link to."""

import re
from html import escape
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from kb.errors import InvalidKey
from kb.types import Chunk, Document, Place, Scope
from serving.app.dependencies import Needs, ServicesDep, access_of, key_of

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
FIELD = re.compile(r"\{\{(\w+)\}\}")
WEB = files("serving") / "web"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def start_page() -> HTMLResponse:
    return _page((WEB / "index.html").read_text("utf-8"))


@router.get("/documents/{document_id}")
async def document_page(document_id: str, request: Request, services: ServicesDep) -> HTMLResponse:
    """The document's text, passage by passage; `#<chunk id>` is highlighted by the browser.

    A followed link carries no key: it gets a page that asks again with the key of the tab.
    """
    try:
        key = await key_of(request)
    except InvalidKey:
        return _page((WEB / "locked.html").read_text("utf-8"), 401)
    Needs(Scope.QUERY).check(key)
    access = await access_of(key)
    document = await services.catalog.document(document_id, access)
    places = await services.catalog.places([document_id], access)
    index = await services.index(document.collection)
    chunks = await index.chunks(document.indexed_as)
    return _page(render_document(document, places.get(document_id, []), chunks))


def render_document(document: Document, also_at: list[Place], chunks: list[Chunk]) -> str:
    """Document text is data: everything is escaped."""
    passages = "\n".join(
        f'<section id="{escape(chunk.id)}"><h2>{escape(" › ".join(chunk.heading_path))}</h2>'
        f"<pre>{escape(chunk.text)}</pre></section>"
        for chunk in chunks
    )
    fields = {
        "title": escape(document.title),
        "uris": escape("\n".join([document.uri, *(place.uri for place in also_at)])),
        "passages": passages,
    }
    template = (WEB / "document.html").read_text("utf-8")
    # All at once: a title that looks like a field is none.
    return FIELD.sub(lambda field: fields[field[1]], template)


def _page(html: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(html, status, headers=SECURITY_HEADERS)
