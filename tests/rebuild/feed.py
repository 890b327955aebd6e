#!/usr/bin/env python3
"""Checks the Atom feed of a site against the rules of RFC 4287, and reads it with feedparser, while a history grows.

    tests/rebuild/feed.py [--sure target/debug/sure]

Needs the package feedparser; `tests/rebuild/forges.sh` installs it.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import uuid
import xml.etree.ElementTree as ElementTree
from datetime import datetime, timedelta
from pathlib import Path

import feedparser

ROOT = Path(__file__).resolve().parents[2]
ATOM = "{http://www.w3.org/2005/Atom}"
# Children and how often each may occur, at least and at most. Source: RFC 4287, sections 4.1.1 and 4.1.2.
MANY = 10**6
META = {"author": (0, MANY), "category": (0, MANY), "contributor": (0, MANY), "id": (1, 1), "link": (0, MANY), "rights": (0, 1),
        "title": (1, 1), "updated": (1, 1)}
FEED = {**META, "generator": (0, 1), "icon": (0, 1), "logo": (0, 1), "subtitle": (0, 1), "entry": (0, MANY)}
ENTRY = {**META, "content": (0, 1), "published": (0, 1), "source": (0, 1), "summary": (0, 1)}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")  # section 3.3
TASKS = ["a <b> & \"c\" 'd'", "größe_東京", "]]> -->", "tab\there\u0007\uffff", "&amp; %20 ?x=1#y", "plain"]


def children(element, rules):
    """Checks the children of a feed or an entry. Returns them by name."""
    found = {}
    for child in element:
        assert child.tag.startswith(ATOM), f"{child.tag} is no element of Atom"
        found.setdefault(child.tag.removeprefix(ATOM), []).append(child)
    assert found.keys() <= rules.keys(), f"{found.keys() - rules.keys()} may not be in {element.tag}"
    for name, (least, most) in rules.items():
        assert least <= len(found.get(name, [])) <= most, f"{len(found.get(name, []))} times {name} in {element.tag}"
    for title in found["title"]:
        assert title.get("type", "text") == "text" and len(title) == 0 and title.text.strip(), "a title is a text"
    [moment] = found["updated"]
    assert MOMENT.fullmatch(moment.text), moment.text
    [name] = found["id"]
    assert name.text.startswith("urn:uuid:") and name.text == uuid.UUID(name.text).urn, f"{name.text} is no IRI that stays"
    kinds = set()
    for link in found.get("link", []):
        assert link.get("href") and not re.search(r"[\s<>\"{}|\\^`]", link.get("href")), f"{link.get('href')} is no IRI"
        kind = (link.get("rel", "alternate"), link.get("type"), link.get("hreflang"))
        assert kind not in kinds, f"two links {kind}"
        kinds.add(kind)
    return found, {kind[0] for kind in kinds}


def check(path):
    """Checks a feed. Returns its id, and title, moment and text of each entry by its id, newest first."""
    raw = path.read_bytes()
    root = ElementTree.fromstring(raw)
    assert root.tag == f"{ATOM}feed" and raw.startswith(b'<?xml version="1.0" encoding="utf-8"?>')
    feed, links = children(root, FEED)
    assert "self" in links and [author.find(f"{ATOM}name").text for author in feed["author"]]
    entries = {}
    for element in feed.get("entry", []):
        entry, links = children(element, ENTRY)
        [content] = entry["content"]
        assert content.get("type") == "text" and len(content) == 0 and "alternate" in links
        name = entry["id"][0].text
        assert name not in entries and name != feed["id"][0].text, f"two times {name}"
        entries[name] = (entry["title"][0].text, entry["updated"][0].text, content.text)
    moments = [moment for _, moment, _ in entries.values()]
    assert moments == sorted(moments, reverse=True) and feed["updated"][0].text >= max(moments, default="")
    read = feedparser.parse(raw)
    assert not read.bozo and read.version == "atom10", read.get("bozo_exception")
    for known, (name, (title, moment, text)) in zip(read.entries, entries.items(), strict=True):
        assert (known.id, known.title, known.updated, known.content[0].value) == (name, title.strip(), moment, text.strip()), known
        assert known.link and known.updated_parsed
    return feed["id"][0].text, entries


def lines(number, name):
    """Lines of a made-up rebuild, with alarms and recoveries of tasks whose names are hard to write."""
    begun = datetime(2026, 3, 1, 2, 30) + timedelta(weeks=number)
    moment, end = (f"{time.isoformat()}Z" for time in (begun, begun + timedelta(minutes=5)))
    identity = f"{moment}-{number:04x}"
    finding = {"verdict": "worse"}
    cells = {
        f"{task} fsdd lora": {
            "task": task, "corpus": "fsdd", "method": "lora", "node": "score", "metric": "wer", "values": {"1": 0.25}, "since": identity,
            "last": finding, "baseline": finding, "causes": [{"kind": "settings", "text": f"{task} 1 -> 2"}], "alarm": at == number % 7,
        }
        for at, task in enumerate(TASKS)
    }
    ended = {
        "line": "ended", "format": 1, "id": identity, "begun": moment, "at": end, "outcome": "done", "exit_code": 3, "file": "", "cells": cells,
        "program": {"version": "0.1.0", "commit": "", "executables": {}}, "machine": {"host": "h", "cpu": "c", "cores": 2, "kernel": "k"},
        "recovered": [f"{TASKS[number // 3 % 6]} fsdd lora"] if number % 3 == 2 else [],
    }
    return [{"line": "begun", "format": 1, "id": identity, "name": name, "at": moment}, ended]


def grow(sure, folder, name, url):
    """Writes the site after each of 60 rebuilds. Returns the id of the feed."""
    (folder / "history").mkdir(parents=True)
    place = f'[site]\nfolder = "www"\nurl = "{url}"\n' if url else ""
    (folder / "weekly.toml").write_text(f'name = "{name}"\nevery = "sunday 02:30"\nruns = ["x"]\n{place}')
    known, identity = {}, None
    for number in range(60):
        with open(folder / "history/rebuilds.jsonl", "a", encoding="utf-8") as record:
            record.writelines(json.dumps(line) + "\n" for line in lines(number, name))
        for _ in range(2 if number == 9 else 1):
            subprocess.run([sure, "history", folder / "weekly.toml", "--site", folder / "www"], check=True, capture_output=True)
            feed, entries = check(folder / "www/feed.xml")
            assert identity in (None, feed), "the feed has another id"
            identity = feed
            lost = [entry for entry in known if entry not in entries]
            assert len(entries) == 40 or not lost, f"{lost} are gone"
            assert all(known.get(name, entry) == entry for name, entry in entries.items()), "an entry changed"
            known |= entries
    titles = " ".join(title for title, _, _ in known.values())
    for task in TASKS:
        plain = task.replace("_", " ").replace("\t", "").replace("\u0007", "").replace("\uffff", "")
        assert f"alarm: {plain}, fsdd, lora" in titles and f"recovered: {plain}" in titles, f"{plain} is not in the feed"
    assert len(known) > 60 and len(entries) == 40, f"{len(known)} entries, {len(entries)} of them in the feed"
    return identity


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sure", type=Path, default=ROOT / "target/debug/sure")
    sure = parser.parse_args().sure.resolve()
    with tempfile.TemporaryDirectory(prefix="sure-feed-") as work:
        one = grow(sure, Path(work) / "one", "weekly", "https://example.org/a%20b/größe&co")
        other = grow(sure, Path(work) / "other", "nightly", "")
    assert one != other
    print("two feeds that grow over 60 rebuilds: as RFC 4287 wants them, and feedparser reads them")


if __name__ == "__main__":
    sys.exit(main())
