"""For schemathesis: no requests that the schema allows and that may be refused nevertheless, for what is in a text: a
grammar that is none, or a tree that is larger than the server's."""

import schemathesis

GRAMMARS = {"guided_json", "guided_regex", "guided_choice", "guided_grammar", "response_format", "structured_outputs"}


@schemathesis.hook
def filter_body(context, body):
    if not isinstance(body, dict):
        return True
    return all(body.get(name) is None for name in GRAMMARS) and not isinstance(body.get("speculation"), dict)
