"""The HTML page of 500 runs: how long it takes to write and to open, and how large it is."""

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import stopwatch

TITLE = "Seconds to write and to open the page of 500 runs, and its megabytes"
RUNS = 500
OPENED = 5
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
)

DRAWN = """() => new Promise((done) => {
  const figure = document.getElementById("figure-curves");
  figure.scrollIntoView();
  const look = () => figure.querySelector(".main-svg")
    ? done(performance.now() / 1000) : requestAnimationFrame(look);
  look();
})"""
"""Goes to the first figure and waits until it is drawn."""


def made(folder: Path) -> None:
    """500 trained runs: two initializers, two activations, five rates, 25 seeds."""
    from unitgain.spec import parse
    from unitgain.train import fit

    specs = [
        parse(
            {
                "seed": seed,
                "data": {"_target_": "unitgain.data.sources.iris"},
                "model": {"_target_": "unitgain.nn.MLP", "depth": 10, "width": 16},
                "init": {"_target_": f"unitgain.nn.init.{init}"},
                "activation": {"_target_": f"torch.nn.{activation}"},
                "optimizer": {"_target_": "unitgain.pack.optim.Adam", "lr": lr},
                "trainer": {"max_epochs": 20, "progress": False},
            }
        )
        for activation in ("ReLU", "Tanh")
        for init in ("he", "xavier")
        for lr in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
        for seed in range(RUNS // 20)
    ]
    half = RUNS // 2
    for part in (slice(half), slice(half, RUNS)):
        fit(specs[part], [folder / f"run{i:03}" for i in range(RUNS)[part]])


def opened(page: Path) -> list[dict[str, float]]:
    """Seconds until the page is loaded, and until the figures in sight are drawn, in fresh windows."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or "chromium"
    times = []
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=list(OPTIONS))
        for _ in range(OPENED + 1):
            window = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            window.goto(page.as_uri())
            loaded = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
            times.append({"load": window.evaluate(loaded)})
            times[-1]["first_figure"] = window.evaluate(DRAWN)
            window.context.close()
        browser.close()
    return times[1:]


def run() -> dict[str, Any]:
    from unitgain.report.page import Question, write_page
    from unitgain.runs import read_runs

    with tempfile.TemporaryDirectory() as name:
        folder, page = Path(name) / "runs", Path(name) / "report.html"
        made(folder)
        question = Question("test/accuracy", ["activation", "init", "optimizer.lr"], higher=True)

        def write() -> None:
            write_page(read_runs([folder]), question, page, title="500 runs", command=["unitgain"])

        seconds = stopwatch(write)
        times = opened(page)
        size = page.stat().st_size / 1e6
    return {
        "bars": "under 8 MB, loaded in under 2 s",
        "runs": RUNS,
        "megabytes": round(size, 2),
        "seconds_to_write": round(seconds, 1),
        "seconds_to_load": round(statistics.median(t["load"] for t in times), 2),
        "seconds_to_first_figure": round(statistics.median(t["first_figure"] for t in times), 2),
        "windows": OPENED,
    }
