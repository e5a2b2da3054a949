"""A made table of page views, ``hits``, with the kinds of columns and the skew of ClickBench's table of that name.

Scale 1 is a million rows; any number of rows can be made. A row is a view of a page of a site by a user, in order of
time, over 31 days with a wave each day. Sites, users, pages and phrases follow power laws; what is of the user (region,
system, browser, screen, address) follows from the user's number; most views have no search phrase and no campaign. All
values are made up. The same number of rows and seed give the same values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.errors import DataError
from finequery.workloads.files import cache_dir, publish
from finequery.workloads.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = ("hits",)
#: Rows at scale 1.
ROWS = 1_000_000
ROWS_PER_CHUNK = 1 << 20
ROWS_PER_GROUP = 1 << 18
FIRST_SECOND = np.datetime64("2024-03-01T00:00:00", "s")
DAYS = 31
#: The daily wave: views come at 1/(1 + WAVE) to 1/(1 - WAVE) of their mean rate.
WAVE = 0.6

SITES, REGIONS, SYSTEMS, BROWSERS = 2_000, 400, 40, 60
SCREENS = ((1920, 1080), (1366, 768), (1536, 864), (360, 800), (390, 844), (1440, 900), (412, 915), (1280, 720),
           (2560, 1440), (768, 1024), (1600, 900), (3840, 2160))  # fmt: skip
MAKERS = ("Ando", "Birk", "Corva", "Deltia", "Enso", "Faro", "Gorm", "Hale", "Ikari", "Juno")
PHONES = ["", *(f"{maker} {series}{number}" for number in range(1, 9) for series in "APX" for maker in MAKERS)]
LANGUAGES = ("en", "de", "fr", "es", "pt", "it", "pl", "nl", "tr", "sv", "ja", "ko")
TOPICS = ("news", "sport", "auto", "music", "travel", "garden", "kitchen", "health", "games", "jobs", "weather",
          "films", "phones", "books", "maps", "shop")  # fmt: skip
WORDS = ("cheap", "best", "how", "buy", "red", "new", "used", "online", "near", "free", "review", "price", "video",
         "song", "winter", "boots", "recipe", "cake", "tickets", "train", "laptop", "repair", "house", "rent", "school",
         "map", "paint", "photo", "bank", "card", "night", "river")  # fmt: skip
HOSTS = ("findall.example", "lookup.example", "seek.example", "wander.example", "askme.example")


def size(scale: float) -> tuple[str, int]:
    """A table whose rows tell the scale."""
    return "hits", round(scale * ROWS)


def random(seed: int, *stream: int) -> np.random.Generator:
    """A stream of its own for every chunk: values do not depend on what else is made."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *stream])))


def zipf(uniform: np.ndarray, count: int, exponent: float = 1.0) -> np.ndarray:
    """Ranks from 0 to ``count`` - 1 by a bounded power law: rank r comes about as often as (r + 1) ** -exponent. By
    inversion of the continuous law, so that it takes one random number each."""
    if exponent == 1.0:
        ranks = (count + 1.0) ** uniform
    else:
        power = 1.0 - exponent
        ranks = (((count + 1.0) ** power - 1.0) * uniform + 1.0) ** (1.0 / power)
    return np.minimum(ranks.astype(np.int64) - 1, count - 1)


