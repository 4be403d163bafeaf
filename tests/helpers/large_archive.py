"""A web archive of forty pages that hardly compress, 3 MB, and sources that name it."""

import random
from typing import Any

from tests.helpers.scraping import members, response, url

NOISE = [random.Random(n).randbytes(40_000).hex().encode() for n in range(40)]
ARCHIVE = members(*(response(url(n), b"<p>" + noise) for n, noise in enumerate(NOISE)))
FAST = {"retries": 3, "retry_delay": 0.01, "timeout": 5}


def source(*paths: str, **options: Any) -> dict[str, Any]:
    return {"name": "a", "kind": "warc", "paths": list(paths), **FAST, **options}
