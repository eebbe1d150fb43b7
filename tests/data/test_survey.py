"""The embedded survey, NHANES I from files, and splits that see their training rows alone."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.data import survey as surveys
from lib.data.survey import (
    AGE,
    COPIES,
    LEAKS,
    TARGET,
    blocks,
    health_survey,
    load_survey,
    make_splits,
)


@pytest.fixture(scope="module")
def nhanes():
    return load_survey()


@pytest.fixture
def table():
    """40 adults and a child, every named column, one more number and one more text."""
    n = np.arange(41)
    columns = dict.fromkeys([*LEAKS, *COPIES], 1.0 * (n % 3))
    columns[TARGET] = np.where(n % 4 == 0, "Fair or", "Good")
    columns[AGE] = np.where(n == 40, 12.0, 20.0 + n)
    columns["weight"] = 50.0 + n % 7
    columns["color"] = np.where(n % 2 == 0, "red", "blue")
    return pd.DataFrame(columns)


@pytest.mark.slow
def test_the_embedded_survey_is_the_one_described(nhanes):
    assert len(nhanes) == 4890 and nhanes.labels.sum() == 1083 + 160
    assert len(nhanes.features) == 122 == len(set(nhanes.features))
    assert (nhanes.table[AGE] >= 20).all()
    assert not {TARGET, *LEAKS, *COPIES} & set(nhanes.table)
    numbers = nhanes.table.drop(columns=[*nhanes.categories, "EnergyKcal_DR1TOT"])
    assert numbers.max().max() < 5000  # no code for "don't know" among them
    assert nhanes.sha256 == load_survey().sha256
    answered = nhanes.table.notna().mean()
    assert answered.min() >= surveys.ANSWERED - 0.01  # refusals are taken out as well


def test_the_rule_for_columns(table):
    found = health_survey(table)
    assert len(found) == 40 and found.features == [AGE, "weight", "color: blue", "color: red"]
    assert found.labels.tolist() == [int(i % 4 == 0) for i in range(40)]
    table["rarely"] = np.where(table.index < 30, 1.0 * table.index, np.nan)
    table["constant"], table["clock"] = 3.0, [f"{i}:00" for i in range(41)]
    dropped = health_survey(table).dropped
    assert {"rarely", "constant", "clock"} <= set(dropped)
    table.loc[3, "weight"] = 9999  # the codebook's "don't know"
    assert np.isnan(health_survey(table).table.loc[3, "weight"])


def test_bad_tables(table):
    with pytest.raises(ValueError, match="no column HowHealthyIsTheDiet"):
        health_survey(table.drop(columns="HowHealthyIsTheDiet"))
    with pytest.raises(ValueError, match="all labels are 0"):
        health_survey(table.assign(**{TARGET: "Good"}))
    with pytest.raises(ValueError, match="unknown answer: 'Splendid'"):
        health_survey(table.assign(**{TARGET: "Splendid"}))
    for nobody in ({AGE: 12.0}, {AGE: "young"}, {TARGET: None}):
        with pytest.raises(ValueError, match="nobody is 20 or older"):
            health_survey(table.assign(**nobody))
    with pytest.raises(ValueError, match="occurs twice"):
        health_survey(pd.concat([table, table[["weight"]]], axis=1))


def test_every_statistic_comes_from_the_training_rows_alone(nhanes):
    parts = surveys.split_rows(nhanes, 3)
    assert [len(p) for p in parts] == [100, 100, 4690]
    assert len(set(np.concatenate(parts))) == 4890
    altered = nhanes.table.copy()
    others = np.concatenate(parts[1:])
    numbers = [name for name in altered if name not in nhanes.categories]
    altered.iloc[others, [altered.columns.get_loc(n) for n in numbers]] *= 100.0
    changed = surveys.Survey("", altered, nhanes.labels, nhanes.categories, {}, "")
    one, two = make_splits(nhanes, [3]), make_splits(changed, [3])
    assert torch.equal(one.train, two.train) and not torch.equal(one.test, two.test)
    torch.testing.assert_close(one.train.mean(1), torch.zeros(1, 122), atol=1e-5, rtol=0)
    scale = one.train.std(1, correction=0)
    assert (((scale - 1).abs() < 1e-4) | (scale < 1e-4)).all()


def test_splits_are_the_same_alone_in_blocks_and_again(nhanes):
    several = list(blocks(nhanes, range(3), size=2))
    assert [s.numbers for s in several] == [[0, 1], [2]]
    again = make_splits(nhanes, [2])
    for name in ("train", "validation", "test", "train_labels", "test_labels"):
        assert torch.equal(getattr(several[1], name), getattr(again, name))
    assert torch.isfinite(again.test).all()


def test_a_column_that_nobody_in_training_answered_says_nothing(nhanes):
    holes = nhanes.table.copy()
    train = surveys.split_rows(nhanes, 0)[0]
    holes.iloc[train, holes.columns.get_loc("WeightKg")] = np.nan
    holes.iloc[train, holes.columns.get_loc("Gender")] = None
    survey = surveys.Survey("", holes, nhanes.labels, nhanes.categories, {}, "")
    data = make_splits(survey, [0])
    silent = [i for i, (name, _) in enumerate(survey.inputs) if name in ("WeightKg", "Gender")]
    assert len(silent) == 3 and (data.test[0][:, silent] == 0).all()


def test_too_few_rows_or_one_class_in_a_part(table):
    survey = health_survey(table)
    with pytest.raises(ValueError, match=r"30 \+ 20 rows .* of 40"):
        make_splits(survey, [0], train=30, validation=20)
    labels = np.zeros(40, dtype=int)
    labels[7] = 1
    rare = surveys.Survey("", survey.table, labels, survey.categories, {}, "")
    with pytest.raises(ValueError, match=r"split 0: the \w+ rows are all of one class"):
        make_splits(rare, [0], train=10, validation=10)


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(30, 4)), columns=["age", "sex: 0", "bmi", "pulse"])
    frame.iloc[3, 2] = np.nan
    frame.to_csv(tmp_path / "X_sparsity.csv")
    np.save(tmp_path / "y_sparsity.npy", random.permutation(30) % 2)
    return tmp_path, frame


def test_nhanes_one_from_its_files(folder):
    path, frame = folder
    survey = surveys.nhanes_one(path, rows=30, columns=4)
    assert survey.features == list(frame) and np.isnan(survey.table.iloc[3, 2])
    data = make_splits(survey, [0], train=10, validation=10)
    assert data.train.shape == (1, 10, 4) and torch.isfinite(data.test).all()


def test_nhanes_one_refuses_what_it_is_not(folder):
    path, frame = folder
    x, y = path / "X_sparsity.csv", path / "y_sparsity.npy"

    def refuses(message):
        with pytest.raises(ValueError, match=message) as error:
            surveys.nhanes_one(path, rows=30, columns=4)
        assert "\n" not in str(error.value)

    with pytest.raises(ValueError, match="30 rows and 4 columns: NHANES I has 13442 and 118"):
        load_survey(path)
    frame.iloc[:, :3].to_csv(x)
    refuses("30 rows and 3 columns")
    for cell in ("yes", "inf"):
        frame.astype(object).replace({frame.iloc[5, 0]: cell}).to_csv(x)
        refuses("column 'age', row 5: .* is no number")
    frame.assign(age=np.nan).to_csv(x)
    refuses("column 'age' has no value at all")
    for text, reason in (
        ("", "No columns to parse"),
        ("a,b\n1,2,3,4\n1,2,3,4,5,6\n", "Error tokenizing data"),
    ):
        x.write_text(text)
        refuses(f"X_sparsity.csv is not a table in csv: {reason}")
    x.write_bytes(b"\xff\xfe\x00")
    refuses("X_sparsity.csv is not a table in csv")
    frame.to_csv(x)
    for labels, message in (
        (np.zeros(30), "all labels are 0"),
        (np.arange(30) % 3, "labels must be 0 or 1"),
        (np.arange(29) % 2, "29 labels for 30 rows"),
        (np.array([np.nan] * 30), "labels must be 0 or 1"),
        (np.array(["a"] * 30, dtype=object), "not an array of numbers"),
    ):
        np.save(y, labels)
        refuses(message)
    y.write_bytes(b"")
    refuses("not an array of numbers")
    y.unlink()
    refuses("y_sparsity.npy is missing")
