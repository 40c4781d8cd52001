"""What a page of a report holds, for tests: its elements, its attributes, its figures and its text."""

from html.parser import HTMLParser

# nothing of these loads or runs anything
ELEMENTS = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "link",
        "style",
        "body",
        "header",
        "main",
        "section",
        "footer",
        "h1",
        "h2",
        "h3",
        "p",
        "span",
        "div",
        "dl",
        "dt",
        "dd",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "svg",
        "rect",
        "line",
        "text",
        "figure",
        "figcaption",
        "details",
        "summary",
        "ul",
        "li",
        "pre",
        "article",
        "mark",
        "bdi",
        "code",
        "br",
    ]
)
ATTRIBUTES = frozenset(
    [
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "rel",
        "href",
        "class",
        "id",
        "aria-labelledby",
        "aria-label",
        "aria-hidden",
        "role",
        "tabindex",
        "scope",
        "data-figure",
        "viewbox",
        "preserveaspectratio",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
        "width",
        "height",
        "text-anchor",
        "dir",
    ]
)


class Page(HTMLParser):
    """A page that was parsed. figures: by data-figure; text: without the labels of what is marked; marks: what is."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.figures: dict[str, str] = {}
        self.texts: list[str] = []
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.marks: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src")}
        if tag not in ("meta", "link", "br", "rect", "line"):
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "dt", "dd", "li", "h3", "caption"):
            self.texts.append(" ")
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = [tag for tag, _ in self.open]
        if "style" in inside or any((each.get("class") or "").startswith("tag") for _, each in self.open):
            return
        self.texts.append(data)
        if inside and inside[-1] == "mark":
            self.marks.append(data)
        for _, attributes in self.open[-1:]:
            if name := attributes.get("data-figure"):
                self.figures[name] = data

    @property
    def text(self) -> str:
        return "".join(self.texts)
