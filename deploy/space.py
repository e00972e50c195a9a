"""make space SPACE=owner/name: upload this project to a Hugging Face Space, made where it does not exist.

By huggingface_hub, because a Space refuses binaries that plain git pushes. The token is huggingface_hub's own
business (`hf auth login`, or HF_TOKEN).
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # started as a file, by make
from lens.cli import Parser, command  # noqa: E402
from lens.errors import BadSetting, first_line  # noqa: E402

NAME = re.compile(r"[\w.-]+/[\w.-]+")
FILES = ("app.py", "README.md", "README.zh.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff",
         "LICENSE", "requirements.txt")
FOLDERS = ("assets", "compare", "lens", "train", "docs")
NEVER = ("__pycache__", ".ipynb_checkpoints")  # folders
NEVER_ENDING = (".pyc", ".part", ".pt", ".pth")
FRONT_MATTER = re.compile(r"---\n(.*?)\n---\n", re.DOTALL)


class BadSpace(BadSetting):
    """What keeps the upload from starting; one sentence meant for the user."""


def files_of_a_space(root: Path) -> list[str]:
    """Paths below `root` that a Space needs, sorted; optimizer states and caches are left out."""
    found = [name for name in FILES if (root / name).is_file()]
    for folder in FOLDERS:
        found += [path.relative_to(root).as_posix() for path in (root / folder).rglob("*")
                  if path.is_file() and path.suffix not in NEVER_ENDING and path.parent.name not in NEVER]
    return sorted(found)


def check_front_matter(readme: str) -> None:
    """Raises BadSpace unless README.md begins with what a Space reads: the SDK and the file to start."""
    head = FRONT_MATTER.match(readme)
    lines = dict(line.split(":", 1) for line in head[1].splitlines() if ":" in line) if head else {}
    for key, value in (("sdk", "gradio"), ("app_file", "app.py")):
        if (found := lines.get(key, "").strip()) != value:
            raise BadSpace("space-front-matter", key=key, found=found or "missing", value=value)


def variables(args: argparse.Namespace) -> dict[str, str]:
    """The Space's variables, which app.py reads."""
    return {key: value for key, value in (("BASE_MODEL", args.base), ("ADAPTER", args.adapter)) if value}


def upload(args: argparse.Namespace) -> str:
    """Make the Space where it is missing, set its variables, upload; returns its address. Raises BadSpace."""
    if not NAME.fullmatch(args.space):
        raise BadSpace("space-name", name=repr(args.space)[:80])
    check_front_matter((ROOT / "README.md").read_text(encoding="utf-8"))
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        address = api.create_repo(args.space, repo_type="space", space_sdk="gradio", exist_ok=True,
                                  private=args.private or None)
        for key, value in variables(args).items():
            api.add_space_variable(args.space, key, value)
        api.upload_folder(repo_id=args.space, repo_type="space", folder_path=ROOT, delete_patterns=["*"],
                          allow_patterns=files_of_a_space(ROOT), commit_message="Upload LoRA Lens")
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as err:
        raise BadSpace("space-not-uploaded", name=args.space, reason=first_line(err)) from err
    return str(address)


@command
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python deploy/space.py", description="Upload this project to a Space.")
    parser.add_argument("space", help="OWNER/NAME")
    parser.add_argument("--private", action="store_true", help="where the Space is made: not public")
    parser.add_argument("--base", help="hub name of a base, such as bigscience/bloom-1b1 (default: the embedded base)")
    parser.add_argument("--adapter", help="hub name of an adapter for it")
    parser.add_argument("--dry-run", action="store_true", help="only list what would be uploaded, and check it")
    args = parser.parse_args(argv)
    if args.dry_run:
        check_front_matter((ROOT / "README.md").read_text(encoding="utf-8"))
        print("\n".join(files_of_a_space(ROOT)))
    else:
        print(upload(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
