"""Secrets in parameters: refused, for parameters go to dvc.lock, MLflow, logs and reports, and are kept there."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

from tasks.core.errors import UserError

ADDRESS = re.compile(r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*):[/\\]{2}([^\s'\"<>]*)", re.IGNORECASE)
LOGIN = re.compile(r"[^/?#\\]*@|[^/?#\\\[:]*+:(?!\d*(?:[/?#\\]|$))[^@]*@")
"""What stands before the host; a password may hold a slash that should have been written %2F."""
PART = re.compile(r"[?&;#]([\w.%+-]+)=([\w%+/~.-]+)")
"""A part of a query or fragment that has a value; of a regular expression it has none."""
NAMES = re.compile(
    r"(x-(amz|goog|oss|cos)-)?(signature|credential|security-token)|awsaccesskeyid|googleaccessid|sig|sas|(.*[_-])?(access|auth|id|refresh|api)?"
    r"[_-]?token|(x-)?api[_-]?key|access[_-]?key([_-]id)?|auth(orization)?|(client[_-]?)?secret|pass(wd|word|phrase)?|pwd|jwt"
)
TOKENS = re.compile(
    r"(?<![A-Za-z0-9_])(?:(hf_[A-Za-z0-9]{20,})|gh[opusr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])|AIza[\w-]{35}|sk-(?:ant-|proj-)?(?=[\w-]{0,200}\d)[\w-]{20,})"
)
S3 = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN (or AWS_PROFILE), with which s3:// is read"
HUB = "HF_TOKEN"
INSTEAD = {
    "http": "NETRC: the path of a file with the line `machine HOST login NAME password PASSWORD`, which web "
    "archives are asked for with; the crawler itself takes no logins",
    "s3": S3,
    "s3a": S3,
    "hf": HUB,
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_SAS_TOKEN (or AZURE_STORAGE_CONNECTION_STRING)",
    "abfs": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_SAS_TOKEN (or AZURE_STORAGE_CONNECTION_STRING)",
}
OTHERS = "what the service's own tools read"


def refuse_secrets(blocks: Any, where: str) -> None:
    """Look for logins, signatures, keys and tokens in all values, however deep.

    Raises:
        UserError: names each key with one, and the environment variable to use; not the secret.
    """
    mistakes = [
        f"{where}{key}: {what} stands here, and would stand in dvc.lock, MLflow, logs and reports. Take it out, have it "
        f"revoked if it was ever committed, and use the environment: {instead}."
        for key, text in _texts(blocks, "")
        for what, instead in [secret_in(text)]
        if what
    ]
    if mistakes:
        raise UserError("\n".join(mistakes))


def has_secret(value: Any) -> bool:
    """Whether there is one in a value, however deep."""
    return any(secret_in(text)[0] for _, text in _texts(value, ""))


def secret_in(text: str) -> tuple[str, str]:
    """What kind of secret a text holds, and what to use in its place; empty where it holds none."""
    for scheme, rest in ADDRESS.findall(text):
        kind = scheme.lower().removesuffix("s") if scheme.lower() == "https" else scheme.lower()
        if LOGIN.match(rest):
            return "a login in an address", INSTEAD.get(kind, OTHERS)
        for name, _ in PART.findall(rest):
            if NAMES.fullmatch(unquote_plus(name).lower()):
                signed = "amz" in name.lower() or "aws" in name.lower()
                return "a key or signature in an address", S3 if signed else INSTEAD.get(kind, OTHERS)
    if found := TOKENS.search(text):
        return "a token", HUB if found[1] else OTHERS
    return "", ""


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in a value with its dotted key; of a key that is one itself, the place alone."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            safe = "(a key)" if secret_in(str(name))[0] else str(name)
            yield key or "(top)", str(name)
            yield from _texts(inner, f"{key}.{safe}" if key else safe)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{key}[{number}]")
