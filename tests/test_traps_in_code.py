"""Traps of the libraries that are avoided by not calling something, or by overriding a default: read off our code.

Traps that are met by what our code does are in test_traps.py; SECURITY.md lists all.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What must not be called in our code, and the trap behind it.
CALLS = {
    "generate_batch": "continuous batching gives wrong tokens on BLOOM", "merge_adapter": "it drifts",
    "unmerge_adapter": "likewise", "resize_token_embeddings": "it cuts spare rows off",
    "hotswap_adapter": "old token rows stay, silently", "set_scale": "the scale is shared by all visitors",
    "scale_layer": "likewise", "unscale_layer": "likewise", "rescale_adapter_scale": "likewise",
    "disable_adapter": "it writes flags on shared modules: with two threads the wrong column is silently wrong; the "
                       "receipt's check at load has the model to itself",
    "set_peft_model_state_dict": "keys of a crafted file overwrite the base", "load_peft_weights":
    "weights go straight to CUDA, and a pickle is read where there is one",
    "load_adapter": "keys of a crafted file overwrite the base; weights go straight to CUDA",
    "mount_gradio_app": "ZeroGPU hooks Blocks.launch", "GoogleFont": "it is fetched from another host",
    "BrowserState": "without a key and a secret of its own its values are lost at a restart"}
KEYWORDS = {
    "adapter_names": "its hooks leak after an exception, and a compiled graph ignores them",
    "allowed_paths": "it serves whole directories", "allow_pickle": "a pickle runs code",
    "cache_implementation": "\"static\" compiles on CUDA, \"paged\" is continuous batching: wrong tokens on BLOOM",
    "attn_implementation": "BLOOM is eager only", "streamer": "no stock one streams a batch; raising in it leaks hooks",
    "stop_strings": "rows stop, and go on emitting, without an EOS criterion", "trainable_token_indices":
    "the whole vocabulary's matrix is copied at every step", "modules_to_save": "it unties the embedding",
    "track_tqdm": "it shows what libraries print"}
# Names that the libraries took away or renamed: given, they raise, warn, or are not heard.
REMOVED = {
    "warmup_ratio", "evaluation_strategy", "group_by_length", "no_cuda", "overwrite_output_dir", "logging_dir",
    "save_safetensors", "include_tokens_per_second", "dispatch_batches", "split_batches", "gradient_checkpointing",
    "torch_dtype", "load_in_8bit", "load_in_4bit", "additional_special_tokens",
    "show_copy_button", "bubble_full_width", "show_api", "retry_btn", "allow_flagging", "col_count",
    "concurrency_count", "show_reset_button", "cache_examples"}
OURS = [ROOT / "app.py", *(p for place in ("lens", "train", "compare", "deploy") for p in (ROOT / place).rglob("*.py"))]


def calls(paths: list[Path]):
    """(file, what is called, its last name, keyword names and values) of every call in some files."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).split(".")[-1]
                given = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
                yield path.name, ast.unparse(node.func), name, given


@cache
def our_calls():
    return list(calls(OURS))


def test_a_call_is_seen_wherever_it_stands(tmp_path):
    (tmp_path / "a.py").write_text("def f(m):\n    return [m.x.set_scale('a', 2)(cache_implementation='static')]")
    found = list(calls([tmp_path / "a.py"]))
    assert {name for _, _, name, _ in found} >= {"set_scale"}
    assert [keywords for *_, keywords in found if "cache_implementation" in keywords]


def test_traps_that_are_calls_are_in_no_code_of_ours():
    found = our_calls()
    assert len(found) > 1000
    ours = "engine.load_adapter"  # the engine's own, which judges before PEFT sees a file
    assert [(file, name) for file, whole, name, _ in found if name in CALLS and not whole.endswith(ours)] == [
        ("receipt.py", "disable_adapter")]
    assert not [(file, key) for file, _, _, keywords in found for key in keywords if key in KEYWORDS]
    assert not [file for file, _, _, keywords in found if keywords.get("trust_remote_code", "False") != "False"]
    running = ("pickle.load", "pickle.loads", "eval", "exec", "os.system")
    assert not [file for file, whole, *_ in found if whole in running]
    assert all(keywords.get("weights_only") == "True" for _, whole, _, keywords in found if whole == "torch.load")
    assert not [file for file, *_, keywords in found if keywords.get("shell", "False") != "False"]


