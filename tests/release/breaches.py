"""Ways to break a package for OptunaHub, by the rule that should notice."""

import re
from collections.abc import Callable
from pathlib import Path

Break = Callable[[Path], None]


def edit(name: str, old: str, new: str) -> Break:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def add(name: str, content: str | bytes) -> Break:
    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def remove(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


def field(name: str, value: str) -> Break:
    """Give a field of the front matter another value, or none."""

    def change(folder: Path) -> None:
        text = (folder / "README.md").read_text()
        line = f"{name}: {value}\n" if value else ""
        changed = re.sub(rf"^{name}: .*\n", lambda _: line, text, count=1, flags=re.MULTILINE)
        assert changed != text
        (folder / "README.md").write_text(changed)

    return change


def both(first: Break, second: Break) -> Break:
    def change(folder: Path) -> None:
        first(folder)
        second(folder)

    return change


def move(name: str) -> Break:
    def change(folder: Path) -> None:
        (folder.parent.parent / name).parent.mkdir(parents=True, exist_ok=True)
        folder.rename(folder.parent.parent / name)

    return change


README, INIT, EXAMPLE = "README.md", "__init__.py", "example.py"
TEST, NEEDS = "tests/test_sampler.py", "requirements.txt"
LOAD = 'load_module(package="samplers/aquasurf")'
IMAGE = "\n![Search](images/a.png)\n\n## APIs"

# rule -> breaches of it: what was done, and what the rule says of it
BREACHES: dict[str, list[tuple[Break, str]]] = {
    "place_is_valid": [
        (move("samplers/aqua-surf"), "must be a Python module's name"),
        (move("samplers/AquaSurf"), "must be a Python module's name"),
        (move("samplers/class"), "must be a Python module's name"),
        (move("sampler/aquasurf"), "the category is 'sampler'"),
        (move("../samplers/aquasurf"), "in a folder named package"),
    ],
    "required_files_are_there": [
        (remove(README), "README.md: it is missing"),
        (remove("LICENSE"), "LICENSE: it is missing"),
        (remove(INIT), "__init__.py: it is missing"),
    ],
    "files_are_text": [
        (add("weights.pt", b"\x80\x02\xff"), "weights.pt: a binary file"),
        (add("table.txt", b"a\0b"), "table.txt: a binary file"),
        (lambda folder: (folder / "code.py").symlink_to("example.py"), "code.py: a binary file"),
        (lambda folder: (folder / "more").symlink_to("tests"), "more: a binary file, or a link"),
    ],
    "nothing_is_left_over": [
        (add("__pycache__/a.txt", ""), "__pycache__/a.txt: a file that tools leave"),
        (add("tests/.pytest_cache/README", ""), "tests/.pytest_cache/README: a file"),
        (add("run.log", ""), "run.log: a file"),
    ],
    "images_are_small_and_shown": [
        (add("images/a.png", b"\x89PNG"), "images/a.png: the README does not show it"),
        (
            both(add("images/a.png", b"\xff" * 200_000), edit(README, "\n## APIs", IMAGE)),
            "200000 bytes",
        ),
    ],
    "license_is_mit": [
        (edit("LICENSE", "The AQuaSurF for PyTorch developers", "<COPYRIGHT HOLDER>"), "a line"),
        (edit("LICENSE", "Copyright (c)", "Copyright"), "a line 'Copyright"),
        (edit("LICENSE", "free of charge", "for a fee"), "not the text of the MIT"),
    ],
    "front_matter_is_complete": [
        (edit(README, "---\n", ""), "no front matter"),
        (edit(README, "author: ", "author: [: "), "no front matter"),
        (field("author", ""), "author is None"),
        (field("title", "3"), "title is 3"),
        (field("description", "''"), "description is ''"),
        (field("tags", "sampler"), "tags is 'sampler'"),
        (field("optuna_versions", "[4.8]"), r"optuna_versions is \[4.8\]"),
        (field("license", "Apache"), "license is 'Apache'"),
    ],
    "nothing_is_left_to_fill_in": [
        (edit(README, "Is ReLU", "Please fill in. Is ReLU"), "'Please fill in' is the template's"),
        (add("more.py", "from .a import YOUR_FEATURE\n"), "more.py: 'YOUR_FEATURE'"),
    ],
    "front_matter_is_for_readers": [
        (field("title", "AquaSurfSampler"), "a class's name"),
        (field("description", "It searches. It finds."), "one sentence"),
        (field("optuna_versions", "[new]"), "'new' is no version"),
    ],
    "tags_name_the_category": [
        (field("tags", "[activation function]"), "'sampler' must be among them"),
        (field("tags", ""), "'sampler' must be among them"),
    ],
    "sections_are_there": [
        (edit(README, "## Abstract", "## Summary"), "no section '## Abstract'"),
        (edit(README, "## APIs", "### APIs"), "no section '## APIs'"),
        (edit(README, "## Example", "## Use"), "no section '## Example'"),
        (
            both(
                edit(README, "## Example", "## X"),
                edit(README, "## Abstract", "## Example\n\ntext\n\n## Abstract"),
            ),
            "the order",
        ),
        (edit(README, "## APIs", "## More\n\n## APIs"), "'More' is empty"),
    ],
    "installation_is_told": [
        (edit(README, "samplers/aquasurf/requirements.txt", "x"), "must name https://hub"),
        (edit(README, "## Installation", "## Setting up"), "must name https://hub"),
    ],
    "example_is_python": [
        (edit(README, "```python\n", "```\n"), "no block of Python"),
        (edit(README, "study = optuna", "study study = optuna"), "a block of Python is none"),
    ],
    "images_are_relative": [
        (edit(README, "\n## APIs", IMAGE), "'images/a.png' must be a file"),
        (edit(README, "\n## APIs", IMAGE.replace("images", "https://a.b")), "'https://a.b/a.png'"),
    ],
    "readme_has_no_html": [
        (edit(README, "Is ReLU", "<b>Is</b> ReLU"), "'<b>' is HTML"),
        (edit(README, "Is ReLU", "Is <br/> ReLU"), "'<br/>' is HTML"),
        (edit(README, "Is ReLU", '<img src="a"> Is ReLU'), "is HTML"),
        (edit(README, "Is ReLU", "<!-- hidden --> Is ReLU"), "'<!--' is HTML"),
    ],
    "readme_is_formatted": [
        (edit(README, "## APIs", "## APIs  "), "blanks at the end"),
        (edit(README, "## APIs", "\n\n## APIs"), "two empty lines"),
        (edit(README, "- `seed`", "* `seed`"), r"lists with \*"),
        (edit(README, "## APIs", "APIs\n----"), "underlined headings"),
        (edit(README, "    year={2023}\n}\n```\n", "    year={2023}\n}\n```"), "line feed"),
    ],
    "python_is_python": [(add("more.py", "def\n"), "more.py: it is not Python")],
    "init_exports_the_feature": [
        (edit(INIT, "__all__", "names"), "no __all__"),
        (edit(INIT, "__all__ = [", '__all__ = [\n    "Sampler",'), "lists 'Sampler'"),
        (add(INIT, "__all__ = []\n"), "no __all__ with names"),
    ],
    "examples_load_the_published_package": [
        (edit(README, LOAD, LOAD.replace("samplers/", "")), "README.md: it loads 'aquasurf'"),
        (edit(EXAMPLE, LOAD, LOAD.replace(")", ', ref="mine")')), "example.py: it passes ref="),
        (edit(README, LOAD, LOAD.replace(")", ', repo_owner="me")')), "it passes repo_owner="),
        (edit(EXAMPLE, LOAD, LOAD.replace("module", "local_module")), "it loads a local folder"),
        (edit(EXAMPLE, "return_X_y=True", "'/home/me/digits'"), "a folder of somebody's"),
        (edit(EXAMPLE, f"optunahub.{LOAD}", "optuna"), "it must load the package"),
    ],
    "requirements_are_additional": [
        (add(NEEDS, "optuna>=4\naquasurf\n"), "optuna is there anyway"),
        (add(NEEDS, "aquasurf >> 1\n"), "is not a requirement"),
        (add(NEEDS, "# nothing\n"), "it is empty"),
    ],
    "tests_are_in_their_place": [
        (add("test_more.py", ""), "test_more.py: a test outside tests/"),
        (add("tests/testing.py", ""), "tests/testing.py: a test outside"),
        (edit(TEST, '"samplers/aquasurf"', '"samplers/other"'), r"it loads \['samplers/other'\]"),
    ],
    "ruff_is_content": [
        (edit(EXAMPLE, "import torch\n", "import sys\nimport torch\n"), "F401"),
        (edit(EXAMPLE, "import optuna\nimport optunahub", "import optunahub, optuna"), "I001"),
    ],
    "ruff_would_format_nothing": [(edit(EXAMPLE, "seed=0,", "seed = 0,"), "example.py")],
    "mypy_is_content": [
        (edit(EXAMPLE, "(trial: optuna.Trial) -> float", "(trial)"), "annotation"),
        (edit(EXAMPLE, "images[:128]", "images[:128] + undefined"), "undefined"),
    ],
}