def mixed(number: np.ndarray, salt: int) -> np.ndarray:
    """64 bits that follow from a number, and look random (splitmix64's finaliser)."""
    with np.errstate(over="ignore"):
        x = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt * 0x632BE59BD9B4E019 % (1 << 64))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def uniform_of(number: np.ndarray, salt: int) -> np.ndarray:
    """A share from 0 to below 1 that follows from a number."""
    return (mixed(number, salt) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sizes(rows: int) -> dict[str, int]:
    """How many different users, pages and phrases there are."""
    return {"users": max(10, rows // 6), "pages": max(50, rows // 5), "phrases": max(20, rows // 15)}


def times(first: int, count: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Seconds of rows ``first`` to ``first + count - 1`` of ``rows``, in order."""
    share = (first + np.sort(rng.random(count)) * count) / rows
    turn = 2.0 * np.pi * DAYS
    share = share - WAVE * np.sin(turn * share) / turn
    return FIRST_SECOND + np.minimum(share * DAYS * 86_400, DAYS * 86_400 - 1).astype("timedelta64[s]")


def texts(codes: np.ndarray, make: Callable[[np.ndarray], pa.Array]) -> pa.Array:
    """Strings by code: ``make`` gives those of the different codes."""
    import pyarrow as pa

    different, at = np.unique(codes, return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(at.astype(np.int32)), make(different))


def joined(*parts: str | np.ndarray | pa.Array) -> pa.Array:
    """Strings put together element by element; numbers in decimal."""
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays = [pa.array(part).cast(pa.string()) if isinstance(part, np.ndarray) else part for part in parts]
    return pc.binary_join_element_wise(*arrays, "")


def chosen(numbers: np.ndarray, values: tuple[str, ...]) -> pa.Array:
    """The value at each number, modulo how many there are."""
    import pyarrow as pa

    return pa.array(values).take(pa.array(numbers % len(values)))


def where(condition: np.ndarray, yes: pa.Array, no: str | pa.Array) -> pa.Array:
    """One string or the other."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pa.array(condition), yes, no)


def urls(page: np.ndarray) -> pa.Array:
    """Addresses of pages. Site and topic follow from the page's number, so that the frequent ones are of all kinds."""
    query = where(page % 3 == 0, joined("?id=", page * 31 % 9973, "&sort=", chosen(page % 5, WORDS)), "")
    return joined("https://", chosen(page * 7, TOPICS), page % 97, ".example/", chosen(page, WORDS), "/", page, query)


def titles(page: np.ndarray) -> pa.Array:
    """Titles of pages."""
    topics = tuple(topic.capitalize() for topic in TOPICS)
    parts = (": ", chosen(page, WORDS), " ", chosen(page // 7, WORDS), " - page ")
    return joined(chosen(page * 7, topics), *parts, page // 11)


def phrases(phrase: np.ndarray) -> pa.Array:
    """Search phrases of two words, or of two and a number; phrase 0 is none."""
    two = joined(chosen(phrase, WORDS), " ", chosen(phrase // 32 % 31, WORDS))
    return where(phrase == 0, chosen(phrase, ("",)), where(phrase < 992, two, joined(two, " ", phrase // 992)))


def referers(page: np.ndarray) -> pa.Array:
    """Where views came from: -1 nowhere, -2 and below a search engine, else another page."""
    engines = joined("https://", chosen(-page - 2, HOSTS), "/search")
    return where(page == -1, chosen(page, ("",)), where(page < 0, engines, urls(np.maximum(page, 0))))


def chunk(first: int, count: int, rows: int, seed: int) -> dict[str, Any]:
    """Rows ``first`` to ``first + count - 1`` of ``rows``."""
    import pyarrow as pa

    rng, different = random(seed, first), sizes(rows)
    when = times(first, count, rows, rng)
    user = zipf(rng.random(count), different["users"], 0.8)
    page = zipf(rng.random(count), different["pages"])
    site = zipf(rng.random(count), SITES, 1.1)
    searched = rng.random(count) < 0.13
    phrase = np.where(searched, 1 + zipf(rng.random(count), different["phrases"], 0.9), 0)
    engine = np.where(searched, 1 + zipf(rng.random(count), len(HOSTS), 1.2), 0)
    origin = rng.random(count)
    other = zipf(rng.random(count), different["pages"])
    came_from = np.where(searched, -1 - engine, np.where(origin < 0.35, -1, other))
    phone = np.where(uniform_of(user, 1) < 0.2, 1 + zipf(uniform_of(user, 2), len(PHONES) - 1), 0)
    screen = zipf(uniform_of(user, 3), len(SCREENS), 0.9)
    width, height = (np.array(axis, dtype=np.int16) for axis in zip(*SCREENS))
    campaign = np.where(rng.random(count) < 0.03, 1 + zipf(rng.random(count), 30), 0)
    browser_edge = rng.integers(0, 180, count)
    load_ms = np.minimum(rng.lognormal(6.2, 0.9, count), 60_000).astype(np.int32)
    kind = rng.random((6, count))

    def dictionary(codes: np.ndarray, values: list[str] | tuple[str, ...]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values))

    return {
        "watch_id": (mixed(np.arange(first, first + count), seed) >> np.uint64(1)).astype(np.int64),
        "event_time": pa.array(when).cast(pa.timestamp("us")),
        "event_date": pa.array(when.astype("datetime64[D]")),
        "site_id": (1 + mixed(site, 4) % np.uint64(1 << 20)).astype(np.int32),
        "user_id": (mixed(user, 5) >> np.uint64(1)).astype(np.int64),
        "session_id": (mixed(user * 4096 + when.astype(np.int64) // 1800 % 4096, 6) >> np.uint64(1)).astype(np.int64),
        "client_ip": (mixed(user, 7) >> np.uint64(32)).astype(np.int64),
        "region_id": (1 + zipf(uniform_of(user, 8), REGIONS)).astype(np.int32),
        "language": dictionary(zipf(uniform_of(user, 9), len(LANGUAGES), 1.3), LANGUAGES),
        "system_id": zipf(uniform_of(user, 10), SYSTEMS).astype(np.int16),
        "browser_id": zipf(uniform_of(user, 11), BROWSERS).astype(np.int16),
        "browser_version": (80 + mixed(user, 12) % np.uint64(45)).astype(np.int16),
        "phone_model": dictionary(phone, PHONES),
        "screen_width": width[screen],
        "screen_height": height[screen],
        "window_width": np.maximum(width[screen] - browser_edge, 0).astype(np.int16),
        "window_height": np.maximum(height[screen] - browser_edge, 0).astype(np.int16),
        "url": texts(page, urls),
        "title": texts(page, titles),
        "referer": texts(came_from, referers),
        "search_engine_id": engine.astype(np.int16),
        "search_phrase": texts(phrase, phrases),
        "campaign_id": campaign.astype(np.int16),
        "traffic_source": np.select([searched, campaign > 0, origin < 0.35], [2, 3, 0], 1).astype(np.int16),
        "is_refresh": (kind[0] < 0.12).astype(np.int16),
        "is_link": (kind[1] < 0.05).astype(np.int16),
        "is_download": (kind[2] < 0.01).astype(np.int16),
        "is_bounce": (kind[3] < 0.3).astype(np.int16),
        "scripts_on": (kind[4] < 0.97).astype(np.int16),
        "cookies_on": (kind[5] < 0.94).astype(np.int16),
        "load_ms": load_ms,
        "stay_seconds": np.where(kind[3] < 0.3, 0, rng.exponential(70.0, count)).astype(np.int32),
        "scroll_share": rng.random(count).round(3).astype(np.float32),
        "price_cents": np.where(campaign > 0, rng.integers(1, 20_000, count), 0).astype(np.int32),
    }  # fmt: skip


def chunks(rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """The whole table."""
    for first in range(0, rows, ROWS_PER_CHUNK):
        yield chunk(first, min(ROWS_PER_CHUNK, rows - first), rows, seed)


def generate(scale: float, folder: Path | None = None, seed: int = 1) -> Path:
    """The folder with ``scale`` million rows; a table that is there already is kept. Raises DataError for less than a
    row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = size(scale)[1] if scale > 0 else 0
    if rows < 1:
        raise DataError(f"A scale of {scale:g} is less than a row", hint=f"Scale 1 is {ROWS:,} rows.")
    folder = folder or cache_dir() / f"clickbench-like-{rows}"
    if (folder / "hits.parquet").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    title, total = f"hits, {rows:,} rows", -(-rows // ROWS_PER_CHUNK)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name, Progress(title, total) as bar:
        writer = None
        for columns in chunks(rows, seed):
            batch = pa.table(columns)
            # store_schema=False: a reader sees plain strings, not Arrow dictionaries
            writer = writer or pq.ParquetWriter(f"{name}/hits.parquet", batch.schema, store_schema=False)
            writer.write_table(batch, row_group_size=ROWS_PER_GROUP)
            bar.step()
        if writer:
            writer.close()
        publish(Path(name), folder)
    return folder
