"""Where text comes from: the kinds of source that `scrape.sources` may list."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.formats.encodings.whatwg_encodings import codec_of
from tasks.formats.file_kinds import Format

USER_AGENT = "Textmill (builds a text corpus; obeys robots.txt)"


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # No dot: in the names of shards it stands behind the source's, so that no two sources can meet in one.
    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        max_length=64,
        description="Names the source in every document; lower case letters, digits, - and _.",
    )
    licence: str | None = Field(
        default=None, description="Recorded with every document, e.g. CC-BY-4.0; null: not known."
    )


class WebSource(_Source):
    """A website, crawled breadth first over HTTP."""

    kind: Literal["web"] = "web"
    start: tuple[str, ...] = Field(min_length=1, description="URLs to begin with (http or https).")
    allow: tuple[str, ...] = Field(
        default=(),
        description="Regular expressions; a link is followed if one is found in its URL. None: the start's hosts.",
    )
    deny: tuple[str, ...] = Field(
        default=(), description="Regular expressions; a link in whose URL one is found is left out."
    )
    depth: int = Field(default=10, ge=0, le=1000, description="Links from a start URL at most.")
    max_pages: int = Field(
        default=1000, ge=1, description="Pages to save at most; the nearest to the start come first."
    )
    max_visits: int | None = Field(
        default=None,
        ge=1,
        description="URLs to ask for at most, pages saved or not; null: 10 for each of `max_pages`, and 10,000 more.",
    )
    max_bytes: int = Field(
        default=10_000_000,
        ge=1,
        description="Bytes of one page at most, before and after decompression; larger are left out.",
    )
    delay: float = Field(
        default=0.5, ge=0, le=3600, description="Seconds between requests to a host; robots.txt may ask for more."
    )
    concurrency: int = Field(default=4, ge=1, le=64, description="Requests at the same time, over all hosts.")
    timeout: float = Field(default=30.0, gt=0, le=3600, description="Seconds for one request.")
    retries: int = Field(
        default=3, ge=0, le=20, description="Further tries after a time-out, a lost connection, 429 or 5xx."
    )
    retry_delay: float = Field(
        default=1.0, ge=0, le=3600, description="Seconds before the first retry; doubles each time."
    )
    redirects: int = Field(default=10, ge=0, le=50, description="Redirects in a row at most.")
    allow_private: bool | tuple[str, ...] = Field(
        default=False,
        description="Hosts, by name, whose address may be private, loopback or link-local; true: those of `start`.",
    )
    user_agent: str = Field(
        default=USER_AGENT,
        pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+(/| |$)",
        description="Who asks; `contact` is added to it.",
    )
    contact: str | None = Field(
        default=None,
        pattern=r"^[^\s()<>,;]+$",
        max_length=200,
        description="Where a site's owner reaches you: an e-mail address or a URL, sent with every request.",
    )
    max_wait: float = Field(
        default=120.0,
        ge=0,
        le=86400,
        description="Seconds at most that a Retry-After, Crawl-delay or Request-rate is waited for at a time.",
    )
    sitemaps: bool = Field(
        default=False,
        description="Take the pages that sitemaps name too (robots.txt, /sitemap.xml), as if linked there.",
    )
    canonical: bool = Field(
        default=True, description="Of pages that name the same canonical link on their host, keep one."
    )
    max_variants: int | None = Field(
        default=1000,
        ge=1,
        description="URLs at most that differ only in their query, or only in a date: more are a trap; null: no limit.",
    )
    host_pages: int | None = Field(default=None, ge=1, description="Pages to save of one host at most.")
    host_concurrency: int | None = Field(
        default=None, ge=1, le=64, description="Requests to one host at the same time; null: as many as `concurrency`."
    )

    pdf: bool = Field(
        default=False, description="Save the PDF files that are linked too; `clean` reads their text (extra documents)."
    )
    ignore_changes: tuple[str, ...] = Field(
        default=(),
        description="Regular expressions; a refresh compares a page without what they match, such as clocks and tokens.",
    )

    render: bool = Field(
        default=False,
        description="Let a headless Chromium run the scripts of HTML pages and keep what they build (slow; must be installed).",
    )

    @property
    def private_hosts(self) -> frozenset[str]:
        """Names and addresses of the hosts that may be private, in lower case."""
        names = self.start if self.allow_private is True else ()
        named = self.allow_private if isinstance(self.allow_private, tuple) else ()
        return frozenset({(urlsplit(url).hostname or "").lower() for url in names} | {name.lower() for name in named})

    @property
    def identity(self) -> str:
        """The User-Agent header: product, purpose, contact (RFC 9110, 10.1.5)."""
        return f"{self.user_agent} (+{self.contact})" if self.contact else self.user_agent

    @property
    def product_token(self) -> str:
        """The name by which robots.txt and robots directives address the crawler (RFC 9309, 2.2.1)."""
        return self.user_agent.partition("/")[0].partition(" ")[0]

    @field_validator("start")
    @classmethod
    def _http(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise ValueError(f"{url!r} is no http or https URL")
        return urls

    @field_validator("allow", "deny", "ignore_changes")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns


class PydocSource(_Source):
    """Python's own documentation server over the standard library, started on loopback and crawled over HTTP."""

    kind: Literal["pydoc"] = "pydoc"
    licence: str | None = "PSF-2.0"
    max_pages: int = Field(
        default=5000, ge=1, description="Pages to save at most; the nearest to the index come first."
    )


