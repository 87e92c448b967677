"""The catalogue as DCAT-AP 3 in JSON-LD 1.1, for other catalogues to harvest.

W3C DCAT 3; SEMIC DCAT-AP 3.0; columns as W3C CSVW. Frequencies and access rights are codes of the Publications Office.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from exchange.core.names import Party
from exchange.core.terms import DatasetTerms
from exchange.v1.catalogue_pb2 import SharingClass
from exchange.v1.directory_pb2 import Dataset, Field, FieldType
from exchange.v1.request_pb2 import Operation

AUTHORITY = "http://publications.europa.eu/resource/authority"

CONTEXT: Mapping[str, str] = {
    "adms": "http://www.w3.org/ns/adms#",
    "csvw": "http://www.w3.org/ns/csvw#",
    "dcat": "http://www.w3.org/ns/dcat#",
    "dct": "http://purl.org/dc/terms/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "vcard": "http://www.w3.org/2006/vcard/ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}

_ACCESS: Mapping["SharingClass.ValueType", str] = {
    SharingClass.SHARING_CLASS_UNSPECIFIED: "RESTRICTED",
    SharingClass.SHARING_CLASS_UNCONDITIONAL: "RESTRICTED",
    SharingClass.SHARING_CLASS_CONDITIONAL: "RESTRICTED",
    SharingClass.SHARING_CLASS_NOT_SHARED: "NON_PUBLIC",
}
_TYPES: Mapping["FieldType.ValueType", str] = {
    FieldType.FIELD_TYPE_TEXT: "string",
    FieldType.FIELD_TYPE_INTEGER: "integer",
    FieldType.FIELD_TYPE_DECIMAL: "decimal",
    FieldType.FIELD_TYPE_DATE: "date",
    FieldType.FIELD_TYPE_BOOLEAN: "boolean",
}

Node = dict[str, object]


def catalogue(exchange: str, datasets: Iterable[DatasetTerms], brokers: Iterable[str], now: int) -> Node:
    """A dcat:Catalog of datasets, as one JSON-LD document.

    Args:
        exchange: the exchange's name.
        datasets: those that the reader of the document may see.
        brokers: addresses, HOST:PORT: where the datasets are asked.
        now: milliseconds.
    """
    service = f"{Party(exchange)}#service"
    found = list(datasets)
    names = {item.object_id: identifier(item) for item in found}
    return {
        "@context": CONTEXT,
        "@id": str(Party(exchange)),
        "@type": "dcat:Catalog",
        "dct:title": _texts(f"Datasets of {exchange}", "", "en"),
        "dct:description": _texts(f"What departments share through the exchange {exchange}.", "", "en"),
        "dct:publisher": _agent(Party(exchange)),
        "dct:modified": _time(now),
        "dcat:service": {
            "@id": service,
            "@type": "dcat:DataService",
            "dct:title": _texts(f"The exchange {exchange}", "", "en"),
            "dcat:endpointURL": [{"@id": f"https://{address}"} for address in brokers],
            "dct:accessRights": _code("access-right", "RESTRICTED"),
        },
        "dcat:dataset": [_dataset(item, service, names) for item in found],
    }


def identifier(dataset: DatasetTerms) -> str:
    """A dataset's identifier: its owner's name, then its code; `exchange dataset show` takes it."""
    return f"{dataset.version.owner}/{dataset.code}"


def _dataset(dataset: DatasetTerms, service: str, names: Mapping[bytes, str]) -> Node:
    said = dataset.descriptor
    node: Node = {
        "@id": identifier(dataset),
        "@type": "dcat:Dataset",
        "dct:identifier": identifier(dataset),
        "dct:title": _texts(said.title, said.title_en),
        "dct:description": _texts(said.abstract or said.title, said.abstract_en),
        "dct:publisher": _agent(dataset.version.owner),
        "dct:modified": _time(dataset.version.time),
        "dct:accessRights": _code("access-right", _ACCESS[said.sharing.sharing_class]),
        "dcat:keyword": [{"@value": word} for word in said.keywords],
        "dcat:version": said.version,
        "dcat:contactPoint": _contact(said),
        "dcat:theme": _concept(f"{Party(dataset.version.owner.domain)}#theme-{said.theme}", said.theme),
        "dct:accrualPeriodicity": _code("frequency", said.update_frequency) if said.update_frequency else "",
        "dct:provenance": _statement("dct:ProvenanceStatement", said.quality),
        "dct:relation": [{"@id": names[item]} for item in said.related if item in names],
        "dct:rights": _statement("dct:RightsStatement", _rights(said)),
        "dcat:distribution": _distribution(dataset, service),
    }
    return {key: value for key, value in node.items() if value}


def _distribution(dataset: DatasetTerms, service: str) -> Node:
    operations = [Operation.Name(number).removeprefix("OPERATION_") for number in sorted(dataset.operations)]
    return {
        "@type": "dcat:Distribution",
        "dct:title": _texts(f"{', '.join(operations)} through the exchange", "", "en"),
        "dcat:accessURL": {"@id": identifier(dataset)},
        "dcat:accessService": {"@id": service},
        "csvw:tableSchema": {
            "@type": "csvw:Schema",
            "csvw:primaryKey": dataset.key,
            "csvw:column": {"@list": [_column(field) for field in dataset.descriptor.fields]},
        },
    }


def _column(field: Field) -> Node:
    node: Node = {
        "@type": "csvw:Column",
        "csvw:name": field.name,
        "csvw:title": _texts(field.label, field.label_en),
        "csvw:datatype": _TYPES[field.type],
    }
    return node | ({"dct:identifier": field.element} if field.element else {})


def _contact(said: Dataset) -> Node:
    return {"@type": "vcard:Organization", "vcard:fn": said.contact} if said.contact else {}


def _rights(said: Dataset) -> str:
    sharing = said.sharing
    parts = [*sharing.conditions, sharing.reason, sharing.legal_basis]
    return "; ".join(part for part in parts if part)


def _concept(name: str, code: str) -> Node:
    return {"@id": name, "@type": "skos:Concept", "skos:prefLabel": code} if code else {}


def _statement(kind: str, text: str) -> Node:
    return {"@type": kind, "rdfs:label": text} if text else {}


def _agent(party: Party) -> Node:
    return {"@id": str(party), "@type": "foaf:Agent", "foaf:name": str(party.segments[-1])}


def _code(table: str, code: str) -> Node:
    return {"@id": f"{AUTHORITY}/{table}/{code}"}


def _texts(text: str, text_en: str, language: str = "zh") -> list[Node]:
    found: list[Node] = [{"@value": text, "@language": language}]
    return found + ([{"@value": text_en, "@language": "en"}] if text_en else [])


def _time(moment: int) -> Node:
    text = datetime.fromtimestamp(moment // 1000, UTC).isoformat().replace("+00:00", "Z")
    return {"@value": text, "@type": "xsd:dateTime"}
