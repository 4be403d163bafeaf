"""Quality filters: whether a clean text stays; measures with thresholds, its language, and the rule sets that are named."""

from typing import Annotated

from pydantic import Field

from tasks.clean import text_measures
from tasks.clean.dropped_lines import DroppedLines
from tasks.clean.language import detect_language
from tasks.clean.rules.bad_words import BadWords
from tasks.clean.rules.rule_set_names import RuleSet
from tasks.core.params import StageParams

Code = Annotated[str, Field(pattern="^[a-z]{2,3}$", description="ISO 639 code.")]
STABLE_CHARACTERS = 1000  # from here on compression says something about the text and not about zlib's start


class FilterParams(StageParams):
    """A document is removed for the first filter it fails, in this order."""

    min_characters: int = Field(20, ge=1, description="Characters of the clean text, at least.")
    max_characters: int = Field(10_000_000, ge=1, description="Characters of the clean text, at most.")
    max_symbol_ratio: float = Field(0.4, ge=0, le=1, description="Share of symbols among visible characters.")
    max_duplicate_line_ratio: float = Field(0.85, ge=0, le=1, description="Share of text in lines that came before.")
    max_top_ngram_ratio: float = Field(0.3, ge=0, le=1, description="Share of text in the commonest pair of words.")
    min_character_entropy: float = Field(2.5, ge=0, le=20, description="Bits a character.")
    min_zlib_ratio: float = Field(0.06, ge=0, description="Compressed by uncompressed bytes, from 1,000 characters on.")
    max_zlib_ratio: float = Field(0.72, ge=0, description="The same, at most: encoded binary data has 0.75 and more.")
    languages: tuple[str, ...] | None = Field(("en",), description="ISO 639 codes to keep; null keeps all.")
    min_language_score: float = Field(0.65, ge=0, le=1, description="Below it the language is unknown (and kept).")
    min_language_letters: int = Field(60, ge=1, description="With fewer letters the language is unknown (and kept).")
    rules: tuple[RuleSet, ...] = Field(
        (),
        description="Published rule sets, with their thresholds, made for English prose. They do not judge conversations.",
    )
    bad_words: dict[Code, str] = Field(
        {}, description="C4's bad words: language: file of them, one a line, declared in dvc.yaml."
    )


Language = tuple[str | None, float | None]
"""Code and score, each where it can be told."""


class Removal(Exception):
    """A document does not pass: reason and detail, and the language where it was looked at."""


def apply_filters(
    text: str, params: FilterParams, is_conversation: bool, dropped: DroppedLines, bad_words: BadWords | None = None
) -> tuple[str, Language]:
    """The text, less the lines that a rule drops (counted in `dropped`), and its language.

    `bad_words` are those of the files that `params.bad_words` names; as in C4 they are looked for in the lines left.

    Raises:
        Removal: it does not pass.
    """
    _measure(text, params)
    found = lang, score = detect_language(text, params.min_language_score, params.min_language_letters)
    if lang and params.languages is not None and lang not in params.languages:
        raise Removal("language", f"{lang} with score {score}", found)
    lines, reason = DroppedLines(), None
    if params.rules and not is_conversation:
        from tasks.clean.rules.rule_sets import apply_rules

        text, lines, reason = apply_rules(text, params.rules)
    if bad_words and not reason:
        reason = bad_words.check(text, lang)
    if reason:
        raise Removal(*reason, found)
    dropped.update(lines.counts, lines.samples)
    return text, found


def _measure(text: str, params: FilterParams) -> None:
    if not text.strip():
        raise Removal("empty", None)
    length = len(text)
    if length < params.min_characters:
        raise Removal("too_short", f"{length} characters < {params.min_characters}")
    if length > params.max_characters:
        raise Removal("too_long", f"{length} characters > {params.max_characters}")
    characters = text_measures.count_characters(text)
    _at_most("symbol_ratio", text_measures.symbol_ratio(characters), params.max_symbol_ratio)
    _at_most("duplicate_lines", text_measures.duplicate_line_ratio(text), params.max_duplicate_line_ratio)
    _at_most(
        "top_ngram", text_measures.top_ngram_ratio(text, 2, params.max_top_ngram_ratio), params.max_top_ngram_ratio
    )
    _at_least("character_entropy", text_measures.character_entropy(characters), params.min_character_entropy)
    if length >= STABLE_CHARACTERS:
        ratio = text_measures.zlib_ratio(text)
        _at_least("zlib_ratio_low", ratio, params.min_zlib_ratio)
        _at_most("zlib_ratio_high", ratio, params.max_zlib_ratio)


def _at_most(reason: str, value: float, limit: float) -> None:
    if value > limit:
        raise Removal(reason, f"{value:.4g} > {limit:g}")


def _at_least(reason: str, value: float, limit: float) -> None:
    if value < limit:
        raise Removal(reason, f"{value:.4g} < {limit:g}")
