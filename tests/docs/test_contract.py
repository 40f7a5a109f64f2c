"""The page about the contract names every clause, and says "tested" of those alone that tests cite."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.places import REPOSITORY

PAGE = REPOSITORY / "docs/reference/contract.md"
# How many clauses each chapter of the contract has about images, training, the variables of scripts, and hosting.
TRAINING = {0: 12, 1: 22, 2: 16, 3: 12, 4: 15, 5: 9, 6: 9, 7: 6, 8: 6, 9: 3, 10: 6, 11: 7, 12: 7}
HOSTING = {13: 13, 14: 8, 15: 42, 18: 6, 19: 5, 20: 8, 21: 3, 22: 3}
# What stands in front of containers: the calls, tuning, Step Functions, pipelines, and the SDK's local mode.
PLATFORM = {23: 6, 24: 8, 25: 3, 26: 6}
CHAPTERS = TRAINING | HOSTING | PLATFORM
# Those about hosting from the chapters of contradictions and of open questions.
DOUBTS = ["28.5", "28.6", "28.7", "28.9", "28.10", "28.12", "28.13", "29.1", "29.3", "29.7", "29.8", "29.9"]
CLAUSES = [f"{chapter}.{number}" for chapter, count in CHAPTERS.items() for number in range(1, count + 1)] + DOUBTS
TESTED = "tested"
REASON = "not tested: "

_ROW = re.compile(r"^\| (\d+\.\d+) \| (.+?) \| (.*) \|$", re.MULTILINE)
_NUMBER = r"\d{1,2}\.\d{1,2}\b"
_CITATION = re.compile(rf"(?:Contract )?({_NUMBER}(?:(?:, and |, | and | to |-){_NUMBER})*)")


@dataclass(frozen=True)
class Row:
    """One line of the page."""

    clause: str
    promise: str
    proof: str


def read_page() -> list[Row]:
    return [Row(*match) for match in _ROW.findall(PAGE.read_text(encoding="utf-8"))]


def citations(folder: Path) -> dict[str, set[str]]:
    """The tests, as file::name, that cite a clause at the beginning of their docstrings."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for test, cited in read_tests(path):
            for clause in cited:
                found.setdefault(clause, set()).add(f"{path.relative_to(folder)}::{test}")
    return found


def read_tests(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The name of each test in a file, and the clauses that it cites."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            match = _CITATION.match(ast.get_docstring(node) or "")
            yield node.name, re.findall(_NUMBER, match[1]) if match else []


def test_every_clause_has_one_line_in_its_order() -> None:
    assert [row.clause for row in read_page()] == CLAUSES


def test_every_line_says_what_is_promised_and_is_tested_or_gives_a_reason() -> None:
    for row in read_page():
        assert row.promise.endswith("."), row
        assert row.proof == TESTED or len(row.proof) > len(REASON) + 20, row
        assert row.proof == TESTED or row.proof.startswith(REASON), row


def test_every_clause_that_is_said_to_be_tested_is_cited_by_a_test() -> None:
    cited = citations(REPOSITORY / "tests")
    assert not [row.clause for row in read_page() if row.proof == TESTED and row.clause not in cited]


def test_no_test_cites_a_clause_that_there_is_not() -> None:
    cited = citations(REPOSITORY / "tests")
    assert not {clause: tests for clause, tests in cited.items() if clause not in CLAUSES}


@pytest.mark.parametrize(
    ("docstring", "clauses"),
    [
        ("1.7, 1.9.", ["1.7", "1.9"]),
        ("4.11: under network isolation there is no 3.11 to install.", ["4.11"]),
        ("Contract 1.7 and 1.10; a failed job leaves no model.", ["1.7", "1.10"]),
        ("11.1-11.4 and table B.2.", ["11.1", "11.4"]),
        ("Python 3.11 is enough.", []),
        ("", []),
    ],
)
def test_citation_is_what_a_docstring_begins_with(tmp_path: Path, docstring: str, clauses: list[str]) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(f'def test_it():\n    """{docstring}"""\n')
    assert citations(tmp_path) == {clause: {"test_it.py::test_it"} for clause in clauses}
