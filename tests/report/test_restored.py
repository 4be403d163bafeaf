"""The report of encoders and encoder-decoders: what was measured is shown, what does not exist for them is not."""

import pytest

from tasks.report.findings import findings
from tasks.report.headline import headline
from tests.helpers.reporting import CURVES, PLAIN, encoder, page


@pytest.mark.parametrize(
    ("objective", "asked"), [("masked", "masked tokens"), ("span_corruption", "tokens of dropped spans")]
)
def test_what_it_said_of_corrupted_text_is_shown(objective: str, asked: str) -> None:
    html = page(encoder(objective))
    for shown in (asked, "4,321", "0.4375", "0.0625", "documents of books", "order of 0.8125 of the texts"):
        assert shown in html
    assert "q8_0 was passed over: knows Llama models." in html
    assert "probe of source was not measured: it takes two classes." in html
    for hidden in ("xz -9e", "next-token", "you chat with", "continues", "F1 of replaced", "it goes on with a text"):
        assert hidden not in html
    assert "F1 of replaced" in page(encoder("replaced_token", f1=0.5))


def test_the_page_of_a_decoder_says_nothing_of_it() -> None:
    html = page(PLAIN)
    assert "xz -9e" in html
    assert "by frequencies" not in html


def test_it_has_learned_when_it_is_better_than_frequencies() -> None:
    def learned(**changes: object) -> bool:
        metrics = encoder(**changes)
        metrics["finetune"] = {"steps": 0}
        (found,) = [finding for finding in findings(metrics, CURVES) if "learn" in finding.question]
        assert "43.8% of 4,321 masked tokens" in found.text
        return found.good

    assert learned()
    assert not learned(bits_per_byte=2.5)
    assert not any("tuning" in finding.question for finding in findings(encoder(), CURVES))
    nothing = encoder()
    nothing["evaluate"] |= {"masked": None, "not_measured": {"masked": "no document is held out"}}
    (found,) = [finding for finding in findings(nothing, CURVES) if "learn" in finding.question]
    assert (found.good, found.text) == (False, "Not measured: no document is held out.")
    nothing["quantize"]["formats"] = {}
    assert "None." in page(nothing)


def test_its_headline_figures() -> None:
    figures = headline(encoder("replaced_token", f1=0.5))
    assert figures["replaced_token_accuracy"] == 0.4375
    assert figures["replaced_token_bits_per_byte"] == 1.75
    assert figures["replaced_token_f1"] == 0.5
    assert "validation_bits_per_byte" not in figures
    assert not any("accuracy" in name for name in headline(PLAIN))
