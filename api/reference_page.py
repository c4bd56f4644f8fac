"""The reference of the API as a page: the OpenAPI document, readable without scripts or the internet."""

import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

STYLE = Path(__file__).with_name("reference_page.css").read_text(encoding="utf-8")

_LONGEST_PATTERN = 100
_DEEPEST_EXAMPLE = 6
_NEXT_LINE = " \\\n  "  # Of a command.
_LIMITS = {
    "minimum": "from {}",
    "exclusiveMaximum": "below {}",
    "maximum": "to {}",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "maxLength": "at most {} characters",
}
_BEGINNING = """<p>All paths are relative to this address. Requests and answers are JSON (<code>Content-Type:
application/json</code>); amounts are exact numbers, and <code>…Wei</code> is the same in base units as
text. The document itself is <a href="/openapi.json">/openapi.json</a>, for generators of clients.</p>
<h2 id="tokens">Tokens</h2>
<p>Whoever is signed in sends <code>Authorization: Bearer TOKEN</code>, a JWT of the user service. On
the local network <code>make token USER=ID</code> prints one. Without a token, or with one that is not
valid, the answer is 401 with <code>WWW-Authenticate</code>. Operations that need none say so.</p>
<h2 id="refusals">Refusals</h2>
<p>A refusal is <code>application/problem+json</code> (RFC 9457): <code>code</code> is for programs and
stays the same, <code>message</code> is for people, in English or French by
<code>Accept-Language</code>. 422: the request is not as this page says, and <code>errors</code> names
each field. 404: something that it names is not there. 409: it does not fit what is there. 429 and 503
have <code>Retry-After</code>. Every answer has <code>X-Request-ID</code>, which is in the log.</p>"""


