"""The page in a real browser: no message on the console, nothing asked of the network, no sideways overflow."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.report_sweeps import fit_of, write_runs
from support.reports import build

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
# Errors are caught in the page's own window; a policy that allows nothing from outside turns every request into one.
FRAME = """<!DOCTYPE html><html><body><p id="said"></p><script>
const pages = %s; const said = [];
function measure(width, i) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 800; frame.srcdoc = document.getElementById("page").textContent;
  frame.onload = () => {
    const inner = frame.contentDocument, root = inner.documentElement;
    const cut = [...inner.querySelectorAll("p, li, h1, h2, h3, pre, figcaption, dd")]
      .filter(e => e.getBoundingClientRect().right > width + 1).length;
    const svg = [...inner.querySelectorAll("svg")].filter(e => e.getBoundingClientRect().height > 50).length;
    const asked = frame.contentWindow.performance.getEntriesByType("resource").length;
    said.push([width, root.scrollWidth - root.clientWidth, cut, svg, asked]);
    document.getElementById("said").textContent = JSON.stringify(said);
  };
  document.body.append(frame);
}
window.onload = () => pages.forEach(measure);
</script><script type="text/plain" id="page">%s</script></body></html>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    write_runs(folder / "runs.parquet")
    fit_of(folder / "runs.parquet").write(folder / "fit.json")
    out = folder / "report.html"
    out.write_text(build(folder / "fit.json").html, encoding="utf-8")
    return out


def browse(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)


def test_it_fits_a_phone_and_a_desk_and_asks_for_nothing(page: Path, tmp_path: Path) -> None:
    source = page.read_text(encoding="utf-8")
    assert "</script" not in source
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME % ("[320, 390, 1200]", source), encoding="utf-8")
    told = browse(frame, tmp_path, "--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom")
    assert "CONSOLE" not in told.stderr
    said = re.search(r'<p id="said">([^<]*)</p>', told.stdout)
    assert said is not None
    measured = sorted(json.loads(html.unescape(said[1])))
    figures = source.count("<svg ")
    assert measured == [[width, 0, 0, figures, 0] for width in (320, 390, 1200)]


def test_it_prints_on_pages(page: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.pdf"
    told = browse(page, tmp_path, "--enable-logging=stderr", "--no-pdf-header-footer", f"--print-to-pdf={out}")
    assert "CONSOLE" not in told.stderr
    content = out.read_bytes()
    assert content.startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 5 <= pages <= 16
