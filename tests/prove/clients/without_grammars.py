"""For schemathesis: no requests for texts under a grammar, which may be none although the schema allows its letters."""

import schemathesis

GRAMMARS = {"guided_json", "guided_regex", "guided_choice", "guided_grammar", "response_format", "structured_outputs"}


@schemathesis.hook
def filter_body(context, body):
    return not isinstance(body, dict) or all(body.get(name) is None for name in GRAMMARS)
