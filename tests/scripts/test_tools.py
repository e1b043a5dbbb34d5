import pytest

from experiments.results import newest_of, results_of, write_rows
from experiments.sweep import RECORD
from scripts import dream, evaluate, figures, sweep
from tests import runs


@pytest.fixture(autouse=True)
def own_cache(monkeypatch):
    for script in (dream, evaluate):
        monkeypatch.setattr(script, "use_compilation_cache", lambda: None)


def outcome(main, *args, **kwargs):
    try:
        main(*args, **kwargs)
    except SystemExit as stop:
        return stop.code
    return 0


def test_evaluate_and_film(tmp_path, capfd):
    folder = str(runs.finished("gymnasium").folder)
    film = tmp_path / "episode.gif"
    assert outcome(evaluate.main, folder, episodes=3, honest=True, film_to=str(film)) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith("deployed student (no search): mean return ")
    assert " over 3 episodes (" in out
    assert "What the model dreamed against what happened" in out
    assert ["1", "2,000"] in [
        line.split()[:2] for line in out.splitlines()
    ]  # every decision that it lived, one step on
    assert out.splitlines()[-1].endswith(f"to {film}")
    assert film.stat().st_size > 1000


@pytest.mark.parametrize(
    ("folder", "options", "message"),
    [
        ("nowhere", {}, "error: There is no run folder nowhere"),
        (None, dict(episodes=0), "error: episodes is 0: give 1 or more"),
        (None, dict(film_to="film.avi", episodes=1), "error: --film film.avi: give a name that ends in .gif or .mp4"),
    ],
)
def test_evaluate_says_what_is_wrong(capfd, folder, options, message):
    assert outcome(evaluate.main, folder or str(runs.finished("gymnasium").folder), **options) == 1
    err = capfd.readouterr().err
    assert err.startswith(message)
    assert len(err.splitlines()) == 1


def test_watch_a_dream(tmp_path, capfd):
    folder, film = str(runs.finished("gymnax").folder), tmp_path / "watched" / "dream.gif"
    assert outcome(dream.main, folder, out=str(film), horizon=3) == 0
    assert capfd.readouterr().out.startswith(f"filmed 3 steps to {film}, all of them on one sheet to ")
    assert {path.name for path in film.parent.iterdir()} == {"dream.gif", "dream.png", "dream-tree.png"}
    assert outcome(dream.main, folder, out="dream.webm") == 1
    assert capfd.readouterr().err == "error: --out dream.webm: give a name that ends in .gif or .mp4\n"


def test_figures_without_rows(tmp_path, capfd):
    assert outcome(figures.main, root=tmp_path) == 0
    said = capfd.readouterr().out
    assert said.startswith("ablations\n\n| task |")
    assert "\nsample_efficiency\n\n| task |" in said
    assert "drew" not in said
    assert outcome(figures.main, ("components",), root=tmp_path) == 0
    assert capfd.readouterr().out.startswith("components\n")
    assert outcome(figures.main, root=tmp_path / "mistyped") == 1
    assert "mistyped is no folder: give one that scripts.sweep made rows below" in capfd.readouterr().err
    assert outcome(figures.main, ("what",)) == 1
    assert capfd.readouterr().err.startswith("error: there is no question 'what'")


def test_figures_of_rows_that_were_made_again(tmp_path, capfd):
    folder, task = tmp_path / "components", "minatar-breakout"
    write_rows(results_of(folder, task), newest_of(RECORD / "components", task))
    assert outcome(figures.main, ("components",), root=tmp_path) == 0
    *_, drew, beside = capfd.readouterr().out.splitlines()
    assert drew == f"drew {folder / 'figures' / 'minatar-breakout.png'}"
    assert beside.startswith("minatar-breakout, by commit ")
    assert beside.endswith(" runs end at the recorded return, to the last digit")


def test_sweep_of_nothing(capfd):
    assert outcome(sweep.main, "sample_efficiency", seeds=0) == 0
    assert "0 runs to make" in capfd.readouterr().out
    assert outcome(sweep.main, "why") == 1
    assert capfd.readouterr().err.startswith("error: there is no question 'why'")
