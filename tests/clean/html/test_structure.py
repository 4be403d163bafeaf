"""What a page says by its structure survives extraction, in both tiers and both formats: numbers, formulas, columns."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.clean.html.extract import ExtractionOptions, extract_page

PARAGRAPH = "<p>The museum keeps a large room of wheels, belts and levers, and somebody shows how they move.</p>"
TEX = "<annotation encoding='application/x-tex'>{}</annotation>"
EVERYWHERE = pytest.mark.parametrize(
    "how",
    [ExtractionOptions(tier, format) for tier in ("fast", "precise") for format in ("text", "markdown")],
    ids="{0[0]} {0[1]}".format,
)


def said(body: str, how: ExtractionOptions) -> str:
    """What a page with `body` between paragraphs says besides these."""
    html = f"<html><body><main>{PARAGRAPH * 2}{body}{PARAGRAPH}</main></body></html>"
    return "\n".join(line for line in extract_page(html, how)[0].split("\n") if line.strip() and "museum" not in line)


def columns(text: str) -> list[list[str]]:
    """The cells of the lines of a table, in tabs or pipes."""
    rows = [re.split(r" ?\| ?", line.strip()[1:-1]) if "|" in line else line.split("\t") for line in text.split("\n")]
    return [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= {"-", " "}]


@EVERYWHERE
def test_an_exponent_is_no_digit_of_the_number(how: ExtractionOptions) -> None:
    text = said(
        "<p>6.022 × 10<sup>23</sup>, 2<sup>n</sup>, 10<sup>-3</sup> m<sup>2</sup>, log<sub>2</sub>8 <b>7</b><sup>9</sup>",
        how,
    )
    if how.format == "markdown" and how.extraction == "precise":
        assert "10<sup>23</sup>" in text  # which is Markdown, too
    else:
        assert text == "6.022 × 10^23, 2^n, 10^-3 m^2, log_(2)8 7^9"


@pytest.mark.parametrize("format", ["text", "markdown"])
def test_what_stands_high_and_is_no_exponent_stays(format: str) -> None:
    body = "<p><sup>1</sup> The 1<sup>st</sup> and 2<sup>e</sup>, a claim<sup>[3]</sup> of Acme<sup>TM</sup>, H<sub>2</sub>O"
    assert said(body, ExtractionOptions("fast", format)) == "1 The 1st and 2e, a claim[3] of AcmeTM, H2O"


@EVERYWHERE
@pytest.mark.parametrize(
    ("list_", "numbers"),
    [
        ("<ol start=3><li>wait<li>close</ol>", [3, 4]),
        ("<ol reversed><li>third<li>second<li>first</ol>", [3, 2, 1]),
        ("<ol><li>one<li value=7>seven<li><p>eight</p></ol>", [1, 7, 8]),
        ("<ol start=-1><li>below<li>nought</ol>", [-1, 0]),
        ("<ol start=many><li>one</ol>", [1]),
    ],
)
def test_items_bear_the_numbers_of_the_page(how: ExtractionOptions, list_: str, numbers: list[int]) -> None:
    lines = said(list_, how).split("\n")
    assert [int(re.match(r"\s*(-?\d+)\. \w", line)[1]) for line in lines] == numbers  # type: ignore[index]


@EVERYWHERE
def test_cells_stand_under_their_headers(how: ExtractionOptions) -> None:
    rows = "<tr><td>Bob<td><td>bob<td>B2<tr><td>Cid<td><td><td>C3<tr><td><td>14<td>dee<td>D4"
    table = f"<table><tr><th>Name<th>Phone<th>Mail<th>Room<tr><td>Ann<td>11<td>ann<td>A1{rows}</table>"
    assert columns(said(table, how)) == [
        *(["Name", "Phone", "Mail", "Room"], ["Ann", "11", "ann", "A1"]),
        *(["Bob", "", "bob", "B2"], ["Cid", "", "", "C3"], ["", "14", "dee", "D4"]),
    ]


@EVERYWHERE
def test_cells_that_span_rows_and_columns_keep_the_others_in_place(how: ExtractionOptions) -> None:
    head = "<tr><th rowspan=2>Country<th colspan=2>City<th rowspan=2>People<tr><th>Name<th>River"
    table = f"<table>{head}<tr><td rowspan=2>France<td>Paris<td>Seine<td>2<tr><td>Lyon<td>Rhône<td>1</table>"
    assert columns(said(table, how)) == [
        *(["Country", "City", "", "People"], ["", "Name", "River", ""]),
        *(["France", "Paris", "Seine", "2"], ["", "Lyon", "Rhône", "1"]),
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), min_size=2, max_size=4),
        min_size=2,
        max_size=5,
    )
)
def test_every_cell_stands_in_its_place_of_the_grid(cells: list[list[tuple[int, int, bool]]]) -> None:
    """The table model of HTML's standard, 4.9.12.1: a cell takes the first place in its row that is free."""
    taken: dict[tuple[int, int], str] = {}
    html, body = "", len(cells)
    for y, row in enumerate(cells):
        html, x = html + "<tr>", 0
        for number, (width, height, empty) in enumerate(row):
            while (y, x) in taken:
                x += 1
            word = "" if empty else f"w{y}{number}"
            html += f"<td colspan={width} rowspan={height}>{word}"
            for dx in range(width):
                for dy in range(min(height, body - y)):
                    taken.setdefault((y + dy, x + dx), "" if dx or dy else word)
            x += width
    expected = {word: x for (_, x), word in taken.items() if word}
    for format, border in (("text", "\t"), ("markdown", "|")):
        lines = extract_page(f"<table>{html}</table>", ExtractionOptions("fast", format, False))[0].split("\n")
        rows = [line.strip("|").split(border) if border == "|" else line.split(border) for line in lines]
        assert {cell.strip(): x for row in rows for x, cell in enumerate(row) if cell.strip(" -")} == expected


