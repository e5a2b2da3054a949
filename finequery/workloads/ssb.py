"""The Star Schema Benchmark's data, as Parquet, one file a table.

Schema, cardinalities, value ranges and hierarchies follow the specification (O'Neil, O'Neil, Chen, revision 3) and what
its generator took over from TPC-H: sparse order keys, every third customer without orders, retail prices by part key.
The same scale and seed give the same values, whatever the machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.workloads.files import cache_dir, publish
from finequery.workloads.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = ("date", "supplier", "customer", "part", "lineorder")
FIRST_DAY, LAST_DAY = date(1992, 1, 1), date(1998, 12, 31)
#: Orders stop this many days early, so that commit dates stay within the calendar.
ORDER_MARGIN = 151
ORDERS_PER_CHUNK = 250_000
ROWS_PER_GROUP = 1 << 18

REGIONS = {
    "AFRICA": ("ALGERIA", "ETHIOPIA", "KENYA", "MOROCCO", "MOZAMBIQUE"),
    "AMERICA": ("ARGENTINA", "BRAZIL", "CANADA", "PERU", "UNITED STATES"),
    "ASIA": ("CHINA", "INDIA", "INDONESIA", "JAPAN", "VIETNAM"),
    "EUROPE": ("FRANCE", "GERMANY", "ROMANIA", "RUSSIA", "UNITED KINGDOM"),
    "MIDDLE EAST": ("EGYPT", "IRAN", "IRAQ", "JORDAN", "SAUDI ARABIA"),
}
NATIONS = [(nation, region) for region, nations in REGIONS.items() for nation in nations]
SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY")
PRIORITIES = ("1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECI", "5-LOW")
SHIP_MODES = ("REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB")
TYPES = [
    f"{size} {finish} {metal}"
    for size in ("STANDARD", "SMALL", "MEDIUM", "LARGE", "ECONOMY", "PROMO")
    for finish in ("ANODIZED", "BURNISHED", "PLATED", "POLISHED", "BRUSHED")
    for metal in ("TIN", "NICKEL", "BRASS", "STEEL", "COPPER")
]
CONTAINERS = [
    f"{size} {kind}"
    for size in ("SM", "LG", "MED", "JUMBO", "WRAP")
    for kind in ("CASE", "BOX", "BAG", "JAR", "PKG", "PACK", "CAN", "DRUM")
]
COLOR_NAMES = (
    "almond antique aquamarine azure beige bisque black blanched blue blush brown burlywood burnished chartreuse "
    "chiffon chocolate coral cornflower cornsilk cream cyan dark deep dim dodger drab firebrick floral forest frosted "
    "gainsboro ghost goldenrod green grey honeydew hot indian ivory khaki lace lavender lawn lemon light lime linen "
    "magenta maroon medium metallic midnight mint misty moccasin navajo navy olive orange orchid pale papaya peach "
    "peru pink plum powder puff purple red rose rosy royal saddle salmon sandy seashell sienna sky slate smoke snow "
    "spring steel tan thistle tomato turquoise violet wheat white yellow"
)
COLORS = COLOR_NAMES.split()
ADDRESS_LETTERS = np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ, ", dtype=np.uint8)

Columns = dict[str, Any]


def cardinalities(scale: float) -> dict[str, int]:
    """Rows of each table; the last is the number of orders, which have 1 to 7 lines each."""
    parts = 200_000 * (1 + np.log2(scale)) if scale >= 1 else 200_000 * scale
    days = (LAST_DAY - FIRST_DAY).days + 1
    sizes = {"supplier": 2_000 * scale, "customer": 30_000 * scale, "part": parts, "orders": 1_500_000 * scale}
    return {"date": days} | {table: max(1, int(size)) for table, size in sizes.items()}


def size(scale: float) -> tuple[str, int]:
    """A table whose rows tell the scale."""
    return "supplier", cardinalities(scale)["supplier"]


def random(seed: int, *stream: int) -> np.random.Generator:
    """A stream of its own for every table and chunk: values do not depend on what else is made."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *stream])))


def words(codes: np.ndarray, values: list[str] | tuple[str, ...]) -> pa.Array:
    """Strings by code; the Parquet writer keeps the dictionary, a reader sees plain strings."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values))


def numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}#{key:09d}" for key in range(1, count + 1)]


def addresses(rng: np.random.Generator, count: int) -> list[str]:
    """10 to 25 random characters each."""
    lengths = rng.integers(10, 26, count)
    letters = ADDRESS_LETTERS[rng.integers(0, len(ADDRESS_LETTERS), int(lengths.sum()))].tobytes().decode()
    ends = np.cumsum(lengths)
    return [letters[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def places(rng: np.random.Generator, count: int, prefix: str) -> Columns:
    """City, nation, region and phone. A city is the nation's first nine letters, padded, and a digit."""
    nation = rng.integers(0, len(NATIONS), count)
    city = rng.integers(0, 10, count)
    phone = rng.integers([100, 100, 1000], [1000, 1000, 10000], (count, 3)).tolist()
    return {
        f"{prefix}_city": words(
            nation * 10 + city, [f"{name[:9]:9}{digit}" for name, _ in NATIONS for digit in range(10)]
        ),
        f"{prefix}_nation": words(nation, [name for name, _ in NATIONS]),
        f"{prefix}_region": words(nation, [region for _, region in NATIONS]),
        f"{prefix}_phone": [f"{code + 10}-{a}-{b}-{c}" for code, (a, b, c) in zip(nation.tolist(), phone, strict=True)],
    }


