"""The catalogue to and from others: DCAT-AP out, CKAN in."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from exchange.catalogue.ckan import MAX_FILE, PackageError, descriptor_text, read_package
from exchange.catalogue.dcat import CONTEXT, catalogue
from exchange.cli.datasets.descriptors import read_descriptor
from exchange.cli.datasets.descriptors.source import open_file
from exchange.cli.main import app
from exchange.v1.catalogue_pb2 import Level, Sharing, SharingClass
from tests.world import ORIGIN, POPULATION, World

PACKAGE: dict[str, Any] = {
    "name": "road-works",
    "title": "道路施工 Road works",
    "notes": 'Where roads are dug up.\nWith "quotes".',
    "tags": [{"name": "roads"}, {"name": "道路"}, {"name": "roads"}],
    "groups": [{"name": "transport"}],
    "extras": [{"key": "frequency", "value": "Daily"}],
    "maintainer": "Roads office",
    "version": "2.1",
    "resources": [
        {"url": "https://example.org/a.pdf"},
        {
            "url": "https://example.org/a.csv",
            "schema": {
                "fields": [
                    {"name": "_id", "type": "int"},
                    {"name": "Road Name", "type": "text", "info": {"label": "道路名称"}},
                    {"name": "起始日期", "type": "date"},
                    {"name": "length_m", "type": "numeric"},
                ]
            },
        },
    ],
}


def package_bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def nodes(value: object) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value, *(node for item in value.values() for node in nodes(item))]
    return [node for item in value for node in nodes(item)] if isinstance(value, list) else []


@pytest.fixture
def document() -> dict[str, Any]:
    world = World.standard()
    world.publish(
        "households",
        title="户籍登记",
        title_en="Household registration",
        keywords=["户籍"],
        theme="population",
        contact="Population office",
        level=Level.LEVEL_CITY,
        update_frequency="DAILY",
        quality="Checked every month.",
        related=[world.dataset.object_id, bytes(16)],
        sharing=Sharing(sharing_class=SharingClass.SHARING_CLASS_UNCONDITIONAL, legal_basis="Decree 809"),
    )
    directory = world.directory
    found = [directory.dataset_named(str(POPULATION), code) for code in ("households", "residents")]
    shown = [item for item in found if item is not None]
    return json.loads(json.dumps(catalogue(ORIGIN, shown, ["broker.city.example:7443"], world.now)))  # type: ignore[no-any-return]


def test_every_term_of_the_document_is_of_a_vocabulary_that_it_names(document: dict[str, Any]) -> None:
    keys = {key for node in nodes(document) for key in node if key not in CONTEXT}
    types = {node["@type"] for node in nodes(document) if "@type" in node}
    for term in (keys | types) - {"@context", "@id", "@type", "@value", "@language", "@list"}:
        assert term.partition(":")[0] in CONTEXT, term


def test_every_dataset_has_what_dcat_ap_makes_mandatory(document: dict[str, Any]) -> None:
    # DCAT-AP 3.0: a Catalogue has title, description, publisher; a Dataset title and description; a Distribution
    # accessURL; a Data Service endpointURL and title.
    assert {"dct:title", "dct:description", "dct:publisher"} <= document.keys()
    assert {"dcat:endpointURL", "dct:title"} <= document["dcat:service"].keys()
    assert len(document["dcat:dataset"]) == 2
    for dataset in document["dcat:dataset"]:
        assert {"dct:title", "dct:description", "dcat:distribution", "dct:publisher"} <= dataset.keys()
        assert "dcat:accessURL" in dataset["dcat:distribution"]


def test_a_dataset_says_in_dcat_what_its_descriptor_says(document: dict[str, Any]) -> None:
    first = document["dcat:dataset"][0]
    assert first["@id"] == f"{POPULATION}/households"
    assert first["dct:title"] == [
        {"@value": "户籍登记", "@language": "zh"},
        {"@value": "Household registration", "@language": "en"},
    ]
    assert first["dct:accrualPeriodicity"]["@id"].endswith("/frequency/DAILY")
    assert first["dct:relation"] == [{"@id": f"{POPULATION}/residents"}]
    assert first["dct:rights"]["rdfs:label"] == "Decree 809"
    columns = first["dcat:distribution"]["csvw:tableSchema"]["csvw:column"]["@list"]
    assert {"id_number", "birth_date"} <= {column["csvw:name"] for column in columns}


def test_a_package_becomes_a_descriptor_that_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "package.json"
    path.write_bytes(package_bytes({"success": True, "result": PACKAGE}))
    result = CliRunner().invoke(app, ["dataset", "import", str(path)])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("FILL IN") == 3 + 3
    draft = tmp_path / "roads.toml"
    draft.write_text(result.stdout)
    said = open_file(draft).values
    assert (said["code"], said["title"], said["update_frequency"]) == ("road-works", "道路施工 Road works", "DAILY")
    assert said["abstract"] == 'Where roads are dug up. With "quotes".'
    assert said["keywords"] == ["roads", "道路"]
    fields = [(field["name"], field["label"], field["type"]) for field in said["fields"]]  # type: ignore[attr-defined]
    assert fields == [
        ("road_name", "道路名称", "text"),
        ("field_2", "起始日期", "date"),
        ("length_m", "length_m", "decimal"),
    ]
    draft.write_text(
        result.stdout.replace('system = ""', 'system = "registry"')
        .replace('key = ""', 'key = "road_name"')
        .replace('class = ""', 'class = "unconditional"')
    )
    assert read_descriptor(draft, POPULATION).dataset.theme == "transport"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "line 1: not JSON"),
        (b"\xff\xff\xff", "not JSON in UTF-8"),
        (b"[]", "no CKAN package"),
        (b'{"name": "a"}', "no CKAN package"),
        (
            package_bytes({"result": {"results": [PACKAGE, PACKAGE | {"name": "b"}]}}),
            "2 packages are in the file: road",
        ),
        (b" " * (MAX_FILE + 1), "more than 8 MiB"),
        (b"[" * 100_000, "not JSON"),
    ],
    ids=["cut off", "another encoding", "empty", "something else", "several", "too large", "too deep"],
)
def test_a_file_that_is_no_package_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "package.json"
    path.write_bytes(data)
    result = CliRunner().invoke(app, ["dataset", "import", str(path)])
    assert result.exit_code == 2
    assert f"{path}: " in result.stderr
    assert message in result.stderr


def test_one_of_several_packages_is_chosen_by_name() -> None:
    data = package_bytes([PACKAGE, PACKAGE | {"name": "bridges", "title": "Bridges"}])
    assert read_package(data, "bridges").title == "Bridges"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(PACKAGE)), JSON), st.text(min_size=1, max_size=20))
def test_whatever_a_package_holds_the_draft_is_toml(values: dict[str, Any], title: str) -> None:
    data = package_bytes(PACKAGE | values | {"title": title})
    try:
        text = descriptor_text(read_package(data))
    except PackageError:
        return
    import tomllib

    assert tomllib.loads(text)["operations"] == ["LOOKUP"]
