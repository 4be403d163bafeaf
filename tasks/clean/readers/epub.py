"""EPUB (EPUB 3.3, W3C): the chapters in the order of the spine, through the extractor of web pages."""

import posixpath
import unicodedata
import zipfile
import zlib
from typing import Any
from urllib.parse import unquote

from tasks.clean.html.extract import extract_with_resiliparse, is_too_complex
from tasks.clean.readers.document_content import MAX_CHARACTERS, DocumentContent, UnreadableDocument, open_zip
from tasks.documents.sections import TextBuilder
from tasks.formats.encodings.decode import decode_page

CONTAINER = "META-INF/container.xml"
ENCRYPTION = "META-INF/encryption.xml"
PAGES = ("application/xhtml+xml", "text/html")
NCX = "application/x-dtbncx+xml"


def read(body: bytes, format: str) -> DocumentContent:
    """The text of the book. Chapters that are damaged or missing are counted in `about`.

    Raises:
        UnreadableDocument: corrupt_file, encrypted (a shop's protection), decompression_bomb, no_text.
    """
    archive = open_zip(body)
    try:
        package = posixpath.normpath(_xml(archive, CONTAINER).xpath("string(//*[local-name()='rootfile']/@full-path)"))
        opf = _xml(archive, package)
    except (KeyError, ValueError) as error:
        raise UnreadableDocument("corrupt_file", f"no EPUB: {error}") from None
    folder = posixpath.dirname(package)
    manifest = {
        item.get("id"): (_path(folder, item.get("href") or ""), item.get("media-type"), item.get("properties") or "")
        for item in opf.xpath("//*[local-name()='manifest']/*[local-name()='item']")
    }
    spine = [manifest.get(name) for name in opf.xpath("//*[local-name()='spine']/*[local-name()='itemref']/@idref")]
    chapters = [item[0] for item in spine if item and item[1] in PAGES]
    if locked := _encrypted(archive) & set(chapters):
        raise UnreadableDocument("encrypted", f"{len(locked)} of {len(chapters)} chapters")
    titles = _titles(archive, manifest)
    built = TextBuilder(MAX_CHARACTERS)
    lost = spine.count(None)
    for chapter in chapters:
        try:
            html = decode_page(_bytes(archive, chapter)).text
        except (KeyError, ValueError):
            lost += 1
            continue
        if is_too_complex(html):
            lost += 1
            continue
        text, title = extract_with_resiliparse(html, False, (), format)
        if title := titles.get(chapter) or title:
            built.begin("sections", title)
        built.add(text)
    if not built.text:
        raise UnreadableDocument("no_text", f"{len(chapters)} chapters, {lost} of them damaged or missing, no text")
    named = {name: _metadata(opf, name) for name in ("title", "creator", "language", "date")}
    about = {"author": named["creator"], "book_language": named["language"], "created": named["date"]}
    kept = {name: value for name, value in about.items() if value}
    damaged = {"sections_damaged": lost} if lost else {}
    return DocumentContent(built.text, named["title"], {**kept, **damaged, **built.offsets})


def _bytes(archive: zipfile.ZipFile, name: str) -> bytes:
    """Raises KeyError where it is missing, ValueError where it is damaged."""
    wanted = unicodedata.normalize("NFC", name)  # file systems disagree about the form of their names
    if name not in archive.NameToInfo:
        name = next((each for each in archive.namelist() if unicodedata.normalize("NFC", each) == wanted), name)
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise ValueError(f"{name}: {error}") from None


def _xml(archive: zipfile.ZipFile, name: str) -> Any:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True, load_dtd=False)
    try:
        root = etree.fromstring(_bytes(archive, name), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"{name}: {error}") from None
    if root is None:
        raise ValueError(f"{name}: no XML")
    return root


def _path(folder: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))


def _encrypted(archive: zipfile.ZipFile) -> set[str]:
    """The files that are encrypted. (Fonts often are obfuscated, which takes no text away.)"""
    if ENCRYPTION not in archive.namelist():
        return set()
    try:
        found = _xml(archive, ENCRYPTION).xpath("//*[local-name()='CipherReference']/@URI")
    except ValueError:
        return set()
    return {_path("", str(uri)) for uri in found}


def _titles(archive: zipfile.ZipFile, manifest: dict[str, tuple[str, str | None, str]]) -> dict[str, str]:
    """Path of a chapter → its title, by the navigation document (EPUB 3) or the NCX (EPUB 2)."""
    titles: dict[str, str] = {}
    for path, kind, properties in manifest.values():
        folder = posixpath.dirname(path)
        try:
            if "nav" in properties.split():
                links = [
                    (a.get("href"), " ".join(a.itertext())) for a in _xml(archive, path).xpath("//*[local-name()='a']")
                ]
            elif kind == NCX:
                links = [
                    (
                        point.xpath("string(*[local-name()='content']/@src)"),
                        point.xpath("string(*[local-name()='navLabel'])"),
                    )
                    for point in _xml(archive, path).xpath("//*[local-name()='navPoint']")
                ]
            else:
                continue
        except (KeyError, ValueError):
            continue
        for href, title in links:
            if href and title.strip():
                titles.setdefault(_path(folder, href), " ".join(title.split()))
    return titles


def _metadata(opf: Any, name: str) -> str:
    return " ".join(opf.xpath(f"string(//*[local-name()='metadata']/*[local-name()='{name}'])").split())
