"""Upload an adapter directory to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from lens.errors import Unavailable, first_line


def push(output: Path, repo: str) -> str:
    """Create the repository where it is missing, upload all but checkpoints; returns its address.

    The token is huggingface_hub's own business (`hf auth login`). Raises Unavailable.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        api = HfApi()
        address = api.create_repo(repo, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=output, commit_message="LoRA adapter and its card",
                          ignore_patterns=["checkpoint-*", "checkpoint-*/**", ".*", "runs/**"])
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError) as err:
        raise Unavailable("push-failed", repo=repo, output=output, reason=first_line(err)) from err
    return str(address)
