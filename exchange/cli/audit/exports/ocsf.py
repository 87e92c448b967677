"""An entry as an event of the Open Cybersecurity Schema Framework: API Activity, class 6003.

Version 1.6.0 (schema.ocsf.io): `activity_id`, `actor`, `api`, `category_uid`, `class_uid`, `metadata`, `severity_id`,
`src_endpoint`, `time` and `type_uid` are required; `actor` names a user or an application, `api` its operation, and
`metadata` the version and the product.
"""

from typing import Final

from exchange.cli.audit.exports.rows import ExportRow

VERSION: Final = "1.6.0"
CLASS: Final = 6003
CATEGORY: Final = 6
READ: Final = 2
NOTE: Final = "a view: the leaf named in unmapped is the evidence"

_SEVERITIES: Final = {
    "released": (1, "Informational"),
    "read": (1, "Informational"),
    "refused": (2, "Low"),
    "unreleased": (3, "Medium"),
}
_STATUSES: Final = {"released": (1, "Success"), "read": (1, "Success"), "refused": (2, "Failure")}
_UNMAPPED: Final = (
    "log_index",
    "leaf_hash",
    "kind",
    "purpose",
    "case",
    "agreement",
    "fields",
    "request_digest",
    "response_digest",
    "refusal_digest",
    "directory_size",
    "ledger_number",
    "mandate",
    "read_first",
    "read_end",
    "bodies_read",
)


def event(row: ExportRow, log: str) -> dict[str, object]:
    """The event of a row.

    Args:
        row: an entry.
        log: the log's name.
    """
    severity, severity_name = _SEVERITIES.get(row.kind, (0, "Unknown"))
    status, status_name = _STATUSES.get(row.kind, (99, row.kind.capitalize()))
    found: dict[str, object] = {
        "activity_id": READ,
        "activity_name": "Read",
        "category_uid": CATEGORY,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "API Activity",
        "type_uid": CLASS * 100 + READ,
        "type_name": "API Activity: Read",
        "time": row.time_ms,
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "message": f"{row.kind} {row.code}".strip(),
        "actor": _actor(row),
        "api": _api(row),
        "src_endpoint": {"name": row.requester or "unknown"},
        "metadata": {
            "version": VERSION,
            "product": {"name": "department-exchange", "vendor_name": "department-exchange"},
            "log_name": log,
            "uid": f"{log}/{row.log_index}",
            "sequence": row.log_index,
            "correlation_uid": row.request_digest,
            "original_time": row.time,
            "labels": [NOTE],
        },
        "unmapped": {
            name: getattr(row, name) for name in _UNMAPPED if getattr(row, name) not in ("", 0) or name == "log_index"
        },
    }
    if row.code:
        found["status_code"] = row.code
    if row.provider:
        found["dst_endpoint"] = {"name": row.provider}
    if row.dataset_id:
        found["resources"] = [{"uid": row.dataset_id, "name": row.dataset, "type": "dataset"}]
    return found


def _actor(row: ExportRow) -> dict[str, object]:
    actor: dict[str, object] = {"app_uid": row.requester} if row.requester else {"app_name": "unknown"}
    # A pseudonym that the requester asserts: a user of its own department, not one of the exchange.
    return actor | ({"user": {"uid": row.officer, "type_id": 1, "type": "User"}} if row.officer else {})


def _api(row: ExportRow) -> dict[str, object]:
    api: dict[str, object] = {"operation": row.operation or ("AUDIT" if row.mandate else "unknown")}
    if row.dataset:
        api["service"] = {"name": row.dataset, "uid": row.dataset_id}
    if row.request_id:
        api["request"] = {"uid": row.request_id}
    if row.code:
        api["response"] = {"error": row.code}
    return api
