"""Films a dream beside what was real: `python -m scripts.dream RUN_FOLDER [--out dream.gif] [--horizon 15]`."""

from typing import Annotated

import tyro

from experiments.dream import dream
from experiments.evaluate import film_path, write_film
from experiments.figures import dream as pictures
from experiments.figures import search_tree
from experiments.run import use_compilation_cache
from scripts.display import clear_errors, say


def main(
    folder: Annotated[str, tyro.conf.Positional],
    out: str = "dream.gif",
    horizon: int = 15,
    after: int = 0,
    seed: int = 0,
    frames_per_second: float = 1.5,
) -> None:
    """Shows what the deployed student really lives beside what its model dreams, from one state by the same actions.

    Args:
      folder: the run folder.
      out: the .gif or .mp4 file to write; beside it go a sheet of all steps, as .png, and the tree of the search in the
        first of them, as -tree.png.
      horizon: steps to dream; the end of the episode ends it earlier.
      after: decisions of the episode that are lived before the dream begins.
      seed: equal seeds meet equal episodes.
      frames_per_second: steps shown in a second.
    """
    use_compilation_cache()
    with clear_errors():
        film = film_path(out, option="--out")
        found = dream(folder, horizon=horizon, after=after, seed=seed)
        sheet = pictures.draw_sheet(found, film.with_suffix(".png"))
        write_film(film, pictures.frames(found), frames_per_second)
        tree = search_tree.draw(found, film.with_name(f"{film.stem}-tree.png"))
        say(f"filmed {len(found.action)} steps to {film}, all of them on one sheet to {sheet}; the search in the first "
            f"of them to {tree}")  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main, prog="python -m scripts.dream")
