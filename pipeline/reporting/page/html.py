"""The report as one self-contained page: Markdown to HTML, pictures as data URIs, style in the page; no script or file from
elsewhere."""

import base64
import html
import re
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup
from PIL import Image

from pipeline.reporting.files import damaged
from pipeline.reporting.page.report import Report
from pipeline.reporting.verdict.lines import COLUMNS, SYMBOLS, anchor, caption, heading, lead
from pipeline.reporting.verdict.status import STATUSES

HERE = Path(__file__).parent
TAGS = ("<br>", "<u>", "</u>")  # what the tables are written with; anything else that looks like a tag is text
Tokens = Sequence[Token]


def data_uri(path: Path) -> str:
    content = path.read_bytes()
    try:
        with Image.open(BytesIO(content)) as image:
            image.verify()  # the checksum of each of its parts
    except Exception as error:  # Pillow raises what it likes, by the kind of damage
        raise damaged(path, error) from error
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def slug(text: str) -> str:
    """As GitHub makes them, near enough."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", text.lower())).strip("-")


class Page:
    """Renders parts of one page. `folder`: what paths of pictures start from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ids: set[str] = set()
        self.parser = MarkdownIt("commonmark").enable("table")
        for name, rule in {
            "html_inline": _html,
            "html_block": _html,
            "image": _image,
            "link_open": _link_open,
            "link_close": _link_close,
            "table_open": _table_open,
            "table_close": _table_close,
            "th_open": _header,
            "td_open": _cell,
        }.items():
            self.parser.add_render_rule(name, rule)

    def markdown(self, text: str) -> Markup:
        environment: dict[str, Any] = {"folder": self.folder}
        tokens = self.parser.parse(text, environment)
        for token, inside in pairwise(tokens):
            if token.type == "heading_open":
                token.attrSet("id", self._unused(slug(inside.content)))
        return Markup(self.parser.renderer.render(tokens, self.parser.options, environment))

    def render(self, report: Report) -> str:
        """The whole page."""
        self.ids |= {verdict.anchor for verdict in report.verdicts} | {section.anchor for section in report.sections}
        environment = Environment(
            loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters["markdown"] = self.markdown
        style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
        environment.filters["anchor"] = anchor
        named = {"columns": COLUMNS, "symbols": SYMBOLS, "meanings": STATUSES, "heading": heading, "caption": caption, "lead": lead}
        return environment.get_template("page.html.j2").render(report=report, style=style, **named) + "\n"

    def _unused(self, name: str) -> str:
        found, count = name, 1
        while found in self.ids:
            found, count = f"{name}-{count}", count + 1
        self.ids.add(found)
        return found


def _image(renderer: RendererHTML, tokens: Tokens, index: int, options: Any, env: Any) -> str:
    path = Path(env["folder"], str(tokens[index].attrs["src"]))
    alt = html.escape(renderer.renderInlineAsText(tokens[index].children or [], options, env))
    if not path.resolve().is_relative_to(Path(env["folder"]).resolve()):
        return alt  # no file from elsewhere gets into the page
    with Image.open(path) as image:
        width, height = image.size
    picture = f'<img src="{data_uri(path)}" alt="{alt}" width="{width}" height="{height}">'
    return f'<span class="picture" tabindex="0">{picture}</span>'


def _link_open(renderer: RendererHTML, tokens: Tokens, index: int, options: Any, env: Any) -> str:
    """The page is mailed alone: what leads to a file beside it is text."""
    return renderer.renderToken(tokens, index, options, env) if _within(tokens[index]) else ""


def _link_close(renderer: RendererHTML, tokens: Tokens, index: int, options: Any, env: Any) -> str:
    opened = next(token for token in reversed(tokens[:index]) if token.type == "link_open")  # links are not nested
    return "</a>" if _within(opened) else ""


def _within(link: Token) -> bool:
    return str(link.attrs["href"]).startswith("#")


def _html(renderer: RendererHTML, tokens: Tokens, index: int, options: Any, env: Any) -> str:
    text = tokens[index].content
    return text if text in TAGS else html.escape(text)


def _table_open(renderer: RendererHTML, tokens: Tokens, index: int, options: Any, env: Any) -> str:
    """A wide table scrolls in a box of its own, with the keyboard too."""
    return '<div class="scroll" tabindex="0">\n<table>\n'


def _table_close(renderer: RendererHTML, tokens: Tokens, index: int, options: Any, env: Any) -> str:
    return "</table>\n</div>\n"


def _header(renderer: RendererHTML, tokens: Tokens, index: int, options: Any, env: Any) -> str:
    return '<th scope="col">'


def _cell(renderer: RendererHTML, tokens: Tokens, index: int, options: Any, env: Any) -> str:
    return "<td>"  # all columns stand left; thousands of cells need not say so