def test_traps_of_names_that_were_removed_are_in_no_code_of_ours():
    """transformers 5, Gradio 6: given, they raise TypeError or are passed over with a warning."""
    assert not [(file, whole, key) for file, whole, _, keywords in our_calls() for key in keywords
                if key in REMOVED and whole != "run.record.about"]
    source = "\n".join(path.read_text(encoding="utf-8") for path in OURS)
    for name in ("BloomTokenizerFast", "TRANSFORMERS_CACHE", "torch.optim.Muon", "gradio_integrations",
                 "PeftModel.from_pretrained(base, path", "special_tokens_map="):
        assert name not in source.replace("torch.optim.Muon iterates in bfloat16", ""), name


def test_traps_of_defaults_are_overridden_wherever_the_call_is():
    """transformers: `dtype` is the file's; PEFT: `set_adapter` makes weights trainable, merging does not look for NaN,
    and saving asks the hub; torch.compile takes a minute, so nothing but pretraining does it."""
    found = our_calls()

    def given(name: str, key: str, within: str = "") -> list[str]:
        of = [keywords.get(key, "(default)") for _, whole, last, keywords in found if last == name and within in whole]
        assert of, f"nothing calls {name} any more: the rule has lost its object"
        return of

    assert "(default)" not in given("from_pretrained", "dtype", "AutoModelForCausalLM")
    assert set(given("from_pretrained", "use_safetensors", "AutoModelForCausalLM")) == {"not files.pickled"}
    assert set(given("set_adapter", "inference_mode")) == {"True"}
    assert set(given("merge_and_unload", "safe_merge")) == {"True"}
    saved = [keywords for file, whole, *_, keywords in found if whole == "model.save_pretrained"
             and file == "write.py"]
    assert [keywords.get("save_embedding_layers") for keywords in saved] == ["False"]
    assert {file for file, whole, *_ in found if whole == "torch.compile"} == {"pretrain.py"}


def test_trap_theme_and_style_given_to_blocks_are_not_heard():
    """Gradio 6 wants theme, css, js and head in launch(); in Blocks() they only warn."""
    found = our_calls()
    blocks = [keywords for _, _, name, keywords in found if name in ("Blocks", "Page")]
    assert blocks and not [key for keywords in blocks for key in keywords if key in {"theme", "css", "js", "head"}]
    (launch,) = [keywords for _, whole, _, keywords in found if whole == "page.launch"]
    assert {"theme", "head"} <= set(launch)


def test_trap_accelerate_launch_on_a_cpu_runs_one_process():
    """`accelerate launch --cpu --num_processes 2` starts one; several processes are torchrun's, wherever we say how."""
    told = [ROOT / name for name in ("Makefile", "Dockerfile", "README.md", "README.zh.md")]
    told += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.py"), *(ROOT / "train").rglob("*.py")]
    assert not [path.name for path in told if "accelerate launch" in path.read_text(encoding="utf-8")]


def test_trap_zero_gpu_takes_no_async_function():
    """NotImplementedError; and its torch goes down to 2.8, while a bound on `spaces` would fight the Space's own."""
    tree = ast.parse((ROOT / "compare" / "engine" / "zero_gpu.py").read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]
    wanted = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "torch>=2.8,<2.14" in wanted and not [line for line in wanted if line.startswith("spaces")]


def test_trap_gradios_defaults_that_keep_or_show_too_much():
    """`run_history` keeps prompts in the visitor's browser, `show_error` shows what went wrong inside."""
    (launch,) = [keywords for _, whole, _, keywords in our_calls() if whole == "page.launch"]
    assert launch["run_history"] == "False" and launch["show_error"] == "False" and launch["ssr_mode"] == "False"
    assert launch["enable_monitoring"] == "False" and "middleware" in launch["app_kwargs"]
    assert "max_file_size" in launch and launch.get("strict_cors", "True") == "True"
    assert "allowed_paths" not in launch
    assert launch["mcp_server"] == "speaks_mcp()", "without the package mcp it prints an error at every start"


def test_every_test_that_security_names_is_there():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:tests/)?(test_\w+\.py)(?:::(\w+))?`", text))
    assert len(named) > 40
    missing = {f"{file}::{test}" for file, test in named
               if f"def {test}" not in (ROOT / "tests" / file).read_text(encoding="utf-8")}
    assert not missing
