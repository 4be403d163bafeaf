"""Do our rule sets decide as datatrove's? Both judge the same documents, datatrove in an environment of its own.

    python3.11 -m venv /tmp/datatrove-env && /tmp/datatrove-env/bin/pip install 'datatrove[processing]' spacy
    python -m benchmarks.rules_against_datatrove /tmp/datatrove-env/bin/python [folder of Parquet documents]

Documents are made so that every measure crosses its threshold step by step, from words of English, Chinese, Arabic and
code; then random mixtures, and real documents where a folder is given. Compared are the decision and its reason, first
with datatrove's (spaCy's) words given to our rules, where every decision must be equal, then each with its own words.
C4 counts sentences in both runs with our own words.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RULES = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
VOCABULARIES = {
    "english": "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work number night point home water room",
    "chinese": "时间 我们 中国 世界 人民 工作 学习 生活 问题 国家 发展 经济 社会 文化 历史 科学 技术 教育 政府 城市 朋友 音乐 今天",
    "arabic": "الوقت السنة الناس الطريق اليوم الرجل الشيء المرأة الحياة الطفل العالم المدرسة الدولة العائلة الطالب المجموعة البلد",
    "code": "def return self.value x=1 foo(bar) import if: else: a[i] b->c std::vector i++ &ptr */ // {} () => != lambda",
}
STOP = "the of and that"


def boundary_documents() -> Iterator[tuple[str, str]]:
    """(family, text): each measure taken over its threshold in single steps."""
    for language, vocabulary in VOCABULARIES.items():
        yield from ((f"{language}/{kind}", text) for kind, text in _sweeps(vocabulary.split(), random.Random(0)))


def _sweeps(words: list[str], rng: random.Random) -> Iterator[tuple[str, str]]:
    def some(n: int) -> list[str]:
        return [*STOP.split()[: min(n, 4)], *(rng.choice(words) + (str(k) if k % 3 else "") for k in range(n - 4))]

    def lines(n: int, size: int = 8) -> list[str]:
        return [" ".join([*some(size), f"{rng.choice(words)}{k}"]) for k in range(n)]

    for n in (0, 1, 2, 3, *range(46, 56), 99_998, 99_999, 100_000, 100_001):
        yield "words", " ".join(some(n))
    for length in (2, 3, 9, 10):
        for k in range(0, 64, 3):
            yield (
                "word_length",
                " ".join([STOP, *(["w" * length] * (64 - k)), *(["w" * (length + 1)] * k), *(["ab", "a"] * (k % 5))]),
            )
    for sign in ("#", "...", "…", "123", "--", "x...", "a#"):
        for k in range(34):
            yield f"signs {sign}", " ".join([*some(90), *([sign] * k)])
    for k in range(5):
        yield "stop_words", " ".join([*STOP.split()[:k], *(["word"] * 60)])
    for k in range(31):
        plain = lines(30)
        yield "bullets", "\n".join([*("- " + line for line in plain[:k]), *plain[k:]])
        yield "bullets", "\n".join([*("  • " + line for line in plain[:k]), *plain[k:]])
        yield "ellipsis_lines", "\n".join([*(line + "..." for line in plain[:k]), *plain[k:]])
        yield "punctuated", "\n".join([*(line + ".?!。؟"[k % 5] for line in plain[:k]), *plain[k:]])
        yield "short_lines", "\n".join([*("s" * (29 + k % 3) for _ in range(k)), *plain[k:]])
        for gap in ("\n", "\n\n"):
            yield "repeated_lines", gap.join([*plain[: 30 - k], *([plain[0]] * k)])
            yield "repeated_lines", gap.join([*plain[: 30 - k], *(["so."] * k)])
    for n in range(2, 11):
        phrase = " ".join(f"p{k}{words[k % len(words)]}" for k in range(n))
        for times in (1, 2, 3, 5):
            for filler in range(0, 260, 9):
                yield f"{n}-grams", " ".join([*(f"{rng.choice(words)}{k}" for k in range(filler)), *([phrase] * times)])
    for k in range(20, 60):
        yield "breaks", "\n".join(some(k)) + " " + " ".join(some(90)) + "."
    for sentences in range(3, 8):
        yield "sentences", " ".join(" ".join(some(5)) + "." for _ in range(sentences))
        yield "sentences", "\n".join(" ".join(some(5)) + "!" for _ in range(sentences))
    good = "\n".join(" ".join(some(6)) + f" number {k}." for k in range(6))
    for word in (998, 999, 1000, 1001):
        yield "long_word", f"{good}\nThis line has {'w' * word} in it."
    for size in range(1, 6):
        yield "line_words", "\n".join([" ".join(words[:size]) + "." for _ in range(6)])
    for said in (
        "lorem ipsum",
        "Lorem  ipsum",
        "JavaScript",
        "{",
        "javascript {",
        "Lorem Ipsum javascript",
        "use cookies",
    ):
        for end in (".", "", "...", "[1]", ".[12]", '"', "'", "”"):
            yield "phrases", f"{good}\nHere it says {said} and more{end}"
    yield from (
        ("empty", text) for text in ("", " ", "\n", "\n\n \n", "\t\n x", ".", "...", "\u3000", "\x00", "a\r\nb\x0cc")
    )


def random_documents(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Mixtures of words, signs and white space."""
    rng = random.Random(seed)
    pool = [
        *" ".join([*VOCABULARIES.values(), STOP]).split(),
        *[
            "#",
            "...",
            "…",
            ".",
            ",",
            "!",
            "?",
            "-",
            "•",
            "(",
            ")",
            '"',
            "'",
            "1",
            "23",
            ":-)",
            "don't",
            "it's",
            "a.b",
            "x/y",
        ],
    ]
    gaps = [" "] * 12 + ["\n", "\n\n", ". ", ", ", ".\n", "", "  ", "\t"]
    for _ in range(count):
        few = rng.sample(pool, rng.randint(3, len(pool)))
        yield "random", "".join(rng.choice(few) + rng.choice(gaps) for _ in range(rng.randint(0, 400)))


