"""The folders of the repository."""

from pathlib import Path

REPO = Path(__file__).parents[2]
TESTS = REPO / "tests"
DOCS = REPO / "docs"
OUTPUT = REPO / "test-output"
"""Reports and screenshots of a test run; not under version control."""
