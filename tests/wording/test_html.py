"""Sections in a notebook: everything is there, nothing can write into the page."""

from __future__ import annotations

import subprocess
import sys

from qatplan.wording.html import to_html
from qatplan.wording.sections import Table, bullets, section

HOSTILE = "<script>alert('x')</script>"


def test_paragraphs_lists_and_tables_are_set() -> None:
    table = Table(headers=("name", "runs"), rows=(("a", "1"), ("b", None)), strong=1)
    page = to_html(
        [section("Title", "A sentence.", bullets("one", "two"), table), section("", "No title."), section("E")]
    )
    for said in (
        "<h4>Title</h4>", "<p>A sentence.</p>", "<li>two</li>", '<th scope="col">name</th>',
        '<th scope="col" class="n">runs</th>', '<td class="n">1</td>', '<tr class="strong"><td>b</td><td class="n">',
        "<p>No title.</p>",
    ):  # fmt: skip
        assert said in page, said
    assert page.count("<h4>") == 1


def test_a_warning_is_framed() -> None:
    assert '<div class="warning"' in to_html([section("Flags", "Mind this.", warning=True)])
    assert '<div class="warning"' not in to_html([section("Flags", "Mind this.")])


def test_whatever_a_result_holds_is_escaped() -> None:
    table = Table(headers=(HOSTILE,), rows=((HOSTILE,),), words=(0,))
    page = to_html([section(HOSTILE, HOSTILE, bullets(HOSTILE), table)])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 6


def test_characters_that_html_forbids_are_replaced() -> None:
    assert "a\ufffdb?c" in to_html([section("", "a\x00b\ud800c")])


def test_templates_are_loaded_where_a_page_is_set_and_nowhere_else() -> None:
    code = "import sys, qatplan.wording.text, qatplan.wording.fit; assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
