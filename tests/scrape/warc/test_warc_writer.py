"""WARC files as a crawl writes them: at most a hundred pages each, with digests that others check."""

from pathlib import Path

from warcio.archiveiterator import ArchiveIterator

from tasks.scrape.warc.warc_writer import response_record, write_warcs


def test_warc_files_hold_at_most_a_hundred_pages(tmp_path: Path) -> None:
    date = "2024-05-01T10:00:00Z"
    records = [response_record(f"http://e.org/{n}", date, 200, "HTTP/1.1", [], b"page") for n in range(201)]
    assert write_warcs(records, tmp_path) == 201
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["00000.warc.gz", "00001.warc.gz", "00002.warc.gz"]
    assert len(list(ArchiveIterator((tmp_path / names[1]).open("rb"), check_digests=True))) == 100
    assert records[0] == response_record("http://e.org/0", date, 200, "HTTP/1.1", [], b"page")
