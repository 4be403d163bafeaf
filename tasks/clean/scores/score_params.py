"""The scores of the whole corpus: which ones, trained on what, and the thresholds that decide."""

from pydantic import Field

from tasks.core.params import StageParams


class QualityParams(StageParams):
    """A classifier that is trained on examples of good and poor text."""

    positive: tuple[str, ...] = Field(
        (),
        description="Sources (names of scrape.sources) whose documents are good. They stay in the corpus, and are scored "
        "by the classifier that saw them, so that they do better than others.",
    )
    negative: tuple[str, ...] = Field(
        (),
        description="Sources whose documents are poor. They too are scored by the classifier that saw them, and go for "
        "that score alone.",
    )
    labels: tuple[str, ...] = Field((), description="Files of labels (docs/curation.md), named in dvc.yaml too.")
    max_examples: int = Field(5000, ge=1, description="Documents of each side that are trained on, at most.")
    min_score: float = Field(0.5, ge=0, le=1, description="Probability of being good, at least.")


class PerplexityParams(StageParams):
    """A trigram model that is trained on a reference part of the corpus."""

    reference: tuple[str, ...] = Field(
        min_length=1,
        description="Sources that the model is trained on. Their documents stay in the corpus, and are scored by the model "
        "that saw them, so that their perplexity is lower than that of others.",
    )
    max_documents: int = Field(20_000, ge=1, description="Documents that it is trained on, at most.")
    max_perplexity: float = Field(ge=1, description="Perplexity by word, at most.")


class ScoreParams(StageParams):
    """Filters that need the whole corpus or a model."""

    max_line_page_share: float | None = Field(
        None, gt=0, le=1, description="A line on a larger share of a source's pages (and on 10) is dropped; null: none."
    )
    max_profanity: float | None = Field(
        None, ge=0, le=1, description="Probability of profanity, at most; null: unscored."
    )
    quality: QualityParams | None = Field(None, description="Trained quality classifier; null: none.")
    perplexity: PerplexityParams | None = Field(None, description="Trigram model of reference sources; null: none.")


def thresholds(params: ScoreParams) -> dict[str, dict[str, float]]:
    """For each score that is asked for, the smallest (`min`) or largest (`max`) with which a document stays."""
    asked: dict[str, dict[str, float]] = {}
    if params.max_profanity is not None:
        asked["profanity"] = {"max": params.max_profanity}
    if params.quality:
        asked["quality"] = {"min": params.quality.min_score}
    if params.perplexity:
        asked["perplexity"] = {"max": params.perplexity.max_perplexity}
    return asked
