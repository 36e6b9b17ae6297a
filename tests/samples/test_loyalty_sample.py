"""The sample without a database: the purchase file, the invented recipients, and the target's size.

The counts are computed here straight from the file, independently of the loader and of SQL.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "include" / "samples"
ADDRESS = ["first_name", "last_name", "address1", "address2", "postal_code", "city", "country"]


@pytest.fixture(scope="module")
def loader() -> ModuleType:
    """Return include/samples/load.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("campaign_sample_loader", SAMPLES / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def history() -> pd.DataFrame:
    """Return the purchase file as it stands: customer_id, date, number_of_cds, dollar_value, all text."""
    return pd.read_csv(SAMPLES / "cdnow" / "CDNOW_master.txt", sep=r"\s+", dtype=str)


@pytest.fixture(scope="module")
def target(history: pd.DataFrame) -> set[str]:
    """Return who bought at least 3 times, for at least 75 dollars in all, last in 1998."""
    cents = history["dollar_value"].str.replace(".", "", regex=False).astype(int)
    customers = history.assign(cents=cents).groupby("customer_id")
    is_target = (customers.size() >= 3) & (customers["cents"].sum() >= 75_00) & (customers["date"].max() >= "19980101")
    return {f"cdnow-{customer_id}" for customer_id in is_target.index[is_target]}


@pytest.fixture(scope="module")
def recipients(loader: ModuleType) -> pd.DataFrame:
    return pd.DataFrame(loader.generate_recipients(loader.read_purchases()))


def test_file_is_the_published_one() -> None:
    content = (SAMPLES / "cdnow" / "CDNOW_master.txt").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert digest == "eff6889ed364c5199d6eacbbeb7a6d559971df4406ac876f322c373f00a072ef"
    assert digest in (SAMPLES / "cdnow" / "README.md").read_text(encoding="utf-8")


def test_file_has_all_purchases_of_all_customers(history: pd.DataFrame) -> None:
    assert len(history) == 69_659
    assert history["customer_id"].nunique() == 23_570
    assert history.duplicated().sum() == 255
    assert (history["date"].min(), history["date"].max()) == ("19970101", "19980630")


def test_loader_reads_what_is_in_the_file(loader: ModuleType, history: pd.DataFrame) -> None:
    purchases = loader.read_purchases()
    as_written = pd.DataFrame(
        {
            "customer_id": purchases["customer_id"],
            "date": purchases["purchased_on"].dt.strftime("%Y%m%d"),
            "number_of_cds": purchases["quantity"].astype(str),
            "dollar_value": purchases["amount"],
        }
    )
    assert as_written.to_numpy().tolist() == history.to_numpy().tolist()
    assert purchases["cents"].sum() == 250_031_563


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("00002 19970230  5   77.00", "line 3: purchased_on is '19970230', it must be a day of the calendar"),
        ("00002 19970112 -5   77.00", "line 3: quantity is '-5', it must be a whole number from 1"),
        ("00002 19970112  5      77", "line 3: amount is '77', it must be an amount with two decimals"),
        ("00002 19970112  5", "line 3: amount is '', it must be an amount with two decimals"),
        ("", "line 3: customer_id is '', it must be five digits"),
        ("00002 19970112  5   77.00 USD", r"cannot be read: .*line 3"),
    ],
)
def test_loader_refuses_a_wrong_line_and_names_it(loader: ModuleType, tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "purchases.txt"
    path.write_text(f" customer_id date number_of_cds dollar_value\n 00001 19970101 1 11.77\n {line}\n")
    with pytest.raises(loader.SampleError, match=message):
        loader.read_purchases(path)


def test_loader_says_which_file_is_missing(loader: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(loader.SampleError, match=r"nowhere\.txt is missing"):
        loader.read_purchases(tmp_path / "nowhere.txt")


def test_loader_without_a_database_says_how_to_run_it(
    loader: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CAMPAIGN_DSN", raising=False)
    assert loader.main() == 2
    assert "CAMPAIGN_DSN is not set" in capsys.readouterr().err


def test_each_customer_is_one_recipient(recipients: pd.DataFrame, history: pd.DataFrame) -> None:
    expected = [f"cdnow-{customer_id}" for customer_id in sorted(history["customer_id"].unique())]
    assert recipients["internal_name"].tolist() == expected


def test_recipients_are_the_same_everywhere(loader: ModuleType) -> None:
    """The rows, not only their number: a demo, a test and a benchmark must speak of the same people."""
    digest = hashlib.sha256()
    for recipient in loader.generate_recipients(loader.read_purchases()):
        digest.update(json.dumps(recipient, ensure_ascii=False).encode())
    assert digest.hexdigest() == "ffb578eee6fdd66fccb711f49603afa7b07182065facadce662e4d4ce516df0f"


def test_recipients_do_not_depend_on_the_other_customers(loader: ModuleType, recipients: pd.DataFrame) -> None:
    purchases = loader.read_purchases()
    some = pd.DataFrame(loader.generate_recipients(purchases[purchases["customer_id"] > "23000"]))
    assert some.equals(recipients.tail(570).reset_index(drop=True))


def test_recipients_come_from_several_countries_with_their_letters(recipients: pd.DataFrame) -> None:
    assert set(recipients["country"]) == {"US", "GB", "DE", "FR", "ES", "PL", "SE"}
    assert recipients["country"].value_counts(normalize=True).between(0.04, 0.5).all()
    written = recipients[ADDRESS].fillna("").agg(" ".join, axis=1)
    for letter in ("é", "ß", "ł", "ñ", "å", "ü", "ş", "œ", "'", '"', ","):
        assert written.str.contains(letter, regex=False).any(), letter


def test_no_mail_or_call_can_reach_a_person(recipients: pd.DataFrame) -> None:
    emails = recipients["email"].dropna()
    assert emails.is_unique
    assert emails.str.fullmatch(r"[a-z0-9.-]+@(example\.(com|net|org)|mail\.example)").all()
    phones = recipients["phone"].dropna()  # the ranges that each country keeps free for fiction
    assert phones.str.fullmatch(r"\+121255501\d\d|\+447700900\d{3}|\+493023125\d{3}|\+33639980\d{3}").all()


def test_attributes_follow_from_the_purchases(recipients: pd.DataFrame, history: pd.DataFrame) -> None:
    attributes = recipients.set_index("internal_name")["attributes"].map(json.loads)
    first_month = history.groupby("customer_id")["date"].min().str[:6].add_prefix("cdnow-")
    cohorts = attributes.map(lambda value: value["cohort"].replace("-", ""))
    assert cohorts.to_dict() == first_month.to_dict()
    assert set(attributes.map(lambda value: value["tier"])) == {"gold", "silver", "bronze"}


def test_target_of_the_sample_question(target: set[str]) -> None:
    assert len(target) == 4_048


def test_target_has_every_kind_of_exclusion(recipients: pd.DataFrame, target: set[str]) -> None:
    """Each exclusion applied to what the one before it left; the reasons as in the built-in targeting."""
    targeted = recipients[recipients["internal_name"].isin(target)]
    willing = targeted[~targeted["opt_out_direct_mail"]]
    reachable = willing.dropna(subset=["address1", "postal_code", "city"])
    distinct = reachable.drop_duplicates(ADDRESS)
    counts = {
        "opt-out": len(targeted) - len(willing),
        "no address": len(willing) - len(reachable),
        "duplicate": len(reachable) - len(distinct),
        "left": len(distinct),
    }
    assert counts == {"opt-out": 132, "no address": 131, "duplicate": 23, "left": 3_762}
    for column in ("address1", "postal_code", "city"):
        assert willing[column].isna().any(), column


def test_duplicates_are_of_the_whole_address(recipients: pd.DataFrame) -> None:
    """Whether address2 is compared or not, the same people are duplicates."""
    without_address2 = [column for column in ADDRESS if column != "address2"]
    complete = recipients.dropna(subset=["address1", "postal_code", "city"])
    twins = complete.duplicated(ADDRESS)
    assert 0.01 < twins.mean() < 0.05
    assert twins.equals(complete.duplicated(without_address2))