def real_documents(folder: Path) -> Iterator[tuple[str, str]]:
    """The texts of a folder of Parquet shards."""
    from tasks.documents.shards import read_documents

    for row in read_documents(folder, ["text", "source"]).to_pylist():
        yield f"real/{row['source']}", row["text"]


def theirs(documents: Path, answers: Path) -> None:
    """Run in datatrove's environment: its decision, reason and text by rule, and the words."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.utils.text import split_into_words

    filters = (GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(), FineWebQualityFilter())
    with answers.open("w") as out:
        for line in documents.read_text().splitlines():
            answer: dict[str, Any] = {}
            for name, rule in zip(RULES, filters, strict=True):
                document = Document(text=json.loads(line), id="0")
                try:
                    result = rule.filter(document)
                except ZeroDivisionError:
                    result = (False, "ZeroDivisionError")
                answer[name] = ("" if result is True else result[1].removeprefix("gopher_"), document.text)
            out.write(json.dumps({"answer": answer, "words": split_into_words(json.loads(line))}) + "\n")


def ours(text: str, words: list[str] | None) -> dict[str, tuple[str, str]]:
    """Our reason ("" to keep) and text by rule."""
    import numpy as np

    from tasks.clean.rules import c4
    from tasks.clean.rules.rule_sets import RULE_SETS
    from tasks.clean.rules.tokenized_text import TokenizedText

    spans, at = [], 0
    for word in words or []:
        at = text.index(word, at)
        spans.append((at, at + len(word)))
        at += len(word)
    page = TokenizedText(text, np.array(spans, np.int64).reshape(-1, 2) if words is not None else None)
    answer = {}
    for name in RULES:
        kept, verdict = text, None
        if name == "c4":
            kept, _, verdict = c4.drop_lines(text)
        else:
            verdict = RULE_SETS[name](page)
        answer[name] = (verdict[0].removeprefix(f"{name}_") if verdict else "", kept)
    return answer


def main(peer: str, folder: Path | None) -> None:
    """Make documents, let both judge, print disagreements and their share."""
    made = [*boundary_documents(), *random_documents(3000, 1), *(real_documents(folder) if folder else [])]
    with tempfile.TemporaryDirectory() as scratch:
        documents, answers = Path(scratch, "documents"), Path(scratch, "answers")
        documents.write_text("".join(json.dumps(text) + "\n" for _, text in made))
        subprocess.run([peer, __file__, "--theirs", str(documents), str(answers)], check=True)
        replies = [json.loads(line) for line in answers.read_text().splitlines()]
    started = time.perf_counter()
    given = Counter(f"{name}: {reason or 'keep'}" for reply in replies for name, (reason, _) in reply["answer"].items())
    print("datatrove's answers: " + ", ".join(f"{answer} {count}" for answer, count in sorted(given.items())))
    for title, own in (("datatrove's words", False), ("own words", True)):
        compared, decisions, reasons, shown = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        for (family, text), reply in zip(made, replies, strict=True):
            answer = ours(text, None if own else reply["words"])
            group = "real" if family.startswith("real") else "random" if family == "random" else "boundary"
            for name in RULES:
                mine, their = answer[name], reply["answer"][name]
                key = f"{group:9s} {name}"
                compared[key] += 1
                decisions[key] += bool(mine[0]) != bool(their[0])
                reasons[key] += mine[0] != their[0] or (not mine[0] and mine[1] != their[1])
                if mine[0] != their[0] and shown[key] < 3:
                    shown[key] += 1
                    print(
                        f"  {title}: {family} {name}: ours {mine[0] or 'keep'}, theirs {their[0] or 'keep'}: {text[:60]!r}"
                    )
        print(f"{title}: documents, other decision, other reason or text")
        for key in sorted(compared):
            print(f"  {key:28s} {compared[key]:7d} {decisions[key]:5d} {reasons[key]:5d}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    if sys.argv[1] == "--theirs":
        theirs(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
