"""Documents that want something fetched: reading one asks nobody for anything."""

import socket
import zipfile
from pathlib import Path

import pytest

from ingestion.loaders import LoadLimits, load
from kb.errors import DocumentError

LIMITS = LoadLimits(max_bytes=10_000_000, max_characters=10_000_000, max_expansion=200)
BOOK = """<?xml version="1.0"?><!DOCTYPE x SYSTEM "{url}/x.dtd" [<!ENTITY e SYSTEM "{url}/e">]>
<container xmlns="urn:c"><rootfiles><rootfile full-path="{url}/p.opf"/></rootfiles></container>"""
LETTER = """From: a@example.org
Content-Type: multipart/related; boundary=b

--b
Content-Type: message/external-body; access-type=URL; URL="{url}/body"

--b
Content-Type: text/html

<img src="{url}/pixel.png"><p>text</p>
--b--
"""
HOSTILE = {
    "a.md": "# T\n\n![x]({url}/i.png) [l]({url}/l)\n\n<iframe src='{url}/f'></iframe>",
    "a.html": "<base href='{url}'><link rel=stylesheet href='s.css'><script src='{url}/s.js'></script>"
    "<meta http-equiv=refresh content='0;url={url}'><img src='{url}/i' srcset='{url}/j 2x'>"
    "<object data='{url}/o'></object><p>text</p>",
    "b.html": '<!DOCTYPE html SYSTEM "{url}/x.dtd" [<!ENTITY e SYSTEM "{url}/e">]><p>&e;</p>',
    "a.eml": LETTER,
    "a.json": '{{"$ref": "{url}/schema", "text": "x"}}',
    "a.csv": '=WEBSERVICE("{url}/w"),b\n1,2\n',
}


@pytest.mark.parametrize("name", [*HOSTILE, "a.epub"])
def test_reading_a_document_fetches_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if name == "a.epub":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("mimetype", "application/epub+zip")
                archive.writestr("META-INF/container.xml", BOOK.format(url=url))
            with pytest.raises(DocumentError):
                load(path, LIMITS)
        else:
            path.write_text(HOSTILE[name].format(url=url))
            load(path, LIMITS)
        with pytest.raises(BlockingIOError):  # Nobody has called.
            listener.accept()
