"""The model card (`README.md`) of an adapter directory, from what `training.json` records."""

from __future__ import annotations

import re

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
LEFT_OUT = {"skipped_rows": "bad rows left out", "dropped_rows": "too long and left out", "cut_rows": "cut at the end",
            "endings_lost": "answers without their ending"}


def cell(text: object) -> str:
    """Text that stays inside one cell of a Markdown table."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def table(head: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def loss_text(about: dict) -> str:
    """One sentence on how the losses went."""
    losses, held = about["losses"], about["eval_losses"]
    if not losses:
        return "No loss was logged."
    text = f"Training loss {course(losses)}"
    if held:
        text += f"; held-out loss ({about['eval_rows']:,} rows) {course(held)}"
    memory = f", at most {about['peak_memory'] / 1e9:.2f} GB of memory" if about["peak_memory"] else ""
    return text + (f". {about['steps']:,} steps, {about['rows_seen']:,} rows seen, {about['seconds']} seconds on "
                   f"{about['device']} in {about['dtype']}{memory}.")


def course(losses: list[dict]) -> str:
    """The first loss and the last, each with its step."""
    ends = losses[:1] + losses[1:][-1:]
    return ", ".join(f"{x['loss']:.4f} at step {x['step']}" for x in ends)


def lineage_text(about: dict) -> str:
    """What the weights came from, and what was changed on the way, or nothing."""
    lineage, changes = about.get("lineage"), about.get("changes") or []
    said = f" It started from the adapter `{lineage['from_adapter']}`." if lineage else ""
    return said + "".join(f" From step {c['step']} on `{c['setting']}` was `{c['after']}`, before `{c['before']}`."
                          for c in changes)


def example_text(about: dict) -> str:
    """The probe answers as a section, or nothing."""
    if not about["examples"]:
        return ""
    rows = [(cell(e["question"]), cell(e["answer"]), e["finish"]) for e in about["examples"]]
    return (f"## What it answered at step {about['examples'][0]['step']}\n\nGreedy, at most 64 tokens; not chosen.\n\n"
            + table(("question", "answer", "finish"), rows) + "\n\n")


def metadata(about: dict) -> str:
    """The card's YAML: what the hub and PEFT read. A base or data set that is not on the hub has no name there."""
    from huggingface_hub import ModelCardData

    base, data = about["base"]["name"], [d["name"] for d in about["data"] if d["sha256"] is None]
    tags = ["lora", about.get("family", "bloom")]
    return ModelCardData(library_name="peft", pipeline_tag="text-generation", tags=tags,
                         base_model=base if HUB_ID.fullmatch(base) else None,
                         datasets=[name.partition(":")[0] for name in data] or None).to_yaml() + "\n"


def card(about: dict, picture: bool = False) -> str:
    """Its text. `about` is `training.json`'s contents; `picture`: `loss.png` lies beside it."""
    base, counts = about["base"], about["parameters"]
    data = ", ".join(f"`{d['name']}`" for d in about["data"])
    sha = f" (weights sha256 `{base['sha256']}`)" if base["sha256"] else ""
    share = f"{counts['trainable']:,} of {counts['all']:,} parameters"
    left_out = "".join(f", {about[key]:,} {what}" for key, what in LEFT_OUT.items() if about.get(key))
    values = [(f"`{k}`", f"`{v!r}`".replace("|", "\\|")) for k, v in about["settings"].items()]
    return f"""---
{metadata(about)}---
# LoRA adapter, recipe `{about['recipe']}`

Trained on {about['rows']:,} rows of {data}{left_out}, over the base `{base['name']}`{sha}: {share}.

{loss_text(about)}{lineage_text(about)}

{'![loss over steps](loss.png)' + chr(10) * 2 if picture else ''}{example_text(about)}## How it was made

`python -m train --recipe {about['recipe']}` with these settings:

{table(("setting", "value"), values)}

Load it with `PeftModel.from_pretrained(base, this_directory)`; the chat template is saved beside it.
"""