def supplier(scale: float, seed: int) -> Columns:
    count, rng = cardinalities(scale)["supplier"], random(seed, 1)
    return {
        "s_suppkey": np.arange(1, count + 1, dtype=np.int32),
        "s_name": numbered("Supplier", count),
        "s_address": addresses(rng, count),
        **places(rng, count, "s"),
    }


def customer(scale: float, seed: int) -> Columns:
    count, rng = cardinalities(scale)["customer"], random(seed, 2)
    return {
        "c_custkey": np.arange(1, count + 1, dtype=np.int32),
        "c_name": numbered("Customer", count),
        "c_address": addresses(rng, count),
        **places(rng, count, "c"),
        "c_mktsegment": words(rng.integers(0, len(SEGMENTS), count), SEGMENTS),
    }


def part(scale: float, seed: int) -> Columns:
    count, rng = cardinalities(scale)["part"], random(seed, 3)
    maker, category, brand = rng.integers(0, 5, count), rng.integers(0, 5, count), rng.integers(0, 40, count)
    color, second = rng.integers(0, len(COLORS), count), rng.integers(0, len(COLORS), count)
    digits = range(1, 6)
    brands = [f"MFGR#{m}{c}{b}" for m in digits for c in digits for b in range(1, 41)]
    return {
        "p_partkey": np.arange(1, count + 1, dtype=np.int32),
        "p_name": words(color * len(COLORS) + second, [f"{a} {b}" for a in COLORS for b in COLORS]),
        "p_mfgr": words(maker, [f"MFGR#{m}" for m in digits]),
        "p_category": words(maker * 5 + category, [f"MFGR#{m}{c}" for m in digits for c in digits]),
        "p_brand1": words((maker * 5 + category) * 40 + brand, brands),
        "p_color": words(color, COLORS),
        "p_type": words(rng.integers(0, len(TYPES), count), TYPES),
        "p_size": rng.integers(1, 51, count, dtype=np.int32),
        "p_container": words(rng.integers(0, len(CONTAINERS), count), CONTAINERS),
    }


def season(day: date) -> str:
    if day.month >= 11:
        return "Christmas"
    return {4: "Spring", 5: "Summer", 6: "Summer", 7: "Summer", 8: "Summer", 9: "Fall", 10: "Fall"}.get(
        day.month, "Winter"
    )