@EVERYWHERE
def test_a_table_that_arranges_a_page_gets_no_cells(how: ExtractionOptions) -> None:
    assert said("<table><tr><td><td><p>one</p><h3>Two</h3><tr><td>three<td>four</table>", how).count("\t\t") == 0


@EVERYWHERE
def test_header_cells_named_like_buttons_are_kept(how: ExtractionOptions) -> None:
    table = "<table><tr><th>Name<th>Email<th>Facebook<th>Print<tr><td>Ann<td>mail<td>no<td>PDF</table>"
    assert columns(said(table, how)) == [["Name", "Email", "Facebook", "Print"], ["Ann", "mail", "no", "PDF"]]


MATHML = "<mrow><mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup></mrow>"
FORMULAS = {
    "katex": f"<span class=katex><span class=katex-mathml><math><semantics>{MATHML}{TEX.format('E=mc^2')}</semantics></math></span>"
    "<span class=katex-html aria-hidden=true><span>E</span><span>=</span><span>mc</span><span>2</span></span></span>",
    "wikipedia": f"<span class=mwe-math-element><span style='display: none'><math alttext='{{\\displaystyle E=mc^2}}'>{MATHML}</math>"
    "</span><img alt='{\\displaystyle E=mc^2}' src=x></span>",
    "mathjax 2": f"<span class=MathJax><nobr><span>E=mc2</span></nobr><span class=MJX_Assistive_MathML><math>{MATHML}</math></span>"
    "</span><script type='math/tex'>E=mc^2</script>",
    "mathjax 3": f"<mjx-container><mjx-math>E=mc2</mjx-math><mjx-assistive-mml><math>{MATHML}</math></mjx-assistive-mml></mjx-container>",
    "mathml": f"<math>{MATHML}</math>",
}


@EVERYWHERE
@pytest.mark.parametrize("kind", FORMULAS)
def test_a_formula_stands_there_once(how: ExtractionOptions, kind: str) -> None:
    tex = kind in ("katex", "wikipedia")
    formula = ("$E=mc^2$" if how.format == "markdown" else r"\(E=mc^2\)") if tex else "E=mc^2"
    assert said(f"<p>The law {FORMULAS[kind]} holds.", how) == f"The law {formula} holds."


def test_mathml_is_written_as_at_a_keyboard() -> None:
    half = "<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>12</mn></mfrac>"
    sums = "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover><msub><mi>x</mi><mi>i</mi></msub>"
    root = "<msqrt><mi>x</mi></msqrt><mo>+</mo><mroot><mn>8</mn><mn>3</mn></mroot>"
    assert said(f"<p>So <math>{half}<mo>=</mo>{sums}<mo>−</mo>{root}</math>.", ExtractionOptions()) == (
        "So (a+b)/12=∑_(i=1)^nx_i−sqrt(x)+8^(1/3)."
    )
