"""Data contracts in the Open Data Contract Standard, version 3: schema, allowed values, promised rate and latency.

Source: Bitol, ODCS 3.1.0. Rules in SQL, prose or another tool's words cannot be evaluated here: skipped and noted.
"""

from models.importers.document import Node
from models.importers.item_types import of_logical
from models.importers.odcs_service import services
from models.importers.part import Tree, Trees, stamped

_FORMAT = "data contract (ODCS)"
_OPERATORS = (
    "mustBe", "mustNotBe", "mustBeGreaterThan", "mustBeGreaterOrEqualTo", "mustBeLessThan", "mustBeLessOrEqualTo",
    "mustBeBetween", "mustNotBeBetween",
)  # fmt: skip


def trees_of(content: bytes, notes: list[str]) -> Trees:
    """production_data and production_environment of one contract (YAML or JSON).

    Bounds become `0..100`, sets `a,b`, lengths `1..40 characters` of `expected_values`; what may be missing stands in
    `missing_values` of the field. Raises ValueError with the place of what is wrong, and for contracts before 3.0.
    """
    root = Node.of(_FORMAT, content, as_json=content.lstrip().startswith(b"{"))
    version = root["apiVersion"].name()
    if root["kind"].name() != "DataContract":
        raise root["kind"].wrong("DataContract")
    if not version.startswith("v3."):
        raise root["apiVersion"].wrong("v3.0.0 to v3.1.0")
    tables = root["schema"].objects()
    schema: list[Tree] = []
    for table in tables:
        prefix = f"{table['name'].name()}." if len(tables) > 1 else ""
        _note_rules(table["quality"], notes)
        for one in table["properties"].objects():
            schema += _fields(one, prefix, notes)
    data, environment = services(root["slaProperties"], notes)
    data["schema"] = schema
    data["data_sources"] = root["dataProduct"].text() or root["name"].text()
    return stamped({"production_data": data, "production_environment": environment}, "ODCS")


def _fields(one: Node, prefix: str, notes: list[str]) -> list[Tree]:
    """The field, or those inside of it where it is an object."""
    name = prefix + one["name"].name()
    inner = one["properties"].objects()
    if inner:
        return [field for child in inner for field in _fields(child, f"{name}.", notes)]
    logical = one["logicalType"].text()
    if logical in ("array", "object"):
        notes.append(f"{one.path}: {name} is an {logical}, taken as type Other without what is inside")
    allowed, missing = _expected(one, notes), "none" if one["required"].flag() else ""
    for rule in one["quality"].objects():
        said, lacking = _rule(rule, notes)
        allowed, missing = said or allowed, lacking or missing
    return [
        {
            "field_name": name,
            "field_description": one["description"].text() or one["businessName"].text(),
            "field_type": of_logical(logical),
            "expected_values": allowed,
            "missing_values": missing,
        }
    ]


def _expected(one: Node, notes: list[str]) -> str:
    """`expected_values` from `logicalTypeOptions`: a range of numbers; lengths and pattern of a text."""
    options = one["logicalTypeOptions"]
    logical = one["logicalType"].text()
    if logical not in ("number", "integer", "string"):
        left = [key for key, _ in options.entries() if key in ("minimum", "maximum", "format")]
        if left:
            notes.append(f"{options.path}: {', '.join(left)} of a {logical or 'field without type'} is left out")
        return ""
    if logical == "string":
        lengths = _range(options["minLength"].number(), options["maxLength"].number())
        pattern = options["pattern"].text()
        parts = [f"{lengths} characters" if lengths else "", f"pattern {pattern}" if pattern else ""]
        return "; ".join(part for part in parts if part)
    low, high = options["minimum"].number(), options["maximum"].number()
    for key, step in (("exclusiveMinimum", 1), ("exclusiveMaximum", -1)):
        bound = options[key].number()
        if bound is None:
            continue
        if logical == "integer" and bound == int(bound):
            bound = int(bound) + step
        else:
            notes.append(f"{options.path}.{key}: taken as a bound that may be reached")
        if step > 0:
            low = bound if low is None else max(low, bound)
        else:
            high = bound if high is None else min(high, bound)
    return _range(low, high)


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f"{'-inf' if low is None else low}..{'inf' if high is None else high}"


def _rule(rule: Node, notes: list[str]) -> tuple[str, str]:
    """Allowed values and what may be missing, as far as one quality rule says so; the rest is noted."""
    kind, metric = rule["type"].text() or "library", rule["metric"].text() or rule["rule"].text()
    if kind != "library" and not metric:
        notes.append(f"{rule.path}: a rule of type {kind[:40]} cannot be evaluated here; check it where the data is")
        return "", ""
    operator = next((key for key in _OPERATORS if rule[key].value is not None), "")
    if metric in ("nullValues", "missingValues") and operator in ("mustBe", "mustBeLessOrEqualTo"):
        limit = rule[operator].number() or 0
        percent = rule["unit"].text() == "percent"
        if limit == 0 or percent:
            return "", "none" if limit == 0 else f"at most {limit}%"
    if metric == "invalidValues" and operator == "mustBe" and rule["mustBe"].number() == 0:
        valid = rule["arguments"]["validValues"].elements()
        texts = [node.text() for node in valid]
        if texts and all(text and "," not in text and " " not in text and len(text) <= 40 for text in texts):
            return ",".join(texts), ""
    notes.append(f"{rule.path}: {metric[:40] or 'a rule without metric'} {operator} has no place in the descriptors")
    return "", ""


def _note_rules(rules: Node, notes: list[str]) -> None:
    for rule in rules.objects():
        kind = rule["type"].text() or rule["metric"].text() or "library"
        notes.append(f"{rule.path}: a rule about the whole table ({kind[:40]}) is left out")