def calendar(scale: float, seed: int) -> Columns:
    """The date dimension: every day of 1992 to 1998, at any scale."""
    days = [FIRST_DAY + timedelta(n) for n in range(cardinalities(scale)["date"])]
    weekday = [(day.weekday() + 1) % 7 + 1 for day in days]  # Sunday is 1
    in_year = [day.timetuple().tm_yday for day in days]
    holidays = {(1, 1), (2, 20), (4, 20), (5, 20), (7, 20), (8, 20), (9, 20), (10, 20), (11, 20), (12, 24), (12, 25)}

    def integers(values: list[int]) -> np.ndarray:
        return np.array(values, dtype=np.int32)

    return {
        "d_datekey": integers([day.year * 10000 + day.month * 100 + day.day for day in days]),
        "d_date": [f"{day:%B} {day.day}, {day.year}" for day in days],
        "d_dayofweek": [f"{day:%A}" for day in days],
        "d_month": [f"{day:%B}" for day in days],
        "d_year": integers([day.year for day in days]),
        "d_yearmonthnum": integers([day.year * 100 + day.month for day in days]),
        "d_yearmonth": [f"{day:%b%Y}" for day in days],
        "d_daynuminweek": integers(weekday),
        "d_daynuminmonth": integers([day.day for day in days]),
        "d_daynuminyear": integers(in_year),
        "d_monthnuminyear": integers([day.month for day in days]),
        "d_weeknuminyear": integers([(n - 1) // 7 + 1 for n in in_year]),
        "d_sellingseason": [season(day) for day in days],
        "d_lastdayinweekfl": integers([n == 7 for n in weekday]),
        "d_lastdayinmonthfl": integers([(day + timedelta(1)).month != day.month for day in days]),
        "d_holidayfl": integers([(day.month, day.day) in holidays for day in days]),
        "d_weekdayfl": integers([2 <= n <= 6 for n in weekday]),
    }


def date_keys() -> np.ndarray:
    days = np.arange(np.datetime64(FIRST_DAY), np.datetime64(LAST_DAY) + 1)
    months = days.astype("datetime64[M]")
    year = days.astype("datetime64[Y]").astype(np.int32) + 1970
    month = months.astype(np.int32) % 12 + 1
    day = (days - months).astype(np.int32) + 1
    return (year * 10000 + month * 100 + day).astype(np.int32)


def lineorder_chunk(first: int, count: int, sizes: dict[str, int], rng: np.random.Generator) -> Columns:
    """The lines of orders ``first`` to ``first + count - 1``. An order's attributes repeat on its lines."""
    order = np.arange(first, first + count, dtype=np.int64)
    order_key = (order >> 3 << 5) + (order & 7) + 1  # 8 of every 32 keys are used
    buyers = sizes["customer"] - sizes["customer"] // 3 or 1
    buyer = rng.integers(0, buyers, count)
    keys = date_keys()
    day = rng.integers(0, len(keys) - ORDER_MARGIN, count)
    priority = rng.integers(0, len(PRIORITIES), count)

    lines = rng.integers(1, 8, count)
    starts = np.cumsum(lines) - lines
    row = np.repeat(np.arange(count), lines)
    rows = len(row)
    part_key = rng.integers(1, sizes["part"] + 1, rows, dtype=np.int32)
    quantity = rng.integers(1, 51, rows, dtype=np.int32)
    discount = rng.integers(0, 11, rows, dtype=np.int32)
    tax = rng.integers(0, 9, rows, dtype=np.int32)
    price = 90_000 + part_key // 10 % 20_001 + 100 * (part_key % 1_000)  # cents
    extended = quantity * price
    revenue = (extended.astype(np.int64) * (100 - discount) // 100).astype(np.int32)
    total = np.add.reduceat(revenue.astype(np.int64) * (100 + tax) // 100, starts)
    return {
        "lo_orderkey": order_key[row],
        "lo_linenumber": (np.arange(rows) - starts[row] + 1).astype(np.int32),
        "lo_custkey": (buyer // 2 * 3 + buyer % 2 + 1).astype(np.int32)[row],  # keys divisible by 3 never order
        "lo_partkey": part_key,
        "lo_suppkey": rng.integers(1, sizes["supplier"] + 1, rows, dtype=np.int32),
        "lo_orderdate": keys[day][row],
        "lo_orderpriority": words(priority[row], PRIORITIES),
        "lo_shippriority": words(np.zeros(rows, dtype=np.int32), ["0"]),
        "lo_quantity": quantity,
        "lo_extendedprice": extended,
        "lo_ordtotalprice": total.astype(np.int32)[row],
        "lo_discount": discount,
        "lo_revenue": revenue,
        "lo_supplycost": 6 * price // 10,
        "lo_tax": tax,
        "lo_commitdate": keys[day[row] + rng.integers(30, 91, rows)],
        "lo_shipmode": words(rng.integers(0, len(SHIP_MODES), rows), SHIP_MODES),
    }


def lineorder(scale: float, seed: int) -> Iterator[Columns]:
    sizes = cardinalities(scale)
    for number, first in enumerate(range(0, sizes["orders"], ORDERS_PER_CHUNK)):
        count = min(ORDERS_PER_CHUNK, sizes["orders"] - first)
        yield lineorder_chunk(first, count, sizes, random(seed, 4, number))


def generate(scale: float, folder: Path | None = None, seed: int = 1) -> Path:
    """The folder with SSB at ``scale``; tables that are there already are kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = folder or cache_dir() / f"ssb-sf{scale:g}"
    missing = [table for table in TABLES if not (folder / f"{table}.parquet").exists()]
    if not missing:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    dimensions: dict[str, Callable[[float, int], Columns]] = {
        "date": calendar, "supplier": supplier, "customer": customer, "part": part,
    }  # fmt: skip
    chunks = -(-cardinalities(scale)["orders"] // ORDERS_PER_CHUNK)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name, Progress(f"SSB SF{scale:g}", 4 + chunks) as bar:
        for table in missing:
            made = iter([dimensions[table](scale, seed)]) if table in dimensions else lineorder(scale, seed)
            writer = None
            for columns in made:
                batch = pa.table(columns)
                # store_schema=False: a reader sees plain strings, not Arrow dictionaries
                writer = writer or pq.ParquetWriter(f"{name}/{table}.parquet", batch.schema, store_schema=False)
                writer.write_table(batch, row_group_size=ROWS_PER_GROUP)
                bar.step(table)
            if writer:
                writer.close()
        publish(Path(name), folder)
    return folder
