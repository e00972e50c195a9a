"""What a program asks in OpenAI's form, read and checked: a model's name, messages, and how to choose tokens.

What the form has and an engine has not is refused by its name, never left out silently.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from compare.engine.interface import BASE, RANGES, Engine, Question, Sampling, Variant
from lens.chat import valid_text
from lens.errors import BadQuestion, BadSetting

LENGTH = 128  # tokens of an answer where none are asked for
STOPS = 4  # texts that may end an answer
CANDIDATES = 5  # rivals of a token that an engine names
READ = {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "stream",
        "stream_options", "logprobs", "top_logprobs", "repetition_penalty"}
ABOUT_THE_CALLER = {"user", "metadata", "safety_identifier", "prompt_cache_key"}  # no answer depends on them
# What may be said although nothing else can be had: its one value, beside null.
ONLY = {"n": 1, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "tools": [], "tool_choice": "none",
        "response_format": {"type": "text"}, "modalities": ["text"], "store": False}


def model_names(engine: Engine) -> list[str]:
    """What can be asked for as it is; each adapter at another strength too, as `lens@0.5`."""
    return [BASE.name, *(f"{name}@1" if name == BASE.name else name for name in engine.adapters)]


def variant_of(engine: Engine, model: object) -> Variant:
    """`base`, an adapter's name, or that and a strength. Raises BadSetting, BadQuestion for the strength."""
    name = text_of("model", model)
    if name == BASE.name:
        return BASE
    if name in engine.adapters:
        return Variant.of(name)
    adapter, _, strength = name.rpartition("@")
    if adapter not in engine.adapters:
        raise BadSetting("model-unknown", name="model", model=repr(name)[:80],
                         models=", ".join(model_names(engine))[:400])
    try:
        value = float(strength)
    except ValueError as err:
        raise BadSetting("model-strength", name="model", model=repr(name)[:80], adapter=adapter) from err
    RANGES["strength"].check("strength", value)
    return Variant(name, adapter, value)


def text_of(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadSetting("text-expected", name=name, value=repr(value)[:80])
    return valid_text(value)


def switch(name: str, value: object) -> bool:
    if not isinstance(value, bool | None):
        raise BadSetting("switch-expected", name=name, value=repr(value)[:80])
    return bool(value)


def content_of(message: Mapping) -> str:
    """A message's text, given whole or in parts."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        raise BadSetting("message-not-text", name="messages", value=repr(content)[:80])
    return "".join(text_of("content", part.get("text")) for part in parts)


def question_of(messages: object) -> Question:
    """One system message at most, then one user message: an engine answers one question."""
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise BadSetting("messages-expected", name="messages", value=repr(messages)[:80])
    roles = [str(one.get("role"))[:20].replace("developer", "system") for one in messages]
    if roles not in (["user"], ["system", "user"]):
        raise BadSetting("messages-roles", name="messages", roles=", ".join(roles[:8]) or "—")
    *instruction, question = map(content_of, messages)
    return Question(question, "".join(instruction))


def stops_of(stop: object) -> tuple[str, ...]:
    found = [] if stop is None else stop if isinstance(stop, list) else [stop]
    if len(found) > STOPS or not all(isinstance(one, str) and one for one in found):
        raise BadSetting("stop-texts", name="stop", value=repr(stop)[:80], most=STOPS)
    return tuple(map(valid_text, found))


def sampling_of(body: Mapping) -> Sampling:
    """Greedy unless a temperature is given; then each call has luck of its own, unless a seed is given."""
    lengths = {name: body[name] for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None}
    if len(set(map(repr, lengths.values()))) > 1:
        raise BadSetting("two-lengths", name="max_tokens", **lengths)
    given = {"max_new_tokens": next(iter(lengths.values()), LENGTH),
             **{name: body[name] for name in ("temperature", "top_p", "seed", "repetition_penalty")
                if body.get(name) is not None}}
    return Sampling(**{"seed": secrets.randbelow(2**31), **given})


def rivals_of(body: Mapping) -> int | None:
    """How many candidates of each token are to be named; None where no log-probabilities were asked for."""
    rivals = body.get("top_logprobs")
    if not switch("logprobs", body.get("logprobs")):
        if rivals:
            raise BadSetting("top-logprobs-alone", name="top_logprobs")
        return None
    if rivals is not None and (type(rivals) is not int or not 0 <= rivals <= CANDIDATES):
        raise BadQuestion("whole-number-out-of-range", name="top_logprobs", value=repr(rivals)[:40], low=0,
                          high=CANDIDATES)
    return rivals or 0


@dataclass(frozen=True)
class ChatRequest:
    """`stop`: texts before which the answer ends; `rivals`: candidates a token, None without log-probabilities;
    `usage`: a last piece of a stream with the counts."""

    model: str
    variant: Variant
    question: Question
    sampling: Sampling
    stop: tuple[str, ...] = ()
    stream: bool = False
    usage: bool = False
    rivals: int | None = None

    @classmethod
    def of(cls, engine: Engine, body: object) -> ChatRequest:
        """Raises BadSetting or BadQuestion, whose value `name` is the parameter where it is one's fault."""
        if not isinstance(body, dict):
            raise BadSetting("body-expected", value=repr(body)[:80])
        for name, value in body.items():
            if name in ONLY and value is not None and (value != ONLY[name] or isinstance(value, bool) != (
                    isinstance(ONLY[name], bool))):
                raise BadSetting("parameter-one-value", name=name, value=repr(value)[:80], allowed=repr(ONLY[name]))
            if name not in READ | ABOUT_THE_CALLER | ONLY.keys():
                raise BadSetting("parameter-unknown", name=name[:80], allowed=", ".join(sorted(READ)))
        options = body.get("stream_options") or {}
        if not isinstance(options, dict) or options.keys() - {"include_usage"}:
            raise BadSetting("stream-options", name="stream_options", value=repr(options)[:80])
        return cls(text_of("model", body.get("model")), variant_of(engine, body.get("model")),
                   question_of(body.get("messages")), sampling_of(body), stops_of(body.get("stop")),
                   switch("stream", body.get("stream")), switch("include_usage", options.get("include_usage")),
                   rivals_of(body))
