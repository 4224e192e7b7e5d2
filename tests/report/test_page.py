"""The HTML page: what it says, that it escapes everything, and that it works in a browser without a network."""

import re
import shutil

import pytest

from unitgain.errors import ConfigError
from unitgain.report import views
from unitgain.report.interactive import plot_curves, plot_profiles
from unitgain.report.page import Question, write_page
from unitgain.report.run_groups import groups_of
from unitgain.runs import read_runs

QUESTION = Question("test/accuracy", ["init", "model.depth"], higher=True)
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def page_of(folder, question=QUESTION):
    command = ["unitgain", "report", str(folder)]
    return write_page(
        read_runs([folder]), question, folder / "report.html", title="Depth", command=command
    )


def text_of(html):
    """Without scripts, styles and tags."""
    html = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_it_says_what_is_supported_and_how_to_do_it_again(ablation):
    text = text_of(page_of(ablation).read_text())
    assert "12 runs, 12 of them with test/accuracy" in text
    assert "init explains 92% of the variance of test/accuracy" in text
    assert "xavier, 8 is worse than he, 8" in text
    assert f"unitgain report {ablation}" in text
    assert f"unitgain reproduce {ablation}/run080" in text
    assert "unitgain train model.depth=8 seed=0" in text


def test_each_run_is_compared_with_the_best_or_with_the_baselines(ablation):
    html = page_of(ablation).read_text()
    assert (
        'compared with the baseline, <a href="#run-5">run082</a>, the best in test/accuracy' in html
    )
    row = html[html.index('<details id="run-6">') :]
    row = text_of(row[: row.index("</details>")])
    assert "init he xavier" in row
    assert "model.depth 8 2" in row
    given = Question("test/accuracy", ["init"], higher=True, baseline="xavier")
    assert "run120</a>, of xavier" in page_of(ablation, given).read_text()


def test_what_failed_is_listed_with_its_cause(ablation, made):
    made.write(ablation / "blown", made.xavier, 8, 7, status="diverged")
    made.write(ablation / "half", made.he, 8, 8, status=None)
    text = text_of(page_of(ablation).read_text())
    part = text[text.index("What did not finish") : text.index("Each run")]
    assert re.search(r"blown diverged .*step 7", part)
    assert "half unfinished" in part


def test_nothing_of_a_run_becomes_html(tmp_path, made):
    made.write(tmp_path / "a", name=EVIL, tags=[EVIL])
    made.write(tmp_path / "b", made.xavier, name="</script><b>x", seed=1)
    made.write(tmp_path / "<i>c", made.xavier, seed=2)
    html = page_of(tmp_path).read_text()
    assert EVIL not in html
    assert "<b>x" not in html
    assert "<i>c" not in html
    assert "&lt;script&gt;document.title" in html


def test_a_run_alone_has_a_page_too(tmp_path, made):
    made.write(tmp_path / "only")
    text = text_of(page_of(tmp_path, Question("test/accuracy", [], higher=True)).read_text())
    assert "One run." in text
    assert "Learning curves" in text
    assert "Tree of effects" not in text


def test_a_key_that_there_is_not_is_refused(ablation):
    with pytest.raises(ConfigError, match=r"model\.dept: .*did you mean model\.depth"):
        page_of(ablation, Question("test/accuracy", ["model.dept"], higher=True))


def test_it_asks_for_nothing_from_elsewhere(ablation):
    html = page_of(ablation).read_text()
    head = html[: html.index("<script")] + html[html.rindex("</script>") :]
    assert not re.search(r"(src|href)=\"(?!#|data:)", head)
    assert "default-src 'none'" in head


