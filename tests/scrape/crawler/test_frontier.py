"""The frontier keeps what it was told, in an order that does not depend on what answers first."""

from pathlib import Path

from tasks.scrape.crawler.frontier import Frontier, Link, Outcome


def test_frontier_keeps_what_it_was_told(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path / "f.sqlite")
    frontier.start([Link("a", "a"), Link("b", "b")])
    first, second = frontier.level(0)
    # The answer that comes first does not decide the order of the next level, nor which spelling of a URL is used.
    frontier.finish(second, Outcome("saved"), b"B", [Link("x", "x-from-b"), Link("y", "y")])
    frontier.finish(first, Outcome("saved"), b"A", [Link("z", "z"), Link("x", "x-from-a"), Link("no", "no", "denied")])
    frontier.close()
    frontier = Frontier(tmp_path / "f.sqlite")
    assert [visit.url for visit in frontier.level(1)] == ["z", "x-from-a", "y"]
    assert frontier.saved() == 2
    frontier.close_open(0)
    assert frontier.outcomes() == {"excluded": 1, "saved": 2, "too_deep": 3}
    assert list(frontier.warc_records()) == [b"A", b"B"]
