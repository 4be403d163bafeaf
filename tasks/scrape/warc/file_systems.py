"""File systems that fsspec opens by the scheme of a URL: their options, and what goes wrong there in words.

S3 takes credentials, region and endpoint (AWS_ENDPOINT_URL) from where AWS's own tools take them. Where there are no
credentials it is asked anonymously, unless fsspec's configuration says otherwise (FSSPEC_S3_ANON=true or false).
"""

import netrc
import os
import re
from functools import cache, partial
from typing import Any

from tasks.core.errors import UserError
from tasks.http.public_addresses import is_public
from tasks.scrape.sources import USER_AGENT

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


class PrivateAddressError(PermissionError):
    """A name that a list or a redirect led to has an address that is not public."""


def scheme_of(path: str) -> str:
    """The scheme of a URL, "" of a path or the letter of a drive."""
    found = SCHEME.match(path)  # `urlsplit` would refuse http://[, before there is anyone to explain it
    return found[1].lower() if found else ""


def open_file_system(
    url: str, timeout_s: float, stream: bool = False, private_hosts: frozenset[str] | None = None
) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. One request of it is one request: who asks tries again.

    `stream`: a file is read in one go, so the time between two packets is bounded; else that of a whole request is.
    `private_hosts`: names of the hosts that may have an address that is not public, of HTTP; None: any may.

    Raises:
        UserError: the scheme is not known, its package is missing, or what AWS's configuration names is not there.
    """
    scheme = scheme_of(url)
    try:
        import fsspec

        options: dict[str, Any] = {}
        if scheme in ("http", "https"):
            options = _http_options(timeout_s, stream, private_hosts)
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


def explain_error(error: Exception, system: Any) -> str:
    """What went wrong, in a line without secrets."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, PrivateAddressError):
        cause = cause.__cause__ or cause.__context__
    shown = cause or error  # fsspec says of any error that there is no such file
    text = without_secrets(f"{type(shown).__name__}: {shown}")[:300]
    if isinstance(error, PermissionError) and getattr(system, "anon", False) is True:
        text += " (asked anonymously: there are no AWS credentials)"
    return text


def without_secrets(text: str) -> str:
    """`text` without the names, passwords and queries of the URLs in it: signed URLs have their signature there."""
    return WITH_SECRETS.sub(r"\1\2", text)


def _http_options(timeout_s: float, stream: bool, private_hosts: frozenset[str] | None) -> dict[str, Any]:
    import aiohttp

    limits = {"total": None, "sock_connect": timeout_s, "sock_read": timeout_s} if stream else {"total": timeout_s}
    about: dict[str, Any] = {"timeout": aiohttp.ClientTimeout(**limits), "headers": {"User-Agent": USER_AGENT}}
    about["middlewares"] = (_log_in,)
    guard = {} if private_hosts is None else {"get_client": partial(_guarded, private_hosts)}
    return {"client_kwargs": about, **guard}


async def _log_in(request: Any, handler: Any) -> Any:
    """Ask with the login that the file named by NETRC has for the very host, after redirects too."""
    import aiohttp

    if (file := os.environ.get("NETRC")) and request.url.host:
        try:
            found = netrc.netrc(file).hosts.get(request.url.host)
        except (OSError, netrc.NetrcParseError) as error:
            raise PermissionError(
                f"NETRC={file}: {getattr(error, 'strerror', None) or 'cannot be read as netrc'}"
            ) from None
        if found:
            request.headers[aiohttp.hdrs.AUTHORIZATION] = aiohttp.BasicAuth(found[0], found[2] or "").encode()
    return await handler(request)


async def _guarded(private_hosts: frozenset[str], **options: Any) -> Any:
    """A client that connects to public addresses alone, after redirects too, but for the hosts named."""
    import aiohttp

    class Connector(aiohttp.TCPConnector):  # type: ignore[misc]
        # Where the connection's address comes from: a name cannot have another one for the check.
        async def _resolve_host(self, host: str, *args: Any, **more: Any) -> Any:
            found = await super()._resolve_host(host, *args, **more)
            private = [at["host"] for at in found if not is_public(at["host"])]
            if private and host.lower() not in private_hosts:
                raise PrivateAddressError(f"{host}: {private[0]} is no public address")
            return found

    options.pop("loop", None)
    return aiohttp.ClientSession(connector=Connector(), **options)


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
