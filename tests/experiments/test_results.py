import pytest

from experiments.results import FIELDS, ResultsError, newest, read_rows, rows_of, write_rows
from tests import runs


@pytest.fixture(scope="module")
def rows():
    return rows_of(runs.finished("gymnax").folder, arm="dreaming")


def test_a_row_for_each_evaluation(rows):
    result = runs.finished("gymnax")
    assert [row["real"] for row in rows] == [24, 48]
    assert [row["final"] for row in rows] == [0, 1]
    assert all(tuple(row) == FIELDS for row in rows)
    last = rows[-1]
    assert last["student_return"] == result.student.mean()
    assert (last["student_return_min"], last["student_return_max"]) == (result.student.min(), result.student.max())
    assert [row["planner_return"] for row in rows] == [None, result.planner.mean()]
    assert [row["reward_error_5"] for row in rows] == [None, pytest.approx(result.honesty.reward_error[4])]
    assert (last["updates"], last["replayed"], last["dreamed"]) == (24, 96, 0)
    # 2 of a batch of 4 are searched again, in 3 states each, and each of the 48 decisions was searched: 2 simulations
    assert last["searched"] == (24 * 2 * 3 + 48) * 2
    assert (last["env_id"], last["config_hash"]) == ("CartPole-v1", result.config.hash())


def test_written_and_read_again(tmp_path, rows):
    path = tmp_path / "results" / "task.csv"
    write_rows(path, rows[:1])
    write_rows(path, rows[1:])
    assert read_rows(path) == rows
    header, *lines = path.read_text().splitlines()
    assert header == ",".join(FIELDS)
    assert len(lines) == 2


def test_rows_from_before_a_column_are_read_and_kept(tmp_path, rows):
    path, added = tmp_path / "rows.csv", ("reward_error_5", "continuation_error_5")
    write_rows(path, rows[:1])
    path.write_text("".join(",".join(line.split(",")[: -len(added)]) + "\n" for line in path.read_text().splitlines()))
    assert read_rows(path) == [rows[0] | dict.fromkeys(added)]
    write_rows(path, rows[1:])
    assert read_rows(path) == rows
    assert path.read_text().splitlines()[0] == ",".join(FIELDS)


def test_only_our_files(tmp_path, rows):
    path = tmp_path / "rows.csv"
    with pytest.raises(ResultsError, match="cannot be read"):
        read_rows(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ResultsError, match="does not have the columns"):
        write_rows(path, rows)
    assert path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("spoil", [lambda line: line[:40], lambda line: line + ",1", lambda line: line + "x"])
def test_a_damaged_line_is_named_and_the_file_kept(tmp_path, rows, spoil):
    path = tmp_path / "rows.csv"
    write_rows(path, rows)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], spoil(lines[-1])]) + "\n")
    before = path.read_text()
    with pytest.raises(ResultsError, match="rows.csv, line 3: .*Take that line out"):
        write_rows(path, rows)
    assert path.read_text() == before


def test_configurations_are_not_mixed():
    rows = [
        {"arm": arm, "config_hash": config, "real": real}
        for arm, config, real in (("a", "old", 1), ("b", "only", 2), ("a", "new", 3), ("a", "new", 4))
    ]
    assert [row["real"] for row in newest(rows)] == [2, 3, 4]
