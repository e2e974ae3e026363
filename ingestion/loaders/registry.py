"""Which file names we take, what they hold, and which module reads them.

Plain data: modules are named here and imported only when a file of theirs is read.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """`name` is said to users, the first suffix is the one to rename a mislabelled file to."""

    name: str
    media_type: str
    module: str
    suffixes: tuple[str, ...]


def _suffixes(words: str) -> tuple[str, ...]:
    return tuple(f".{word}" for word in words.split())


_OOXML = "application/vnd.openxmlformats-officedocument."

PDF = Format("PDF", "application/pdf", "pdf", _suffixes("pdf"))
DOCX = Format(
    "Word", f"{_OOXML}wordprocessingml.document", "docx", _suffixes("docx docm dotx dotm")
)
PPTX = Format(
    "PowerPoint",
    f"{_OOXML}presentationml.presentation",
    "pptx",
    _suffixes("pptx pptm ppsx ppsm potx potm"),
)
XLSX = Format("Excel", f"{_OOXML}spreadsheetml.sheet", "xlsx", _suffixes("xlsx xlsm xltx xltm"))
EPUB = Format("EPUB", "application/epub+zip", "epub", _suffixes("epub"))

MARKDOWN = Format(
    "Markdown", "text/markdown", "markdown", _suffixes("md markdown mdx mdown mkd qmd rmd")
)
HTML = Format("HTML", "text/html", "html", _suffixes("html htm xhtml xht shtml"))
CSV = Format("CSV", "text/csv", "csv_table", _suffixes("csv tsv tab psv"))
JSON = Format("JSON", "application/json", "json_text", _suffixes("json jsonl ndjson geojson"))
NOTEBOOK = Format("Jupyter notebook", "application/x-ipynb+json", "json_text", _suffixes("ipynb"))
XML = Format("XML", "application/xml", "xml_text", _suffixes("xml rss atom opml dita dbk"))
EMAIL = Format("e-mail", "message/rfc822", "eml", _suffixes("eml mht mhtml"))
SUBTITLES = Format("subtitles", "text/vtt", "text", _suffixes("vtt srt"))

_PROSE = "txt text rst adoc asciidoc asc org textile wiki tex log me nfo diff patch po pot bib"
_CONFIGURATION = "yaml yml toml ini cfg conf properties tf hcl cmake dockerfile mk gradle service"
_SOURCE_CODE = """
    py pyi js mjs cjs jsx ts tsx vue svelte css scss less java kt kts scala groovy clj c h cc cpp
    cxx hpp hh cs fs vb go rs rb php pl pm lua r jl swift m mm dart ex exs erl hs ml nim zig sh bash
    zsh fish ps1 bat cmd sql graphql proto thrift asm s f90 pas sol v sv vhd awk sed el lisp scm tcl
    vim jinja j2 tmpl mustache hbs
"""
TEXT = Format("text", "text/plain", "text", _suffixes(f"{_PROSE} {_CONFIGURATION} {_SOURCE_CODE}"))

_CODE_SUFFIXES = frozenset(_suffixes(f"{_CONFIGURATION} {_SOURCE_CODE} diff patch"))


def is_code(suffix: str) -> bool:
    """Whether a text file's indentation and blank lines matter more than its sentences."""
    return suffix in _CODE_SUFFIXES


FORMATS = (
    PDF,
    DOCX,
    PPTX,
    XLSX,
    EPUB,
    MARKDOWN,
    HTML,
    CSV,
    JSON,
    NOTEBOOK,
    XML,
    EMAIL,
    SUBTITLES,
    TEXT,
)

SUFFIXES = {suffix: entry for entry in FORMATS for suffix in entry.suffixes}

SUPPORTED = (
    "PDF, Word, PowerPoint, Excel, EPUB, HTML, Markdown, text, CSV, JSON, XML and e-mail (.eml)"
)
"""The formats that work, for messages."""

_IMAGES = "No text is read from images yet: write what it shows into a text or Markdown file."
_MEDIA = "No text is read from sound or video: add a transcript (.txt, .vtt or .srt) instead."
_ARCHIVE = "Archives are not opened: unpack it and add the files inside."

_REMEDIES = {
    "Save it as .docx.": "doc dot rtf odt ott wps pages",
    "Save it as .pptx.": "ppt pps odp otp key",
    "Save it as .xlsx.": "xls xlt xlsb ods ots et numbers",
    "Save the message as .eml.": "msg pst ost mbox",
    "Convert it to .epub or .pdf.": "mobi azw azw3 djvu chm xps",
    _IMAGES: "png jpg jpeg gif webp tif tiff bmp ico heic svg",
    _MEDIA: "mp3 wav m4a ogg flac mp4 mov avi mkv webm",
    _ARCHIVE: "zip tar gz tgz bz2 xz 7z rar zst jar",
}
REMEDIES = {
    suffix: remedy for remedy, suffixes in _REMEDIES.items() for suffix in _suffixes(suffixes)
}
"""What a user can do about a format that we know but do not read, by suffix."""
