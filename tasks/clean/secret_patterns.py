"""Secret patterns: keys and tokens that are known by the prefixes their issuers gave them, so that scanners can find them.

| secret | form | source |
| --- | --- | --- |
| AWS access key id | AKIA, ASIA and 16 of A-Z2-7 | IAM user guide, "IAM identifiers" |
| GitHub token | ghp_, gho_, ghu_, ghs_, ghr_ and 36; github_pat_ and 82 | GitHub docs, "token formats" |
| GitLab token | glpat- and 20 | GitLab docs, "token prefixes" |
| Slack token, webhook | xoxb-, xoxp-, ...; hooks.slack.com/services/ | Slack API docs, "token types" |
| OpenAI and Anthropic keys | sk-, sk-proj-, sk-ant- and 20 or more with a digit and a capital | as issued |
| Google API key | AIza and 35 | as issued |
| Stripe key | sk_live_, rk_live_ and 24 or more | Stripe docs, "API keys" |
| Hugging Face, npm, PyPI tokens | hf_ and 34; npm_ and 36; pypi-AgEI and 50 or more | as issued |
| AWS secret access key | 40 of base64 after its name | IAM user guide, "Managing access keys" |
| JSON Web Token | three base64url parts, the first two of JSON objects | RFC 7519 |
| private key | between its BEGIN and END lines | RFC 7468 |

The prefix stays, the rest becomes REDACTED. Examples that say they are ones (EXAMPLE, xxxx, one character over and over) stay.
"""

import re
from collections.abc import Callable

REDACTED = "REDACTED"
END = r"(?![A-Za-z0-9_-])"
START = r"(?<![A-Za-z0-9_-])"
PLACEHOLDER = re.compile(r"EXAMPLE|(.)\1{7}|x{6}|1234567890abcdef|your", re.IGNORECASE)


def _keep_prefix(match: re.Match[str]) -> str:
    prefix, rest = match.group(1), match.group(2)
    return match.group() if PLACEHOLDER.search(rest) else prefix + REDACTED


def _mixed(match: re.Match[str]) -> str:
    """Where the prefix is short, the rest must look drawn at random: with digits, small and capital letters."""
    rest = match.group(2)
    random_looking = re.search(r"\d", rest) and re.search("[a-z]", rest) and re.search("[A-Z]", rest)
    return _keep_prefix(match) if random_looking else match.group()


def _private_key(match: re.Match[str]) -> str:
    return f"-----BEGIN {match.group(1)}-----\n{REDACTED}\n-----END {match.group(1)}-----"


SecretPattern = tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]]


def _token(
    prefix: str, rest: str, trigger: str, replace: Callable[[re.Match[str]], str] = _keep_prefix
) -> SecretPattern:
    return trigger, re.compile(f"{START}({prefix})({rest}){END}"), replace


SECRET_PATTERNS: list[SecretPattern] = [
    (
        "PRIVATE KEY-----",
        re.compile(  # no five dashes inside: two keys in a row are two
            r"-----BEGIN ((?:[A-Z0-9]+ )?PRIVATE KEY)-----"
            r"(?:[\s\\nrA-Za-z0-9+/=:,.]|-(?!----)){64,20000}?-----END \1-----"
        ),
        _private_key,
    ),
    *(_token(prefix, "[A-Z2-7]{16}", prefix) for prefix in ("AKIA", "ASIA")),
    (
        "ecret",
        re.compile(
            r"(?i:(aws_?secret_?(?:access_?)?key[\"']?\s{0,3}[=:]\s{0,3}[\"']?))([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
        ),
        _mixed,
    ),
    *(_token(f"gh{kind}_", "[A-Za-z0-9]{36,255}", f"gh{kind}_") for kind in "pousr"),
    _token("github_pat_", "[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", "github_pat_"),
    _token("glpat-", "[A-Za-z0-9_-]{20,64}", "glpat-"),
    _token("xox[abeoprs]-", r"(?:\d+-)+[A-Za-z0-9-]{10,200}", "xox"),
    (
        "hooks.slack.com",
        re.compile(r"(hooks\.slack\.com/services/)(T[A-Z0-9]{7,12}/B[A-Z0-9]{7,12}/[A-Za-z0-9]{20,32})"),
        _keep_prefix,
    ),
    _token("sk-(?:proj-|svcacct-|ant-)?", "[A-Za-z0-9_-]{20,250}", "sk-", _mixed),
    _token("AIza", "[A-Za-z0-9_-]{35}", "AIza"),
    _token("[sr]k_live_", "[A-Za-z0-9]{24,250}", "k_live_"),
    _token("hf_", "[A-Za-z0-9]{34}", "hf_"),
    _token("npm_", "[A-Za-z0-9]{36}", "npm_"),
    _token("pypi-AgEI", "[A-Za-z0-9_-]{50,250}", "pypi-AgEI"),
    _token("eyJ", r"[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}", "eyJ"),
]