def render(document: dict[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    return "\n".join(_Page(document).parts())


class _Page:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
        for path, item in document["paths"].items():
            for method, operation in item.items():
                for tag in operation["tags"]:
                    self._by_tag.setdefault(tag, []).append((method.upper(), path, operation))

    def parts(self) -> Iterator[str]:
        """Yield the page from its head to its end."""
        info = self._document["info"]
        title = f"{escape(info['title'])} API {escape(info['version'])}"
        yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
        yield f'<title>{title}</title>\n<link rel="icon" href="data:,">'
        yield '<link rel="stylesheet" href="/docs/style.css">\n</head>\n<body>'
        yield f"<header>\n<h1>{title}</h1>\n<p>{_text(info['summary'])}</p>\n</header>"
        tags = [tag for tag in self._document["tags"] if tag["name"] in self._by_tag]
        yield '<nav aria-label="Operations">\n<ul>'
        for tag in tags:
            yield f"<li>{escape(tag['name'])}<ul>"
            for method, path, operation in self._by_tag[tag["name"]]:
                name = operation["operationId"]
                yield f'<li><a href="#{name}"><b>{method}</b> <code>{_breakable(path)}</code></a></li>'
            yield "</ul></li>"
        yield '<li><a href="#schemas">Schemas</a></li>\n</ul>\n</nav>\n<main>'
        yield _BEGINNING
        for tag in tags:
            yield f"<h2>{escape(tag['name'].capitalize())}</h2>\n<p>{_text(tag['description'])}</p>"
            for method, path, operation in self._by_tag[tag["name"]]:
                yield from self._operation(method, path, operation)
        yield '<h2 id="schemas">Schemas</h2>'
        for name, schema in sorted(self._document["components"]["schemas"].items()):
            yield f'<section id="schema-{name}">\n<h3>{name}</h3>'
            yield f"<p>{_text(schema.get('description', ''))}</p>"
            yield from self._fields(schema)
            yield "</section>"
        yield "</main>\n</body>\n</html>"

    def _operation(self, method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
        name = operation["operationId"]
        yield f'<section id="{name}">\n<h3><b>{method}</b> <code>{_breakable(path)}</code></h3>'
        yield f"<p><strong>{_text(operation['summary'])}.</strong> {_text(operation['description'])}</p>"
        security = operation.get("security", [{}])
        signed = security != [{}]
        needs = (
            "a token" if {} not in security else "a token if the user service does" if signed else "no token"
        )
        yield f"<p>Needs {needs}. <code>{name}</code></p>"
        parameters = operation.get("parameters", [])
        if parameters:
            rows = [
                (
                    f"<code>{escape(each['name'])}</code>",
                    each["in"] + (", required" if each.get("required") else ""),
                    self._type(each["schema"]),
                    _text(each.get("description", "")),
                )
                for each in parameters
            ]
            yield _table(("parameter", "in", "type", ""), rows)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body:
            yield f"<p>Body: {self._type(body['schema'])}</p>"
        yield from self._requests(method, path, signed, body)
        yield _table(
            ("answer", "", "body"),
            [self._answer(status, each) for status, each in sorted(operation["responses"].items())],
        )
        for status, each in sorted(operation["responses"].items()):
            if status < "300":
                yield from self._answers(status, self._resolved(each))
        yield "</section>"

    def _requests(self, method: str, path: str, signed: bool, body: dict[str, Any] | None) -> Iterator[str]:
        """Yield an example of the request, or each that the document has."""
        words = ["curl" if method == "GET" else f"curl -X {method}"]
        words += ['-H "Authorization: Bearer $TOKEN"'] if signed else []
        if body is None:
            yield _code(_NEXT_LINE.join([*words, f'"$URL{path}"']))
            return
        words += ["-H 'Content-Type: application/json'", f'"$URL{path}"']
        given = body.get("examples") or {"": {"value": self._example(body["schema"])}}
        for example in given.values():
            if "summary" in example:
                yield f"<p>{_text(example['summary'])}:</p>"
            value = json.dumps(example["value"], indent=2, ensure_ascii=False).replace("'", r"'\''")
            yield _code(_NEXT_LINE.join([*words, f"-d '{value}'"]))

    def _answer(self, status: str, answer: dict[str, Any]) -> tuple[str, str, str]:
        found = self._resolved(answer)
        bodies = [self._type(content.get("schema", {})) for content in found.get("content", {}).values()]
        headers = ", ".join(
            f"<code>{each}</code>" for each in found.get("headers", {}) if each != "X-Request-ID"
        )
        said = _text(found["description"]) + (f" <small>Headers: {headers}</small>" if headers else "")
        return f"<code>{status}</code>", said, ", ".join(bodies)

    def _answers(self, status: str, answer: dict[str, Any]) -> Iterator[str]:
        for kind, content in answer.get("content", {}).items():
            if kind != "application/json":
                continue
            given = content.get("examples") or {"": {"value": self._example(content["schema"])}}
            for example in given.values():
                yield f"<details><summary>{status}: {_text(example.get('summary', 'an example'))}</summary>"
                yield _code(json.dumps(example["value"], indent=2, ensure_ascii=False)) + "</details>"

    def _fields(self, schema: dict[str, Any]) -> Iterator[str]:
        properties = schema.get("properties")
        if not properties:
            yield f"<p>{self._type(schema)}</p>"
            return
        required = schema.get("required", [])
        rows = [
            (
                f"<code>{escape(name)}</code>",
                self._type(field) + ("" if name in required else ", optional"),
                _text(field.get("description", "")),
            )
            for name, field in properties.items()
        ]
        yield _table(("field", "type", ""), rows)

    # --- Schemas ---

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while reference := node.get("$ref"):
            _, _, kind, name = reference.split("/")
            node = self._document["components"][kind][name]
        return node

    def _type(self, schema: dict[str, Any]) -> str:
        """Return the type in words, as HTML."""
        if reference := schema.get("$ref"):
            name = reference.rsplit("/", 1)[1]
            return f'<a href="#schema-{name}">{name}</a>'
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return " or ".join(self._type(each) for each in schema[choice])
        if "const" in schema:
            return f"<code>{escape(json.dumps(schema['const']))}</code>"
        if "enum" in schema:
            return " ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
        if schema.get("type") == "array":
            said = f"list of {self._type(schema['items'])}"
        else:
            said = escape(schema.get("format") or schema.get("type") or "anything")
        limits = [text.format(f"{schema[key]:g}") for key, text in _LIMITS.items() if key in schema]
        pattern = schema.get("pattern", "")
        if pattern and len(pattern) <= _LONGEST_PATTERN and "format" not in schema:
            limits.append(f"<code>{escape(pattern)}</code>")
        if "default" in schema and schema["default"] is not None:
            limits.append(f"default <code>{escape(json.dumps(schema['default']))}</code>")
        return ", ".join([said, *limits])

    def _example(self, schema: dict[str, Any], depth: int = 0) -> Any:  # noqa: PLR0911  # one for each kind
        """Return a value of a schema: what it gives as an example, or else one made of its types."""
        schema = self._resolved(schema)
        for name in ("examples", "enum"):
            if schema.get(name):
                return schema[name][0]
        for name in ("const", "default"):
            if name in schema:
                return schema[name]
        if "anyOf" in schema:
            return self._example(schema["anyOf"][0], depth)
        match schema.get("type"):
            case "object":
                properties = schema.get("properties", {}) if depth < _DEEPEST_EXAMPLE else {}
                return {name: self._example(each, depth + 1) for name, each in properties.items()}
            case "array":
                return [self._example(schema["items"], depth + 1)]
            case "string":
                return "2035-03-05T09:00:00Z" if schema.get("format") == "date-time" else "…"
            case "integer" | "number":
                return 1
            case "boolean":
                return True
        return None


def _text(text: str) -> str:
    """Return the text as HTML, with its code in code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _breakable(path: str) -> str:
    return escape(path).replace("/", "/<wbr>")


def _code(text: str) -> str:
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{name}</th>" if name else "<td></td>" for name in names)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide" tabindex="0"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'
