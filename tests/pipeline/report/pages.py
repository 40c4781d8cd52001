"""An output over hostile texts, and a parser of its page: elements, attributes, figures and text."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from distilray.pipeline.commands.run import execute
from distilray.pipeline.job.job import Job, parse_job
from tests.support import make_checkpoint, write_shard

HOSTILE = [
    "<script>alert(1)</script> Lincoln met Mary in Paris [MASK]",
    '"><img src=x onerror=alert(1)> New York and London [MASK]',
    "'onmouseover='alert(1) {{ 7*7 }} {% raw %} {{ config }} [MASK]",
    "</style></title></pre><style>*{display:none}</style> [MASK]",
    "evil \u202e gnp.exe \u2066 overridden \u2069 [MASK]",
    "con\x00trol \x1b[31m red \x07 [MASK] and [MASK]",
    "--> ]]> <!-- &lt;b&gt; &amp; &#60;i&#62; [MASK]",
    "\u05e2\u05d1\u05e8\u05d9\u05ea \u0627\u0644\u0639\u0631\u0628\u064a\u0629 [MASK]",
    " ".join(["the war of washington and lincoln in america"] * 60) + " [MASK]",
]
LABELS = ("O", "B-<i>PER", "I-<i>PER", 'B-"onload="x', 'I-"onload="x')

# none of these elements loads or runs anything
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
    """A parsed page.

    figures: the values by `data-figure`. text: all text without the labels of spans. marks: the texts of spans.
    """

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


def hostile_job(folder: Path) -> Job:
    """Run a job with every task over hostile texts in a shard with a hostile name. 36 rows are answered, 4 are dead."""
    kinds: dict[str, dict[str, Any]] = {
        "ner": {"labels": LABELS},
        "label": {"labels": ("<svg/onload=alert(1)>", "b\u202e", "c"), "head": "sequence-classification"},
        "nli": {"labels": ("contradiction", "neutral", "entailment"), "head": "sequence-classification"},
        "qa": {"head": "question-answering"},
        "mlm": {"head": "masked-lm"},
        "choice": {"head": "multiple-choice"},
    }
    models = {
        name: str(make_checkpoint(folder / name, layers=1, positions=128, **kind)) for name, kind in kinds.items()
    }
    texts = [*HOSTILE * 4, None, None, *HOSTILE[:2]]
    options = [["<b>yes</b>", "no"]] * 38 + [["only"]] * 2
    write_shard(folder / "in/<img src=x onerror=alert(1)>.parquet", texts, 4, options=options)
    raw = {
        "source": {"uri": str(folder / "in")},
        "tasks": [
            {"task": "token-classification", "model": models["ner"]},
            {"task": "text-classification", "model": models["label"], "long_texts": "mean"},
            {"task": "zero-shot-classification", "name": "about", "model": models["nli"], "labels": ["war", "<u>peace"],
             "long_texts": "truncate"},
            {"task": "question-answering", "model": models["qa"], "questions": ["who<script>", "where"], "top_k": 2},
            {"task": "fill-mask", "model": models["mlm"], "top_k": 2},
            {"task": "multiple-choice", "model": models["choice"], "choices": "options", "long_texts": "truncate"},
            {"task": "embeddings", "model": models["ner"], "long_texts": "mean"},
        ],
        "sink": {"uri": str(folder / "out"), "dead_text": True},
        "compute": {"engine": "local", "unit_bytes": 600, "dtype": "float32", "parity": {"rows": 10}},
    }  # fmt: skip
    job = parse_job(raw, "test")
    execute(job)
    return job
