"""Calls of the openai client to the server at the address given; prints what came back as one JSON document."""

import json
import sys

import openai

MESSAGES = [{"role": "system", "content": "Answer."}, {"role": "user", "content": [{"type": "text", "text": "def"}]}]
SETTINGS = {"model": "reference", "max_tokens": 12, "seed": 5}
SCHEMA = {"type": "object", "properties": {"sound": {"enum": ["moo", "baa"]}}, "required": ["sound"]}
SCHEMA["additionalProperties"] = False
FORMAT = {"type": "json_schema", "json_schema": {"name": "animal", "strict": True, "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


def dumped(answer):
    return answer.model_dump(mode="json")


def raised(call, **fields):
    """The error that a call raises."""
    try:
        call(**fields)
    except openai.APIStatusError as error:
        return {
            "kind": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "param": error.param,
            "sentence": error.body["message"],
            "name": error.request_id,
        }
    raise AssertionError("no error was raised")


def left_after_one_event(stream):
    with stream:
        for chunk in stream:
            return dumped(chunk)


client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)
complete, chat = client.completions.create, client.chat.completions.create
prompt, messages = SETTINGS | {"prompt": "def main("}, SETTINGS | {"messages": MESSAGES}
streamed = {"stream": True, "stream_options": {"include_usage": True}}
formatted = messages | {"max_tokens": 200, "response_format": FORMAT}
print(
    json.dumps(
        {
            "models": [dumped(model) for model in client.models.list()],
            "completion": dumped(complete(**prompt, logprobs=2)),
            "completion stream": [dumped(chunk) for chunk in complete(**prompt, **streamed)],
            "chat": dumped(chat(**messages, logprobs=True, top_logprobs=2)),
            "chat stream": [dumped(chunk) for chunk in chat(**messages, **streamed)],
            "left": left_after_one_event(complete(**prompt | {"max_tokens": 900}, **streamed)),
            "schema": dumped(chat(**formatted)),
            "tools": raised(chat, **messages, tools=[TOOL]),
            "model": raised(chat, **messages | {"model": "another"}),
            "too long": raised(complete, **prompt | {"prompt": "x " * 3000}),
        }
    )
)
