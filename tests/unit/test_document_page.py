"""The readable view of a document: its text is data, whatever it looks like."""

from dataclasses import replace

from serving.app.page.router import render_document
from tests.conformance.catalogued import DOCUMENT


def test_a_title_that_looks_like_a_field_is_none() -> None:
    page = render_document(replace(DOCUMENT, title="{{passages}}<b>{{uris}}"), [], [])
    assert "{{passages}}&lt;b&gt;{{uris}}" in page
    assert "<b>" not in page
