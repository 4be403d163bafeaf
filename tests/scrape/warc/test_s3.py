"""Web archives in a bucket, as Common Crawl's: objects, globs, lists; with credentials and without; what goes wrong there."""

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.scrape.warc import file_systems
from tests.helpers.large_archive import ARCHIVE, NOISE, source
from tests.helpers.s3_server import Store, serve
from tests.helpers.scraping import members, page, pages, record, response, rows, scrape, url

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
WET = members(record("conversion", url("text"), "Größe".encode(), Content_Type="text/plain"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A bucket `crawl`, and an environment without credentials that names its endpoint."""
    import s3fs

    monkeypatch.chdir(tmp_path)
    (tmp_path / "execution.yaml").write_text("workers: 1\n")
    files = {f"segments/{n}/warc/{n}.warc.gz": members(response(url(f"s/{n}"), page(n))) for n in range(5)}
    listed = {"warc.paths.gz": gzip.compress(b"segments/1/warc/1.warc.gz\nsegments/4/warc/4.warc.gz\n")}
    with serve(Store(crawl={**files, **listed, "wet/a.warc.wet.gz": WET, "large.warc.gz": ARCHIVE})) as store:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "nothing"))
        s3fs.S3FileSystem.clear_instance_cache()
        file_systems._has_credentials.cache_clear()
        yield store
    s3fs.S3FileSystem.clear_instance_cache()
    file_systems._has_credentials.cache_clear()


@pytest.fixture
def credentials(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def test_a_warc_a_wet_file_and_a_glob(tmp_path: Path, store: Store) -> None:
    paths = ("s3://crawl/large.warc.gz", "s3://crawl/wet/a.warc.wet.gz", "s3://crawl/segments/*/warc/*.warc.gz")
    metrics, outputs = scrape(tmp_path, source(*paths))
    found = {name: body for name, (_, body) in pages(outputs, "a").items()}
    expected = {url(n): b"<p>" + noise for n, noise in enumerate(NOISE)}
    assert found == expected | {url(f"s/{n}"): page(n) for n in range(5)}
    assert metrics["sources"]["a"]["outcomes"] == {"saved": 46}
    assert [row["text"] for row in rows(outputs)] == ["Größe"]
    assert not any("Authorization" in headers for _, _, headers in store.requests)


def test_a_list_whose_paths_are_in_the_bucket(tmp_path: Path, store: Store) -> None:
    (tmp_path / "execution.yaml").write_text("workers: 2\n")
    _, outputs = scrape(tmp_path, source("s3://crawl/warc.paths.gz", prefix="s3://crawl/"))
    assert set(pages(outputs, "a")) == {url("s/1"), url("s/4")}


@pytest.mark.usefixtures("credentials")
def test_credentials_of_the_environment_open_a_private_bucket_and_are_told_nobody(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store.private.add("crawl")
    store.trouble = Troubles("SlowDown", 100)
    metrics, outputs = scrape(tmp_path, source("s3://crawl/segments/[12]/warc/*", "s3://crawl/none.warc.gz"))
    assert metrics["sources"]["a"]["outcomes"] == {"saved": 2, "unreachable": 1}
    assert all(KEY in headers["Authorization"] for _, _, headers in store.requests)
    written = b"".join(path.read_bytes() for path in outputs.root.rglob("*") if path.is_file())
    said = caplog.text + str(metrics) + str(rows(outputs, "removed"))
    assert said.count("trying again") == 2
    for secret in (KEY, SECRET, "Signature"):
        assert secret not in said
        assert secret.encode() not in written


class Troubles:
    """Each comes once, in this order; then all is well."""

    def __init__(self, *troubles: str | int) -> None:
        self.left = list(troubles)

    def __call__(self) -> str | int | None:
        return self.left.pop(0) if self.left else None


def test_reading_goes_on_where_it_broke_off(tmp_path: Path, store: Store) -> None:
    store.trouble = Troubles(1_000_000, "SlowDown", 300_000)
    metrics, outputs = scrape(tmp_path, source("s3://crawl/large.warc.gz"))
    assert metrics["sources"]["a"]["outcomes"] == {"saved": 40}
    assert {body for _, body in pages(outputs, "a").values()} == {b"<p>" + noise for noise in NOISE}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3://crawl/none.warc.gz", "unreachable.*crawl/none.warc.gz"),
        ("s3://none/x.warc.gz", "unreachable.*NoSuchBucket it is"),
        ("s3://none/*.warc.gz", "s3://none/\\*.warc.gz.*matches no file"),
        ("s3://crawl/*.arc.gz", "matches no file"),
        ("s3://closed/x.warc.gz", "unreachable.*Forbidden.*there are no AWS credentials"),
        ("s3://closed/*.warc.gz", "cannot be listed.*AccessDenied it is.*there are no AWS credentials"),
        ("s3://None_such!/x.warc.gz", "None_such"),
    ],
)
def test_what_is_not_there_or_closed_is_said_at_once(tmp_path: Path, store: Store, path: str, message: str) -> None:
    store.buckets["closed"] = {"x.warc.gz": ARCHIVE}
    store.private.add("closed")
    with pytest.raises(UserError, match=f"(?s){message}"):
        scrape(tmp_path, source(path))
    assert len(store.requests) <= 3


@pytest.mark.parametrize("path", ["s3://crawl/large.warc.gz", "s3://crawl/*.warc.gz"])
def test_a_server_that_is_gone(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"Could not connect to the endpoint URL.*127.0.0.1:9"):
        scrape(tmp_path, source(path, retries=2))
    assert caplog.text.count("trying again") == 2
    assert not store.requests


def test_a_profile_that_is_not_there(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "crawler")
    with pytest.raises(UserError, match=r"AWS credentials: The config profile \(crawler\) could not be found"):
        scrape(tmp_path, source("s3://crawl/large.warc.gz"))
    assert not store.requests


@pytest.mark.usefixtures("credentials")
def test_fsspec_s_configuration_has_the_last_word(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True})  # as FSSPEC_S3_ANON=true makes it
    assert scrape(tmp_path, source("s3://crawl/large.warc.gz"))[0]["pages"] == 40
    assert not any("Authorization" in headers for _, _, headers in store.requests)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pass@e.org/a.gz?X-Amz-Signature=1&b", "https://e.org/a.gz"),
        ("ClientError: 404, url='http://e.org/a?token=x'", "ClientError: 404, url='http://e.org/a'"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("Is it there? me@e.org", "Is it there? me@e.org"),
    ],
)
def test_urls_are_told_without_their_secrets(text: str, shown: str) -> None:
    assert file_systems.without_secrets(text) == shown
