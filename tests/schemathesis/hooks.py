"""Loaded by schemathesis.toml."""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    """To JSON Schema 2.0 is an integer; to this service it is not, so it is sent as 2."""
    if isinstance(body, dict):
        return {name: whole(value) for name, value in body.items()}
    return body


def whole(value):
    return int(value) if isinstance(value, float) and value.is_integer() else value
