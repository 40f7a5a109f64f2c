"""The page of differences from the toolkit says what the oracle's list says."""

from pathlib import Path

from tests.oracle.differences import table

PAGE = Path(__file__).parents[2] / "docs/reference/differences-from-the-toolkit.md"


def test_page_holds_the_reviewed_list() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), "print it with: python -m tests.oracle.differences"