def test_five_hundred_runs_fit_into_eight_megabytes(tmp_path, made):
    for i in range(500):
        init = made.he if i % 2 else made.xavier
        made.write(tmp_path / f"run{i:03}", init, depth=2 + i % 5, seed=i // 10, epochs=2)
    assert page_of(tmp_path).stat().st_size < 8e6


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium: make browser installs it")
    from playwright.sync_api import sync_playwright

    options = "--no-sandbox --disable-gpu --disable-quic --disable-background-networking --disable-component-update"
    with sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=options.split())
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Opens a page; what it complains of and asks for is collected."""
    contexts = []

    def opened(path, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.complaints, page.requests = [], []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


def column(page, index):
    return page.eval_on_selector_all(
        "#table tbody tr:not([hidden])", f"rows => rows.map(r => r.cells[{index}].textContent)"
    )


def test_the_table_sorts_and_filters(ablation, made, open_page):
    made.write(ablation / "blown", made.xavier, 8, 7, status="diverged")
    page = open_page(page_of(ablation))
    names = page.eval_on_selector_all("#table th", "heads => heads.map(h => h.dataset.name)")
    metric, seed = names.index("test/accuracy"), names.index("seed")
    head = page.locator('#table th[data-name="test/accuracy"] button')
    head.click()
    values = column(page, metric)
    assert values[-1] == ""
    assert [float(v) for v in values[:-1]] == sorted(float(v) for v in values[:-1])
    head.click()
    values = column(page, metric)
    # What has no value stays last, whichever way.
    assert values[-1] == ""
    assert [float(v) for v in values[:-1]] == sorted((float(v) for v in values[:-1]), reverse=True)
    page.fill("#filter", "he seed=1 test/accuracy>0.75")
    assert column(page, seed) == ["1"]
    assert page.text_content("#shown") == "1 of 13 runs"
    page.fill("#filter", "DIVERGED")
    assert column(page, 0) == ["blown"]
    page.fill("#filter", "")
    assert len(column(page, 0)) == 13
    assert page.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (420, "dark")])
def test_figures_are_drawn_where_they_are_looked_at(ablation, open_page, width, scheme):
    page = open_page(page_of(ablation), width, scheme)
    figures = page.eval_on_selector_all(".plot", "all => all.map(f => f.id)")
    assert len(figures) == 7
    for name in figures:
        page.locator(f"#{name}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#{name} .main-svg")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 24, 28)")
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_figure_tells_more_where_it_is_pointed_at(ablation, open_page):
    page = open_page(page_of(ablation))
    page.locator("#figure-heatmap").scroll_into_view_if_needed()
    page.wait_for_selector("#figure-heatmap .heatmaplayer image, #figure-heatmap .hm")
    box = page.locator("#figure-heatmap .nsewdrag").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    page.wait_for_selector("#figure-heatmap .hoverlayer .hovertext")
    assert "of 3 runs" in page.text_content("#figure-heatmap .hoverlayer")
    assert page.complaints == []


def test_a_link_opens_its_run(ablation, open_page):
    page = open_page(page_of(ablation))
    page.locator("#table tbody a").first.click()
    opened = page.eval_on_selector_all("details[open]", "all => all.map(d => d.id)")
    assert opened == ["run-0"]


def test_markup_of_a_run_does_nothing_in_a_browser(tmp_path, made, open_page):
    target = {"_target_": "unitgain.nn.init.he"}
    for i in range(3):
        made.write(tmp_path / f"run{i}", target, name=EVIL, seed=i, tags=[EVIL, str(i)])
    page = open_page(page_of(tmp_path, Question("test/accuracy", ["tags"], higher=True)))
    for name in page.eval_on_selector_all(".plot", "all => all.map(f => f.id)"):
        page.locator(f"#{name}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#{name} .main-svg")
    assert page.title() == "Depth · unitgain"
    assert page.locator("img").count() == 0


def test_bands_are_drawn_without_the_points_of_their_edges(ablation):
    groups = groups_of(read_runs([ablation]), ["init"])
    drawn = plot_curves(views.curves(read_runs([ablation]), groups, "val/accuracy"), "val/accuracy")
    assert {trace.mode for trace in drawn.data} == {"lines"}


def test_runs_without_any_value_have_a_page(tmp_path, made):
    for depth in (2, 8):
        made.write(tmp_path / f"d{depth}", depth=depth, epochs=0, status="diverged")
    text = text_of(page_of(tmp_path).read_text())
    assert "2 runs, 0 of them with test/accuracy" in text
    assert "Parallel coordinates" not in text


def test_epochs_and_layers_are_whole_numbers(ablation):
    table = read_runs([ablation])
    groups = groups_of(table, ["init"])
    curves = plot_curves(views.curves(table, groups, "val/accuracy"), "val/accuracy")
    assert (curves.layout.xaxis.tick0, curves.layout.xaxis.dtick) == (1, 1)
    shown = views.profiles(table, groups, ["grad_preactivation"])["grad_preactivation"]
    drawn = plot_profiles(shown, "gradient norm")
    assert (drawn.layout.xaxis2.tick0, drawn.layout.xaxis2.dtick) == (1, 1)


def test_a_tree_that_splits_nothing_is_not_drawn(tmp_path, made):
    # Seeds differ by as much as depths do.
    for depth in (2, 4):
        for seed in range(3):
            made.write(tmp_path / f"d{depth}{seed}", depth=depth, seed=seed)
    text = text_of(page_of(tmp_path, Question("test/accuracy", [], higher=True)).read_text())
    assert "Parallel coordinates" in text
    assert "Tree of effects" not in text
