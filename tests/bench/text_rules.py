"""The text rules beside bare spaCy and beside Data-Juicer's way, on one core.

As a part it reports ratios; run as a child it measures. Data-Juicer is taken where it is installed,
with our model in place of the larger one it would download; else its calls are made by hand: every
operator calls the pipeline for every text.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from engine.judge import RuleEntry, judge
from engine.schema import ANNOTATIONS, Tables, claims, image_rows
from filters import RULES
from specialists.phrases import PhraseParser, load_parser, parser_need
from tests.bench.children import ONE_THREAD, answer, read_job, run_child
from tests.bench.results import Row
from tests.bench.settings import Part, say
from tests.conftest import shared_data

_MODEL = "en_core_web_sm"
_FILE = Path("flickr8k-text") / "Flickr8k.token.txt"
_TEXTS_PER_IMAGE = 5
_RULES = (
    *("min_tokens", "max_tokens", "repeated_ngram", "boilerplate", "noisy_alt", "non_language"),
    *("wrong_language", "max_objects", "min_object_complexity", "min_action_complexity"),
    *("repeats_ocr", "near_duplicate_text"),
)
_ON_PHRASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("phrase_blacklist", {}),
    ("max_tokens", {"limits": {"region/phrase": 12}}),
    ("max_objects", {"limits": {"region/phrase": 12}}),
    ("min_object_complexity", {"limits": {"region/phrase": 0}}),
    ("min_action_complexity", {"limits": {"region/phrase": 0}}),
)
_SAMPLE = 2_000  # rows the peer is timed on where there are many
_BARS = {"bare": 0.95, "peer": 2.0, "phrases": 20.0}


def text_rules(part: Part) -> list[Row]:
    """Ratios of CPU time in alternating pairs; more than 1: the rules are faster."""
    missing = _missing()
    if missing:
        say(f"text rules: skipped, {missing}")
        return []
    sizes = {"pairs": 3, "texts": 500, "captions": 2_000}
    if not part.quick:
        sizes = {"pairs": 7, "texts": 2_000, "captions": 40_460}
    job = {"file": str(shared_data() / _FILE), **sizes}
    found = run_child("text_rules", job, variables=ONE_THREAD)
    part.raw["text rules"] = found
    rows = [
        _row(part, "rules, parse and judge / bare nlp.pipe, distinct captions", found["bare"]),
        _row(part, f"rules, parse and judge / {found['peer_is']}", found["peer"], "peer"),
    ]
    for name, it in found["phrases"].items():
        of = (
            f"{it['rows']:,} rows with {it['distinct']:,} texts "
            f"({it['rows'] / it['distinct']:.1f} x)"
        )
        what = f"rules on {name} / {found['peer_is']}, {of}"
        rows.append(_row(part, what, it["peer_ratio"], "phrases"))
        rows.append(_row(part, f"the same / nlp.pipe of every row, {of}", it["ratio"], ""))
    rows.append(Row("text rules", "all rules", found["texts_per_s"], "texts/s"))
    for row in rows:
        say(f"{row.part}: {row.what}: {row.value:.3g}")
    return rows


def _row(part: Part, what: str, value: float, bar: str = "bare") -> Row:
    limit = None if part.quick else _BARS.get(bar)
    return Row("text rules", what, value, "x", limit, at_most=False)


def _missing() -> str:
    if not (shared_data() / _FILE).is_file():
        return f"no {_FILE} in {shared_data()}"
    needs = [parser_need(_MODEL), *RULES.find("wrong_language")().needs()]
    return ", ".join(f"no {need.what}: {need.mend}" for need in needs if not need.present)


def main() -> None:
    job = read_job()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    lines = Path(job["file"]).read_text(encoding="utf-8").splitlines()
    captions = [line.split("\t")[1] for line in lines][: job["captions"]]
    nlp = load_parser(_MODEL)
    peer_is, peer = _peer(nlp)
    _warm_up(nlp, peer)
    seconds: dict[str, list[float]] = {"bare": [], "rules": [], "peer": []}
    runs: dict[str, Callable[[Any], object]] = {
        "bare": partial(_bare, nlp),
        "rules": partial(_judge, _entries([(name, {}) for name in _RULES])),
        "peer": peer,
    }
    for number, texts in enumerate(_chunks(captions, job["texts"], job["pairs"])):
        names = list(runs)
        for name in names[number % 3 :] + names[: number % 3]:  # each is first in turn
            given = _rows("text", "alt", texts) if name == "rules" else texts
            seconds[name].append(_timed(runs[name], given))
    answer(
        {
            "bare": median(np.divide(seconds["bare"], seconds["rules"])),
            "peer": median(np.divide(seconds["peer"], seconds["rules"])),
            "peer_is": peer_is,
            "texts_per_s": job["texts"] / median(seconds["rules"]),
            "seconds": seconds,
            "phrases": _on_phrases(nlp, peer, captions),
        }
    )


def _chunks(captions: list[str], size: int, count: int) -> Iterator[list[str]]:
    """Distinct texts, none in two chunks, so that none is known yet."""
    distinct = list(dict.fromkeys(captions))
    order = np.random.default_rng(0).permutation(len(distinct))
    for start in range(0, min(size * count, len(distinct)), size):
        yield [distinct[place] for place in order[start : start + size]]


def _on_phrases(
    nlp: Any, peer: Callable[[Sequence[str]], object], captions: list[str]
) -> dict[str, Any]:
    """Noun phrases of the captions as region phrases, with the repetition they have.

    The peer takes as long for every row; it is timed on a sample of them.
    """
    phrases = [p for found in PhraseParser().read(captions).values() for p in found]
    kinds = {
        "head nouns": [phrase.noun.split()[-1].lower() for phrase in phrases],
        "noun phrases": [phrase.text for phrase in phrases],
    }
    found = {}
    for name, texts in kinds.items():
        ours = _timed(partial(_judge, _entries(_ON_PHRASES)), _rows("region", "phrase", texts))
        bare = _timed(partial(_bare, nlp), texts)
        some = np.random.default_rng(0).permutation(len(texts))[:_SAMPLE]
        sample = [texts[place] for place in some]
        theirs = _timed(peer, sample) / len(sample) * len(texts)
        found[name] = {
            "rows": len(texts),
            "distinct": len(set(texts)),
            "ratio": bare / ours,
            "peer_ratio": theirs / ours,
        }
    return found


def _entries(rules: Sequence[tuple[str, dict[str, Any]]]) -> list[RuleEntry]:
    return [RuleEntry(RULES.find(name)(**options)) for name, options in rules]


def _warm_up(nlp: Any, peer: Callable[[Sequence[str]], object]) -> None:
    texts = [f"a dog sees cat number {n} and runs away" for n in range(200)]
    _bare(nlp, texts)
    _judge(_entries([(name, {}) for name in _RULES]), _rows("text", "alt", texts))
    peer(texts[:20])


def _bare(nlp: Any, texts: Sequence[str]) -> int:
    return sum(len(doc) for doc in nlp.pipe(texts))


def _rows(kind: str, role: str, texts: Sequence[str]) -> Tables:
    keys = [f"{n // _TEXTS_PER_IMAGE:08d}" for n in range(len(texts))]
    annotations = claims(
        image_key=keys,
        annotation_id=[f"{n:020x}" for n in range(len(texts))],
        kind=kind,
        role=role,
        text=list(texts),
        source="bench",
    )
    images = image_rows(image_key=list(dict.fromkeys(keys)), status="ok")
    return Tables(images, annotations)


def _judge(entries: list[RuleEntry], given: Tables) -> pa.Table:
    return judge(given.images, ANNOTATIONS.empty_table(), given.annotations, entries)[0]


def _timed(function: Callable[[Any], object], given: Any) -> float:
    began = time.process_time()
    function(given)
    return time.process_time() - began


def _peer(nlp: Any) -> tuple[str, Callable[[Sequence[str]], object]]:
    """Data-Juicer's operators on actions and on dependencies, or their calls."""
    if importlib.util.find_spec("data_juicer") is None:
        return "a call per text and operator (Data-Juicer is not installed)", partial(_by_hand, nlp)
    from data_juicer.ops.filter import text_action_filter, text_entity_dependency_filter
    from data_juicer.utils import model_utils
    from data_juicer.utils.lazy_loader import LazyLoader

    LazyLoader.check_packages = staticmethod(lambda *_, **__: None)  # it would install some
    for module in (text_action_filter, text_entity_dependency_filter):
        module.prepare_model = lambda **_: "ours"  # it would download its own
    model_utils.MODEL_ZOO["ours"] = nlp
    operators = [
        text_action_filter.TextActionFilter(),
        text_entity_dependency_filter.TextEntityDependencyFilter(),
    ]
    return "Data-Juicer's operators with our model", partial(_operate, operators)


def _operate(operators: Sequence[Any], texts: Sequence[str]) -> list[bool]:
    kept = []
    for text in texts:
        sample: dict[str, Any] = {"text": text, "__dj__stats__": {}}
        for operator in operators:
            sample = operator.compute_stats_single(sample)
        kept.append(all(bool(operator.process_single(sample)) for operator in operators))
    return kept


def _by_hand(nlp: Any, texts: Sequence[str]) -> list[bool]:
    kept = []
    for text in texts:
        actions = sum(token.pos_ == "VERB" for token in nlp(text))
        doc = nlp(text)
        edges = [
            len(list(token.children)) + (token.dep_ != "ROOT")
            for token in doc
            if token.pos_ in ("NOUN", "PROPN", "PRON")
        ]
        kept.append(actions > 0 and all(edges))
    return kept


if __name__ == "__main__":
    main()