class FilesSource(_Source):
    """Local files."""

    kind: Literal["files"] = "files"
    paths: tuple[str, ...] = Field(
        min_length=1,
        description="Globs (** too) and folders, relative to the root of the project; hidden files are passed over, and "
        "symbolic links that lead out of the folder.",
    )
    format: Literal["auto"] | Format = Field(
        default="auto",
        description="auto goes by the suffix, e.g. txt, md, csv, jsonl, pdf, docx, epub, tex, eml, mbox, py; compressed "
        "ones have gz, zst, bz2 or lz4 behind it. What is of no known kind is removed, with the reason.",
    )
    encoding: str | None = Field(
        default=None,
        description="Declared for files of text and rows, HTML and LaTeX; null: found out, and counted how.",
    )
    max_bytes: int = Field(
        default=100_000_000,
        ge=1,
        description="Bytes of a file, or of a line or row of JSONL, CSV or Parquet, at most, after decompression; larger are "
        "removed. One that large takes 2 to 8 times its bytes of memory, 16 times with characters beyond U+FFFF.",
    )
    text_column: str = Field(
        default="text", min_length=1, description="Key or column with the text (JSON, JSONL, Parquet, CSV, TSV)."
    )
    messages_column: str = Field(
        default="messages", min_length=1, description="Key or column with role and content pairs."
    )

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str | None) -> str | None:
        codec = codec_of(encoding) if encoding else None
        if encoding and codec is None:
            raise ValueError(f"{encoding!r} is no encoding that browsers or Python know")
        return codec


class WarcSource(_Source):
    """Web archives: WARC and WET files, Common Crawl's among them."""

    kind: Literal["warc"] = "warc"
    paths: tuple[str, ...] = Field(
        min_length=1,
        description="Local paths and globs, URLs that fsspec reads (http, https, s3, ...), and lists of such, one a "
        "line: files named *.paths or *.paths.gz. A list names no files of this machine and no private hosts, one from the "
        "network only its own host.",
    )
    prefix: str = Field(
        default="https://data.commoncrawl.org/", description="What stands before the relative paths in a list."
    )
    max_files: int | None = Field(default=None, ge=1, description="Files to read at most; null: all.")
    max_pages: int | None = Field(default=None, ge=1, description="Pages and texts to save at most; null: all.")
    max_bytes: int = Field(
        default=10_000_000,
        ge=1,
        description="Bytes of one page at most, before and after decompression; larger are left out.",
    )
    max_file_bytes: int = Field(default=1 << 33, ge=1, description="Bytes read of one file over the network, at most.")
    timeout: float = Field(default=60.0, gt=0, le=3600, description="Seconds for one request.")
    retries: int = Field(default=5, ge=0, le=20, description="Further tries of a request that failed.")
    retry_delay: float = Field(
        default=1.0, ge=0, le=3600, description="Seconds before the first retry; doubles each time."
    )
    robots: str | None = Field(
        default=None,
        max_length=200,
        description="What is known of how the archive's crawler treated robots.txt, e.g. obeyed; recorded with each page.",
    )


class HuggingFaceSource(_Source):
    """A data set of the Hugging Face hub or a local folder of one, fetched as far as it is read. Code in it is never run."""

    kind: Literal["huggingface"] = "huggingface"
    dataset: str = Field(min_length=1, description="Name on the hub (owner/name), or a local folder.")
    config: str | None = Field(default=None, description="Configuration (subset) of the data set; null: the default.")
    split: str = Field(default="train", min_length=1, description="Split to read.")
    revision: str | None = Field(default=None, description="Commit, tag or branch on the hub; null: main.")
    text_column: str = Field(default="text", min_length=1, description="Column with the text.")
    messages_column: str = Field(default="messages", min_length=1, description="Column with role and content pairs.")
    max_documents: int | None = Field(default=None, ge=1, description="Rows to read at most; null: all.")
    max_bytes: int = Field(
        default=100_000_000, ge=1, description="Bytes of a row, or of a JSON file with one list, at most; see files."
    )


class PackageSource(_Source):
    """Conversations that an installed Python package carries."""

    kind: Literal["package"] = "package"
    package: Literal["chitchat-dataset"] = Field(description="The package, as pip names it.")


Source = Annotated[
    WebSource | PydocSource | FilesSource | WarcSource | HuggingFaceSource | PackageSource, Field(discriminator="kind")
]
