"""``GET /price``: from a run to its file to an answer, at every moment the price of ``palaestra prices RUN``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from exported_runs import SMALL, TRAIN, command
from fastapi.testclient import TestClient
from policy_files import CONTRACT, LISTED, listed

from palaestra.envs.pricing import Pricing
from palaestra.train.export.policy_file import PolicyFile, PolicyFileError
from palaestra.train.serve import server
from palaestra.train.serve.app import Served, application

SHOP = {"periods": 8, "stock": 5, "hold": 2, "max_change": 60, "prices": "[20,40,60,80,100]"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a shop with rules, its exported file, and its list as the command writes it."""
    folder = tmp_path_factory.mktemp("shop")
    given = [word for key, value in SHOP.items() for word in ("--set", f"env.{key}={value}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert command(patch, "train", "pricing", *TRAIN, *SMALL, *given, "--run-dir", "run") == 0
        assert command(patch, "export", "run", "--out", "policy.onnx") == 0
        assert command(patch, "prices", "run", "--out", "prices.csv") == 0
    return folder


def client_of(path: Path) -> TestClient:
    return TestClient(application(Served(PolicyFile(path))))


def test_every_price_is_that_of_the_list_and_of_the_policy(shop: Path) -> None:
    """The policy is asked by the names of the observation, with the mask of the rules."""
    client = client_of(shop / "policy.onnx")
    with (shop / "prices.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) > 100
    menu = json.loads(str(SHOP["prices"]))
    for row in rows:
        asked = {key: row[key] for key in ("period", "stock", "last_price") if row[key]}
        answer = client.get("/price", params=asked).json()
        assert answer["price"] == float(row["price"]), row
        last = float(row["last_price"]) if row["last_price"] else None
        seen = {"periods_left": 9 - int(row["period"]), "units_left": int(row["stock"])}
        seen |= _seen_besides(client, int(row["period"]), last, menu)
        mask = [last is None or abs(price - last) <= 60 for price in menu]
        acted = client.post("/act", json={"observation": seen, "action_mask": mask}).json()
        assert acted["choice"] == f"price {answer['price']:.4g}", (row, acted)


def _seen_besides(client: TestClient, period: int, last: float | None, menu: list[int]) -> dict[str, float]:
    """What the observation has beside period and stock."""
    names = [one["name"] for one in client.get("/contract").json()["inputs"][0]["elements"]]
    assert names == ["periods_left", "units_left", "demand_now", "demand_next", "last_price", "hold_left"]
    outlook = Pricing(periods=8, stock=5, prices=menu).outlook[period - 1].tolist()
    place = -1 if last is None else menu.index(int(last))
    return {"demand_now": outlook[0], "demand_next": outlook[1], "last_price": place, "hold_left": 0}


def test_an_answer_and_the_refusals(tmp_path: Path) -> None:
    client = client_of(listed(tmp_path))
    assert client.get("/price?stock=2&period=1").json() == {"price": 6, "moment": {"period": 1, "stock": 2}}
    assert client.get("/price?period=1&stock=1").json()["price"] == 4.5
    for query, name in (
        ("", "period"),
        ("period=1", "stock"),
        ("period=1&stock=3", "stock"),
        ("period=3&stock=1", "period"),
        ("period=1&stock=1.5", "stock"),
        ("period=1&stock=1&stock=1", "stock"),
        ("period=1&stock=1&%00=1", "\x00"),
    ):
        answer = client.get(f"/price?{query}")
        assert answer.status_code == 422, query
        assert answer.json()["detail"][0]["loc"] == ["query", name]


@pytest.mark.parametrize(("prices", "text"), [(None, "lists no prices"), ({**LISTED, "actions": None}, "too many")])
def test_files_without_a_list(tmp_path: Path, prices: Any, text: str) -> None:
    client = client_of(listed(tmp_path, prices))
    answer = client.get("/price?period=1&stock=1")
    assert (answer.status_code, text in answer.json()["detail"][0]["msg"]) == (404, True)
    assert "/price" not in client.get("/openapi.json").json()["paths"]


def test_a_damaged_list_is_no_policy(tmp_path: Path) -> None:
    path = listed(tmp_path, {**LISTED, "actions": [[0, 1, 2], [1, 1, 0]]})
    with pytest.raises(PolicyFileError, match="damaged: prices: actions: must be numbers of the menu's 2 rows"):
        PolicyFile(path)


def test_prices_need_the_token_and_are_described(tmp_path: Path) -> None:
    served = Served(PolicyFile(listed(tmp_path)), token="sesame")
    client = TestClient(application(served))
    assert client.get("/price?period=1&stock=1").status_code == 401
    assert client.get("/price?period=1&stock=1", headers={"authorization": "Bearer sesame"}).status_code == 200
    route = client.get("/openapi.json").json()["paths"]["/price"]["get"]
    assert [one["schema"] for one in route["parameters"]] == [
        {"type": "integer", "minimum": 1, "maximum": 2},
        {"type": "integer", "minimum": 1, "maximum": 3},
    ]


def test_a_new_file_brings_its_prices_with_it(tmp_path: Path) -> None:
    """Both are of the policy that is taken; a file that is asked other things is not taken."""
    first = PolicyFile(listed(tmp_path))
    served = Served(first)
    client = TestClient(application(served))
    served.take(PolicyFile(listed(tmp_path, {**LISTED, "menu": [[5], [7]]})))
    assert client.get("/price?period=1&stock=1").json()["price"] == 5
    assert server._changed({**CONTRACT, "prices": {**LISTED, "menu": [[5], [7]]}}, first.contract) is None
    for other in (None, {**LISTED, "answers": ["fare"]}, {**LISTED, "asks": LISTED["asks"][:1]}):
        assert server._changed({**CONTRACT, "prices": other}, first.contract) == "list of prices is another"
