"""For schemathesis: no requests that the schema allows and that may be refused nevertheless, for what it cannot say: a
grammar is none, a tree is larger than the server's, a bias is of no token, more tokens are asked for than may be, a
prompt has none."""

import schemathesis

MAX_TOKENS = 16  # of a completion that does not say how many
GRAMMARS = {"guided_json", "guided_regex", "guided_choice", "guided_grammar", "response_format", "structured_outputs"}


@schemathesis.hook
def filter_body(context, body):
    if not isinstance(body, dict):
        return True
    left_out = any(body.get(name) is not None for name in GRAMMARS) or isinstance(body.get("speculation"), dict)
    return not (left_out or body.get("logit_bias") or asks_for_too_many(body) or has_blank_prompt(body))


def has_blank_prompt(body):
    prompt = body.get("prompt")
    texts = prompt if isinstance(prompt, list) else [prompt]
    return any(isinstance(text, str) and not text.strip() for text in texts)


def asks_for_too_many(body):
    fewest, *most = (body.get(name) for name in ("min_tokens", "max_tokens", "max_completion_tokens"))
    given = [each for each in most if isinstance(each, int | float)]
    return isinstance(fewest, int | float) and fewest > min(given, default=MAX_TOKENS)
