"""Every link between documents leads somewhere, and every document can be reached."""

from pathlib import Path

import pytest

from tests.docs.markdown import anchors, links

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), ROOT / "opt_ml_template/README.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_resolves(document: Path) -> None:
    broken = [target for target in links(document.read_text(encoding="utf-8")) if not resolves(document, target)]
    assert not broken, f"{document}: {broken}"


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs/index.md"
    linked = {(index.parent / target).resolve() for target in links(index.read_text(encoding="utf-8"))}
    missing = [str(page) for page in ROOT.glob("docs/**/*.md") if page != index and page not in linked]
    assert not missing


def resolves(document: Path, target: str) -> bool:
    if target.startswith(("https://", "mailto:")):
        return True  # asking the network would make this test fail for other people's reasons
    path, _, anchor = target.partition("#")
    file = (document.parent / path).resolve() if path else document
    return file.exists() and (not anchor or anchor in anchors(file))
