"""Metrics of whole runs, made up, and the report's page of them."""

import copy
from typing import Any

from tasks.report.page import Results, render

SIZES = {"documents_in": 10, "documents_out": 10, "removed": {}}
SPLIT = {"tokens": 1, "documents": 1, "rows": 1, "utilisation": 1.0}
WORDS = {"bytes_per_token": 3.5, "tokens_per_word": 1.5, "tokens": 9}
PLAIN: dict[str, Any] = {
    "scrape": {"documents": 5, "pages": 5},
    "clean": SIZES,
    "dedup": {**SIZES, "clusters": {"clusters": 0, "largest": 0}, "largest_clusters": {}, "overlap": {}, "sources": {}},
    "decontaminate": SIZES,
    "instruct": {"removed": {}},
    "pack": {"train": SPLIT, "validation": SPLIT},
    "tokenizer": {"train": WORDS, "validation": WORDS, "sources": {}},
    "pretrain": {"parameters": 7},
    "evaluate": {"validation_bits_per_byte": None, "xz_bits_per_byte": 2.5},
    "quantize": {
        "reference": {"bytes": 9, "bits_per_byte": 1.5},
        "formats": {"f16": {"bytes": 5, "bits_per_byte": 1.5, "max_distance": 0.1}},
    },
}
RESTORED = {
    "answers": 4321,
    "bytes": 9000,
    "accuracy": 0.4375,
    "majority": 0.0625,
    "loss": 2.5,
    "bits_per_byte": 1.75,
    "frequencies_bits_per_byte": 2.25,
}


def encoder(objective: str = "masked", **changes: Any) -> dict[str, Any]:
    """Metrics of a run that trained an encoder or encoder-decoder; `changes` are of what it said of all held-out text."""
    metrics = copy.deepcopy(PLAIN)
    found = {**RESTORED, **changes}
    metrics["evaluate"] = {
        "model": "base",
        "objective": objective,
        "validation_bits_per_byte": None,
        "xz_bits_per_byte": None,
        "questions": None,
        "own_set": {},
        objective: {"all": found, "by_source": {"books": found}},
        "probe": {"source": None, "order": {"accuracy": 0.8125, "majority": 0.5, "classes": 2, "texts": 64}},
        "not_measured": {"probe of source": "it takes two classes"},
    }
    metrics["quantize"] = {
        **metrics["quantize"],
        "model": "base",
        "objective": objective,
        "passed_over": {"q8_0": "knows Llama models"},
        "formats": {"torchao-int8": metrics["quantize"]["formats"]["f16"]},
    }
    return metrics


CURVES = {stage: {"step": [1.0], "loss": [2.0]} for stage in ("pretrain", "finetune")}
CURVES["pretrain"]["validation_bits_per_byte"] = [2.0]
LARGEST = [{"id": "1111", "url": "http://e.org/a", "title": "First"}, {"id": "2222", "url": None, "title": "Second"}]
SPLITS = [{"word": "floccinaucinihilipilification", "tokens": 1234}]


def curated() -> dict[str, Any]:
    """Metrics of a run in which everything was asked for."""
    metrics = copy.deepcopy(PLAIN)
    metrics["dedup"] |= {
        "clusters": {"clusters": 4321, "largest": 1717},
        "largest_clusters": {
            "2222": {"documents": 919, "source": "web"},
            "1111": {"documents": 1717, "source": "books"},
        },
        "similarity_histogram": {"0.70": 313, "0.95": 717},
        "thresholds": {"near_duplicate": 0.8},
        "overlap": {"web": {"web": 2345, "books": 67}, "books": {"books": 891}},
        "sources": {
            "web": {"documents_in": 9648, "documents_out": 7236},
            "books": {"documents_in": 1782, "documents_out": 891},
        },
    }
    edges = [n / 20 for n in range(21)]
    metrics["clean"] = {
        **SIZES,
        "removed": {"quality": 5151, "symbol_ratio": 77},
        "lines": {"boilerplate": 40404},
        "scores": {
            "quality": {
                "edges": edges,
                "counts": [0, 6161, *[0] * 17, 7373],
                "threshold": {"min": 0.5},
                "roc_auc": 0.98,
            },
            "perplexity": {"edges": [1, 2, 4, 8], "counts": [0, 8585, 0], "threshold": {"max": 5.0}},
        },
        "review": {"symbol_ratio": {"labelled": 48, "precision": 0.7292}},
    }
    given = {
        "available": 3131,
        "wanted": 9292,
        "given": 9090,
        "documents": 606,
        "documents_left_out": 11,
        "epochs": 2.9,
    }
    metrics["pack"]["mixture"] = {
        "unit": "bytes",
        "sources": {"web": given, "books": {**given, "given": 3030, "epochs": 0.9678}},
    }
    return metrics


def page(
    metrics: dict[str, Any], largest: list[dict[str, Any]] | None = None, reasons: int = 12, examples: Any = None
) -> str:
    shown = LARGEST if largest is None else largest
    return render("Textmill", Results(metrics, CURVES, [], shown, SPLITS, examples or {}), reasons)
