"""Hooks of mkdocs: what the site has beside the files in docs/. Needs the group `docs`.

Generated from the code: the help of every command, the metrics, one entry in the navigation for each check. Taken from
the repository: the newcomer's path of README.md, the guides beside the code. Links are written as they are right in the
repository; here they are led to the page on the site, and what has no page is shown without a link.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import griffe

ROOT = Path(__file__).resolve().parent.parent
# Pages of the site that lie elsewhere in the repository.
TAKEN = {
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "client.md": "client/README.md",
    "benchmarks.md": "benchmarks/README.md",
    "examples/digits.md": "examples/digits/README.md",
}
SITE_OF = {source: page for page, source in TAKEN.items()} | {"README.md": "start.md"}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]+)?\)")
PICTURE = re.compile(r"!\[([^\]]+)\]\((pictures/[\w-]+\.svg)\)")
NEWCOMER = re.compile(r"^## (Your own model, in ten minutes\n.*?)^## ", re.M | re.S)
EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.M)
MARK = re.compile(r"^<!-- (?:run|not run: .*|file: .*) -->\n", re.M)


def on_config(config: Any) -> Any:
    """The navigation without pages that do not exist, and with the checks."""
    from models.checks.catalogue import CHECKS  # noqa: PLC0415 -- scipy is slow to import

    present = {*_made(), *(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))}
    config["nav"] = list(_kept(config["nav"], present))
    checks = [f"reference/checks/{check.id}.md" for check in CHECKS]
    config["nav"].append({"Checks": ["reference/checks.md", *checks]})
    return config


def _kept(entries: Any, present: set[str]) -> Iterator[Any]:
    for entry in entries:
        ((title, target),) = entry.items() if isinstance(entry, dict) else ((None, entry),)
        if isinstance(target, list):
            yield {title: list(_kept(target, present))}
        elif target in present and target != "reference/checks.md":
            yield entry


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here."""
    from mkdocs.structure.files import File  # noqa: PLC0415 -- of the group `docs`

    for name, text in _made().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Marks of the tests are taken out, drawings put in, links led to pages of the site."""
    here = page.file.src_uri
    text = PICTURE.sub(_drawing, MARK.sub("", markdown))
    source = "README.md" if here == "start.md" else TAKEN.get(here, f"docs/{here}")
    return LINK.sub(lambda found: _led(found, source, here), text)


def _led(found: re.Match[str], source: str, here: str) -> str:
    """A link of the file `source` on the page `here`."""
    text, target, anchor = found[1], found[2], found[3] or ""
    wanted = os.path.normpath(os.path.join(os.path.dirname(source), target)).replace(os.sep, "/")
    page = SITE_OF.get(wanted) or (wanted.removeprefix("docs/") if wanted.startswith("docs/") else None)
    if page is None:
        return text
    return f"[{text}]({os.path.relpath(page, os.path.dirname(here) or '.').replace(os.sep, '/')}{anchor})"


def _drawing(found: re.Match[str]) -> str:
    """A drawing within the page, so that it has the colours of the page, light or dark."""
    svg = (ROOT / "docs" / found[2]).read_text("utf-8")
    label = found[1].replace('"', "&quot;")
    drawn = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" class="drawing" ', 1).strip()
    return f'<div class="flow" tabindex="0">{drawn}</div>'


class Fenced(griffe.Extension):
    """Examples in docstrings as code, wherever in the text they stand."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put fences around the lines of an example."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)


# -- pages that are made -------------------------------------------------------------------------------------


def _made() -> dict[str, str]:
    """Pages of the site by name, with their text."""
    taken = {name: (ROOT / path).read_text("utf-8") for name, path in TAKEN.items() if (ROOT / path).exists()}
    newcomer = NEWCOMER.search((ROOT / "README.md").read_text("utf-8"))
    start = f"# {newcomer[1]}" if newcomer else ""
    made = {"start.md": start, "reference/help.md": _help(), "reference/metrics.md": _metrics()}
    return {**taken, **made, "reference/client.md": _client()}


def _client() -> str:
    """The public names of the client, which mkdocstrings fills in from its docstrings."""
    import bestbefore_client  # noqa: PLC0415 -- only where the site is built

    names = [name for name in bestbefore_client.__all__ if not name.isupper()]
    parts = ["# Python client\n\nWhat `import bestbefore_client` gives; how to use it: [the guide](../client.md)."]
    return "\n\n".join([*parts, *(f"::: bestbefore_client.{name}" for name in names)]) + "\n"


def _help() -> str:
    from infra.cli import main  # noqa: PLC0415 -- only where the site is built

    parts = ["# Help of every command\n\nWhat `--help` prints. What each command is for: [commands](commands.md)."]
    for path, command in _commands(main, ("bestbefore",)):
        context = click.Context(command, info_name=" ".join(path), terminal_width=100, max_content_width=100)
        parts.append(f"## {' '.join(path)}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts) + "\n"


def _commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _metrics() -> str:
    """Names, kinds, labels and meanings of what the code counts, whichever page explains them."""
    from streams.metrics import Metrics  # noqa: PLC0415 -- only where the site is built

    metrics = Metrics(lambda _: True, "")
    rows = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | {family.documentation} |"
        for family in metrics.registry.collect()
        if family.name.startswith("bestbefore_")
    ]
    head = (
        "# Metrics\n\nWhat each worker counts, from the code; those of partitions and services appear as it runs.\n\n"
    )
    return f"{head}| metric | type | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"
