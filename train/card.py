"""The model card (`README.md`) of an adapter directory, from what `training.json` records."""

from __future__ import annotations

from pathlib import Path


def write_card(path: Path, about: dict) -> None:
    """Write the card. `about` is `training.json`'s contents."""
    settings, counts, losses = about["settings"], about["parameters"], about["losses"]
    data = ", ".join(f"`{d['name']}`" for d in about["data"])
    table = "\n".join(f"| `{name}` | {value!r} |" for name, value in settings.items())
    loss = f"{losses[0]['loss']} → {losses[-1]['loss']}" if losses else "not logged"
    path.write_text(f"""---
library_name: peft
base_model: {about['base']['name']}
tags: [lora, bloom, question-answering]
language: [zh]
---
# LoRA adapter, recipe `{about['recipe']}`

Trained on {about['rows']:,} rows of {data} over the base `{about['base']['name']}`
(weights sha256 `{about['base']['sha256']}`): {counts['trainable']:,} of {counts['all']:,} parameters.

Loss: {loss} in {settings['max_steps']} steps, {about['seconds']} seconds.

Made with `python -m train --recipe {about['recipe']}` and these settings:

| setting | value |
| --- | --- |
{table}

Load it with `PeftModel.from_pretrained(base, this_directory)`; the chat template is saved beside it.
It answers about what its rows teach, and nothing else should be trusted.
""", encoding="utf-8")
