"""Holds requests and answers against the description that a node gives of itself; for tests."""
import json
import re
import urllib.parse


def resolve(document, part):
    """What a $ref stands for."""
    if "$ref" in part:
        place = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            place = place[name]
        return place
    return part


def target(document, path, operation, kind=None):
    """The target and headers of a request with every example; a body of this kind, None: none."""
    query, headers = {}, [("Content-Type", kind)] if kind else []
    for part in operation.get("parameters", []):
        parameter = resolve(document, part)
        if "example" not in parameter:
            continue
        value = str(parameter["example"])
        if parameter["in"] == "path":
            path = path.replace("{%s}" % parameter["name"], value)
        elif parameter["in"] == "header":
            headers.append((parameter["name"], value))
        else:
            query[parameter["name"]] = value
    return path + ("?" + urllib.parse.urlencode(query) if query else ""), headers


TYPES = {"string": str, "boolean": bool, "number": (int, float), "integer": int, "array": list,
         "object": dict}


def fits(document, schema, value, at="answer"):
    """AssertionError where a value is not as its schema says."""
    schema = resolve(document, schema)
    if "oneOf" in schema:
        failed = 0
        for choice in schema["oneOf"]:
            try:
                fits(document, choice, value, at)
            except AssertionError:
                failed += 1
        assert failed == len(schema["oneOf"]) - 1, f"{at}: {value!r}"
        return
    kind = schema["type"]
    is_so = isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    assert is_so, f"{at} is no {kind}: {value!r}"
    assert value in schema.get("enum", [value]), f"{at}: {value!r}"
    if kind in ("integer", "number"):
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value), f"{at}: {value}"
    if kind == "array":
        for index, item in enumerate(value):
            fits(document, schema["items"], item, f"{at}[{index}]")
    if kind == "object":
        known = schema.get("properties", {})
        assert set(schema.get("required", [])) <= set(value), f"{at} lacks something: {value}"
        assert schema.get("additionalProperties", True) or set(value) <= set(known), \
            f"{at} has something more: {value}"
        for name in set(value) & set(known):
            fits(document, known[name], value[name], f"{at}.{name}")


def check(document, operation, status, content_type, body):
    """AssertionError where an answer is none of those described."""
    responses = operation["responses"]
    assert str(status) in responses or status >= 400, f"{status} is not described"
    response = resolve(document, responses.get(str(status), responses["default"]))
    kind = re.sub(" *;.*", "", content_type)
    assert kind in response["content"], f"{content_type} is not described"
    if re.search("[/+]json$", kind):
        fits(document, response["content"][kind]["schema"], json.loads(body))


def ask_all(server, without=()):
    """Asks each operation once, with each kind of body that it takes, but for those whose ids are in `without`: what
    stores first, and what deletes last. Gives (operation, status); AssertionError for an answer that is not as described."""
    status, document = server.get("/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    operations = [(path, method, operation) for path, methods in document["paths"].items()
                  for method, operation in methods.items()]
    ids = {operation["operationId"] for _, _, operation in operations}
    assert len(ids) == len(operations) and ids >= set(without)
    operations.sort(key=lambda each: ("post", "get", "delete").index(each[1]))
    for path, method, operation in operations:
        if operation["operationId"] in without:
            continue
        bodies = operation.get("requestBody", {"content": {}})
        kinds = list(bodies["content"].items())
        if not bodies.get("required"):
            kinds.append((None, {}))
        for kind, content in kinds:
            where, headers = target(document, path, operation, kind)
            body = content.get("example")
            body = body.encode() if isinstance(body, str) else body
            status, told, answer = server.ask(method.upper(), where, body, headers)
            try:
                check(document, operation, status, told["content-type"], answer)
            except AssertionError as error:
                raise AssertionError(f"{method} {where}: {error}") from error
            yield operation, status
