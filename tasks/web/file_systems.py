"""File systems that fsspec opens by the scheme of a URL: their options, and what goes wrong there in words.

S3 takes credentials, region and endpoint (AWS_ENDPOINT_URL) from where AWS's own tools take them. Where there are no
credentials it is asked anonymously, unless fsspec's configuration says otherwise (FSSPEC_S3_ANON=true or false).
"""

import re
from functools import cache
from typing import Any

from tasks.core.errors import UserError
from tasks.web.sources import USER_AGENT

PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hdfs": "pyarrow",
}
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
WITH_SECRETS = re.compile(r"(\w://)(?:[^/@\s'\"]*@)?([^\s?'\"]*)(?:\?[^\s'\"]*)?")


def scheme_of(path: str) -> str:
    """The scheme of a URL, "" of a path or the letter of a drive."""
    found = SCHEME.match(path)  # `urlsplit` would refuse http://[, before there is anyone to explain it
    return found[1].lower() if found else ""


def open_system(url: str, timeout_s: float, stream: bool = False) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. One request of it is one request: who asks tries again.

    `stream`: a file is read in one go, so the time between two packets is bounded; else that of a whole request is.

    Raises:
        UserError: the scheme is not known, its package is missing, or what AWS's configuration names is not there.
    """
    scheme = scheme_of(url)
    try:
        import fsspec

        options: dict[str, Any] = {}
        if scheme in ("http", "https"):
            options = _http_options(timeout_s, stream)
        elif scheme in ("s3", "s3a"):
            options = _s3_options(timeout_s)
        system, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        package = PACKAGES.get(scheme)
        how = f"{scheme} URLs need the package {package}: pip install {_named(package)}" if package else str(error)
        raise UserError(f"{without_secrets(url)}: {how}") from None
    except ValueError as error:
        raise UserError(f"{without_secrets(url)}: {without_secrets(str(error))}") from None
    if scheme in ("s3", "s3a"):
        system.retries = 1
    return system, path


def told(error: Exception, system: Any) -> str:
    """What went wrong, in a line without secrets."""
    text = without_secrets(f"{type(error).__name__}: {error}")[:300]
    if isinstance(error, PermissionError) and getattr(system, "anon", False) is True:
        text += " (asked anonymously: there are no AWS credentials)"
    return text


def without_secrets(text: str) -> str:
    """`text` without the names, passwords and queries of the URLs in it: signed URLs have their signature there."""
    return WITH_SECRETS.sub(r"\1\2", text)


def _http_options(timeout_s: float, stream: bool) -> dict[str, Any]:
    import aiohttp

    limits = {"total": None, "sock_connect": timeout_s, "sock_read": timeout_s} if stream else {"total": timeout_s}
    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(**limits), "headers": {"User-Agent": USER_AGENT}}}


def _s3_options(timeout_s: float) -> dict[str, Any]:
    import fsspec

    limits = {"connect_timeout": timeout_s, "read_timeout": timeout_s, "retries": {"max_attempts": 0}}
    said = fsspec.config.conf.get("s3", {}).keys() & {"anon", "key", "profile"}
    return {"config_kwargs": limits, **({} if said else {"anon": not _has_credentials()})}


@cache
def _has_credentials() -> bool:
    """Whether there are any in the environment, AWS's files, or what the machine has of its own."""
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session

    try:
        return get_session().get_credentials() is not None
    except BotoCoreError as error:  # a profile that is not there, half of the credentials
        raise UserError(f"AWS credentials: {error}") from None


def _named(package: str) -> str:
    """As pip takes it: s3fs and gcsfs want the very version of fsspec that their own number says."""
    import fsspec

    return f"{package}=={fsspec.__version__}" if package in ("s3fs", "gcsfs") else package
