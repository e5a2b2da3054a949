"""The functions of FineQuery's SQL: user names, signatures, and the canonical calls they become.

One table. The SQL reference is written from it, the binder looks names up in it, and error messages suggest from it.
A signature is ``(type, type [, type]) -> type``; ``...`` repeats the last parameter. Where a function has a rule
(``function_rules``) the rule types it, and the signature text is for people.
"""

from __future__ import annotations

import math
from functools import lru_cache

from finequery.operators.expr import Expr
from finequery.planner import function_rules as rules
from finequery.planner.coercion import call, cast, implicit_cost, is_null, settle
from finequery.planner.function_rules import AggregateFunction, Function, Rule, no_overload
from finequery.planner.literals import UNITS
from finequery.types import BIGINT, BOOLEAN, DATE, DOUBLE, HUGEINT, INTEGER, TIMESTAMPTZ, VARCHAR, SqlType, decimal

FUNCTIONS: dict[str, Function] = {}
AGGREGATES: dict[str, AggregateFunction] = {}


def _add(
    category: str, names: str, signatures: str, description: str, rule: Rule | None = None, canonical: str = ""
) -> None:
    words = tuple(names.split())
    entry = Function(
        words, canonical or words[0], tuple(s.strip() for s in signatures.split(";")), description, rule, category
    )
    for word in words:
        assert word not in FUNCTIONS, word
        FUNCTIONS[word] = entry


# --- overloads -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _parse_signature(text: str) -> tuple[tuple[SqlType, ...], int, bool, SqlType]:
    """(parameter types, how many are required, whether the last repeats, result)."""
    left, result = text.split(" -> ")
    inside = left.strip("()")
    required_part, _, optional_part = inside.partition("[")
    required = [p for p in required_part.replace(",", " ").split() if p != "..."]
    optional = optional_part.strip("] ").replace(",", " ").split()
    types = tuple(SqlType(p) for p in required + optional)
    return types, len(required), "..." in inside, SqlType(result)


def resolve(function: Function, name: str, args: list[Expr]) -> Expr:
    """The call of a function that has signatures: the cheapest overload, its casts inserted."""
    if function.rule is not None:
        return function.rule(function, name, args)
    best: tuple[int, tuple[SqlType, ...], SqlType] | None = None
    for text in function.signatures:
        types, required, repeats, result = _parse_signature(text)
        if not required <= len(args) <= (len(args) if repeats else len(types)):
            continue
        wanted = types[: len(args)] + types[-1:] * (len(args) - len(types))
        cost = 0
        for arg, t in zip(args, wanted):
            one = implicit_cost(arg, t)
            if one is None:
                break
            cost += one
        else:
            if best is None or cost < best[0]:
                best = cost, wanted, result
    if best is None:
        raise no_overload(function, name, args)
    return call(best[2], function.canonical, *[cast(a, t) for a, t in zip(args, best[1])])


# --- the table -----------------------------------------------------------------------------------------------------

_NUMERIC1 = "(numeric) -> same type"
for _name, _what in (
    ("sqrt", "Square root; of a negative number NaN."),
    ("exp", "e to the power of x."),
    ("ln", "Natural logarithm."),
    ("log10", "Logarithm to base 10."),
    ("log2", "Logarithm to base 2."),
    ("sin", "Sine of x in radians."),
    ("cos", "Cosine of x in radians."),
    ("tan", "Tangent of x in radians."),
    ("asin", "Arcsine in radians."),
    ("acos", "Arccosine in radians."),
    ("atan", "Arctangent in radians."),
):
    _add("numeric", _name, "(DOUBLE) -> DOUBLE", _what)
_add("numeric", "atan2", "(DOUBLE, DOUBLE) -> DOUBLE", "Angle of the point (x, y): atan2(y, x).")
_add("numeric", "pow power", "(DOUBLE, DOUBLE) -> DOUBLE", "x to the power of y; also x ** y and x ^ y.")
_add("numeric", "degrees", "(DOUBLE) -> DOUBLE", "Radians to degrees.", rules.factor(180 / math.pi), "mul")
_add("numeric", "radians", "(DOUBLE) -> DOUBLE", "Degrees to radians.", rules.factor(math.pi / 180), "mul")
for _name, _what in (("isnan", "not a number"), ("isinf", "an infinity"), ("isfinite", "neither infinite nor NaN")):
    _add("numeric", _name, "(DOUBLE) -> BOOLEAN", f"Whether x is {_what}.", rules.float_class)
_add("conditional", "typeof", "(any) -> VARCHAR", "The name of the argument's type.", rules.typeof)
for _name, _what in (
    ("cbrt", "Cube root."),
    ("cot", "Cotangent of x in radians."),
    ("sinh", "Hyperbolic sine."),
    ("cosh", "Hyperbolic cosine."),
    ("tanh", "Hyperbolic tangent."),
    ("asinh", "Inverse hyperbolic sine."),
    ("acosh", "Inverse hyperbolic cosine."),
    ("atanh", "Inverse hyperbolic tangent."),
    ("even", "The next even number away from zero."),
    ("gamma", "Gamma function."),
    ("lgamma", "Natural logarithm of the gamma function."),
):
    _add("numeric", _name, "(DOUBLE) -> DOUBLE", _what)
_add(
    "numeric",
    "log",
    "(DOUBLE) -> DOUBLE; (DOUBLE, DOUBLE) -> DOUBLE",
    "Logarithm to base 10; log(b, x) to base b.",
    rules.logarithm,
)
_add("numeric", "fmod", "(DOUBLE, DOUBLE) -> DOUBLE", "x - fdiv(x, y) * y.")
_add("numeric", "fdiv", "(DOUBLE, DOUBLE) -> DOUBLE", "x / y, rounded down.", rules.fdiv)
_add("numeric", "signbit", "(DOUBLE) -> BOOLEAN", "Whether x has a minus sign, -0.0 too.")
_add("numeric", "factorial", "(INTEGER) -> HUGEINT", "1 * 2 * … * x.")
_add(
    "numeric",
    "gcd greatest_common_divisor",
    "(BIGINT, BIGINT) -> BIGINT; (HUGEINT, HUGEINT) -> HUGEINT",
    "Greatest common divisor.",
)
_add(
    "numeric",
    "lcm least_common_multiple",
    "(BIGINT, BIGINT) -> BIGINT; (HUGEINT, HUGEINT) -> HUGEINT",
    "Least common multiple.",
)
_INTEGERS = "(integer, integer) -> common type"
_add("numeric", "xor", _INTEGERS, "Bits in which the two differ.", rules.bitwise, "bit_xor")
_add("numeric", "bit_count", "(integer) -> TINYINT", "Number of ones in binary.", rules.bit_count)
_add("numeric", "pi", "() -> DOUBLE", "The number pi.", rules.pi)
_add("numeric", "abs", _NUMERIC1, "Absolute value; also @x.", rules.same_type)
_add("numeric", "sign", "(numeric) -> TINYINT", "-1, 0 or 1.", rules.sign)
_add(
    "numeric",
    "floor",
    "(DECIMAL) -> DECIMAL(p,0); (float) -> same type; (integer) -> DOUBLE",
    "Largest whole number not above x.",
    rules.floor,
)
_add(
    "numeric",
    "ceil ceiling",
    "(DECIMAL) -> DECIMAL(p,0); (float) -> same type; (integer) -> DOUBLE",
    "Smallest whole number not below x.",
    rules.floor,
)
_add(
    "numeric",
    "round",
    "(numeric [, constant INTEGER]) -> same type",
    "Rounds to n digits, halves away from zero.",
    rules.rounded,
)
_add("numeric", "trunc", "(numeric [, constant INTEGER]) -> same type", "Cuts off after n digits.", rules.rounded)
_add("numeric", "add", "(a, b) -> type of a + b", "The + operator.", rules.operator("add"))
_add("numeric", "subtract", "(a, b) -> type of a - b", "The - operator.", rules.operator("sub"), "sub")
_add("numeric", "multiply", "(a, b) -> type of a * b", "The * operator.", rules.operator("mul"), "mul")
_add(
    "numeric",
    "divide",
    "(a, b) -> type of a // b",
    "The // operator: whole quotient; an error where b is 0.",
    rules.operator("intdiv"),
    "intdiv",
)
_add(
    "numeric",
    "mod",
    "(a, b) -> type of a % b",
    "The % operator: remainder; an error where b is 0.",
    rules.operator("mod"),
)
_add(
    "numeric",
    "greatest",
    "(any, ...) -> common type",
    "The largest argument; NULLs are left out.",
    rules.variadic("greatest", "greatest"),
)
_add(
    "numeric",
    "least",
    "(any, ...) -> common type",
    "The smallest argument; NULLs are left out.",
    rules.variadic("least", "least"),
)

_add(
    "conditional",
    "coalesce",
    "(any, ...) -> common type",
    "The first argument that is not NULL.",
    rules.variadic("coalesce", "coalesce"),
)
_add("conditional", "ifnull nvl", "(any, any) -> common type", "b where a is NULL.", rules.ifnull, "coalesce")
_add("conditional", "nullif", "(a, b) -> type of a", "NULL where a = b, else a.", rules.nullif, "case")
_add(
    "conditional",
    "if iff",
    "(BOOLEAN, any [, any]) -> common type",
    "The second argument where the first is true, else the third.",
    rules.if_,
    "case",
)

_add("string", "upper ucase", "(VARCHAR) -> VARCHAR", "In capital letters.")
_add("string", "lower lcase", "(VARCHAR) -> VARCHAR", "In small letters.")
_add("string", "length len char_length character_length", "(VARCHAR) -> BIGINT", "Number of characters.")
_add("string", "strlen", "(VARCHAR) -> BIGINT", "Number of bytes.")
_add(
    "string",
    "substring substr",
    "(VARCHAR, BIGINT [, BIGINT]) -> VARCHAR",
    "Characters from start (1 is the first; from the end if negative); also SUBSTRING(x FROM a FOR n).",
)
_add("string", "left", "(VARCHAR, BIGINT) -> VARCHAR", "The first n characters; all but the last n if negative.")
_add("string", "right", "(VARCHAR, BIGINT) -> VARCHAR", "The last n characters; all but the first n if negative.")
_add("string", "trim", "(VARCHAR [, VARCHAR]) -> VARCHAR", "Without the given characters (spaces) at both ends.")
_add("string", "ltrim", "(VARCHAR [, VARCHAR]) -> VARCHAR", "Without the given characters at the start.")
_add("string", "rtrim", "(VARCHAR [, VARCHAR]) -> VARCHAR", "Without the given characters at the end.")
_add("string", "replace", "(VARCHAR, VARCHAR, VARCHAR) -> VARCHAR", "Every a in x replaced by b.")
_add("string", "starts_with prefix", "(VARCHAR, VARCHAR) -> BOOLEAN", "Whether x begins with y; also x ^@ y.")
_add("string", "ends_with suffix", "(VARCHAR, VARCHAR) -> BOOLEAN", "Whether x ends with y.")
_add("string", "contains", "(VARCHAR, VARCHAR) -> BOOLEAN", "Whether y is in x.")
_add(
    "string",
    "position strpos instr",
    "(VARCHAR, VARCHAR) -> BIGINT",
    "Where y begins in x, 1 is the first character, 0: nowhere; also POSITION(y IN x).",
)
_add("string", "lpad", "(VARCHAR, BIGINT, VARCHAR) -> VARCHAR", "Filled up at the start, or cut, to n characters.")
_add("string", "rpad", "(VARCHAR, BIGINT, VARCHAR) -> VARCHAR", "Filled up at the end, or cut, to n characters.")
_add("string", "reverse", "(VARCHAR) -> VARCHAR", "The characters backwards.")
_add("string", "repeat", "(VARCHAR, BIGINT) -> VARCHAR", "x n times over.")
_add("string", "split_part", "(VARCHAR, VARCHAR, BIGINT) -> VARCHAR", "The n-th piece of x between separators.")
_add(
    "string",
    "regexp_matches",
    "(VARCHAR, VARCHAR [, VARCHAR]) -> BOOLEAN",
    "Whether the pattern occurs in x; also x ~ pattern.",
)
_add(
    "string",
    "regexp_replace",
    "(VARCHAR, VARCHAR, VARCHAR [, VARCHAR]) -> VARCHAR",
    "The first match (all with option 'g') replaced.",
)
_add("string", "regexp_extract", "(VARCHAR, VARCHAR [, INTEGER]) -> VARCHAR", "The first match, or its n-th group.")
_add(
    "string",
    "regexp_full_match",
    "(VARCHAR, VARCHAR [, VARCHAR]) -> BOOLEAN",
    "Whether the pattern fits all of x; also x SIMILAR TO pattern.",
)
_add("string", "ascii", "(VARCHAR) -> INTEGER", "Code point of the first character; of no text 0.")
_add("string", "unicode ord", "(VARCHAR) -> INTEGER", "Code point of the first character; of no text -1.")
_add("string", "translate", "(VARCHAR, VARCHAR, VARCHAR) -> VARCHAR", "Characters replaced one for one.")
_add("string", "levenshtein editdist3", "(VARCHAR, VARCHAR) -> BIGINT", "Edits that make one text the other.")
_add("string", "hamming mismatches", "(VARCHAR, VARCHAR) -> BIGINT", "Places at which two texts differ.")
_add("string", "strip_accents", "(VARCHAR) -> VARCHAR", "Letters without their accents.")
_add("string", "bit_length", "(VARCHAR) -> BIGINT", "Number of bits.", rules.bit_length)
_add("string", "sha256", "(VARCHAR) -> VARCHAR", "SHA-256 digest in hexadecimal.")
_add("string", "chr", "(INTEGER) -> VARCHAR", "The character with a code point.")
_add(
    "string",
    "concat",
    "(any, ...) -> VARCHAR",
    "All arguments as one text; NULLs are left out. With || NULL makes NULL.",
    rules.concat,
)
_add(
    "string",
    "concat_ws",
    "(VARCHAR, any, ...) -> VARCHAR",
    "The arguments that are not NULL with a separator between them.",
    rules.concat_ws,
)
_add("string", "md5", "(VARCHAR) -> VARCHAR", "MD5 digest in hexadecimal.")

for _name, _more, _what in (
    ("year", "", "Year."),
    ("month", "", "Month, 1 to 12."),
    ("day", "dayofmonth", "Day of the month."),
    ("hour", "", "Hour."),
    ("minute", "", "Minute."),
    ("second", "", "Second, without its fraction."),
    ("millisecond", "", "Seconds in milliseconds."),
    ("microsecond", "", "Seconds in microseconds."),
    ("quarter", "", "Quarter, 1 to 4."),
    ("week", "weekofyear", "ISO week."),
    ("isoyear", "", "Year of the ISO week."),
    ("dayofweek", "weekday", "Sunday is 0."),
    ("isodow", "", "Monday is 1, Sunday 7."),
    ("dayofyear", "", "1 to 366."),
    ("decade", "", "Year / 10."),
    ("century", "", "Century."),
    ("millennium", "", "Millennium."),
    ("era", "", "1, and 0 before Christ."),
):
    _add(
        "date",
        f"{_name} {_more}",
        "(DATE or TIMESTAMP) -> BIGINT",
        _what,
        rules.part,
        rules.PART_ALIASES.get(_name, _name),
    )
_add("date", "epoch", "(DATE or TIMESTAMP) -> DOUBLE", "Seconds since 1970-01-01.", rules.part)
_add(
    "date",
    "date_part datepart",
    "(constant VARCHAR, DATE or TIMESTAMP) -> BIGINT",
    "A part by its name; also EXTRACT(part FROM x).",
    rules.date_part_call,
)
_add(
    "date",
    "date_trunc datetrunc",
    "(constant VARCHAR, DATE or TIMESTAMP) -> TIMESTAMP",
    "The start of the unit that x lies in.",
    rules.date_trunc,
)
_add(
    "date",
    "date_diff datediff",
    "(constant VARCHAR, DATE or TIMESTAMP, DATE or TIMESTAMP) -> BIGINT",
    "Unit borders between a and b.",
    rules.date_diff,
)
_add(
    "date",
    "date_sub datesub",
    "(constant VARCHAR, DATE or TIMESTAMP, DATE or TIMESTAMP) -> BIGINT",
    "Whole units between a and b.",
    rules.date_sub,
)
_add("date", "date_add", "(DATE or TIMESTAMP, INTERVAL) -> TIMESTAMP", "x + interval.", rules.date_add, "add_interval")
_add("date", "age", "(TIMESTAMP, TIMESTAMP) -> INTERVAL", "a - b in years, months, days and time.", rules.age)
_add(
    "date",
    "time_bucket",
    "(constant INTERVAL, DATE or TIMESTAMP [, origin TIMESTAMP or offset INTERVAL]) -> same type",
    "The start of the bucket of that width that x lies in.",
    rules.time_bucket,
)
_add("date", "yearweek", "(DATE or TIMESTAMP) -> BIGINT", "ISO year and week, as in 202401.", rules.yearweek)
_EPOCH = "(DATE or TIMESTAMP) -> BIGINT"
_add(
    "date",
    "epoch_ms",
    f"{_EPOCH}; (BIGINT) -> TIMESTAMP",
    "Milliseconds since 1970-01-01; of a number, the way back.",
    rules.epoch_units(1000),
)
_add("date", "epoch_us", _EPOCH, "Microseconds since 1970-01-01.", rules.epoch_units(10**6))
_add("date", "epoch_ns", _EPOCH, "Nanoseconds since 1970-01-01.", rules.epoch_units(10**9))
_add("date", "to_timestamp", f"(DOUBLE) -> {TIMESTAMPTZ}", "Seconds since 1970-01-01.", rules.to_timestamp)
_add("date", "make_date", "(BIGINT, BIGINT, BIGINT) -> DATE", "Date from year, month, day.")
_add(
    "date",
    "make_timestamp",
    "(BIGINT, BIGINT, BIGINT, BIGINT, BIGINT, DOUBLE) -> TIMESTAMP; (BIGINT) -> TIMESTAMP",
    "Timestamp from year, month, day, hour, minute, second, or from microseconds since 1970-01-01.",
)
_add(
    "date",
    "make_timestamptz",
    f"(BIGINT, BIGINT, BIGINT, BIGINT, BIGINT, DOUBLE) -> {TIMESTAMPTZ}; (BIGINT) -> {TIMESTAMPTZ}",
    "As make_timestamp, of a time in UTC.",
    canonical="make_timestamp",
)
_add(
    "date",
    "timezone",
    f"('UTC', {TIMESTAMPTZ}) -> TIMESTAMP; ('UTC', TIMESTAMP) -> {TIMESTAMPTZ}",
    "The clock of a time zone, or the time that it shows; also x AT TIME ZONE 'UTC'.",
    rules.timezone,
)
_add(
    "date",
    "strftime",
    "(DATE or TIMESTAMP, VARCHAR) -> VARCHAR",
    "As text by a format such as '%Y-%m'.",
    rules.strftime,
)
_STRPTIME = f"(VARCHAR, VARCHAR) -> TIMESTAMP or, with %z, {TIMESTAMPTZ}"
_add("date", "strptime", _STRPTIME, "Text to a timestamp by a format.", rules.strptime)
_add("date", "try_strptime", _STRPTIME, "As strptime; NULL where the text is none.", rules.strptime)
_add("date", "last_day", "(DATE or TIMESTAMP) -> DATE", "The last day of the month.", rules.of_temporal(DATE))
_add("date", "dayname", "(DATE or TIMESTAMP) -> VARCHAR", "Name of the day.", rules.of_temporal(VARCHAR))
_add("date", "monthname", "(DATE or TIMESTAMP) -> VARCHAR", "Name of the month.", rules.of_temporal(VARCHAR))
for _unit_name in UNITS:
    _plural = {"century": "centuries", "millennium": "millennia"}.get(_unit_name, _unit_name + "s")
    _add("date", f"to_{_plural}", "(BIGINT) -> INTERVAL", f"An interval of n {_plural}.", rules.interval_of(_unit_name))


#: Operators that are functions, by their node in the syntax tree.
OPERATORS = {
    "BitwiseAnd": Function(("&",), "bit_and", (_INTEGERS,), "Bits that both have.", rules.bitwise),
    "BitwiseOr": Function(("|",), "bit_or", (_INTEGERS,), "Bits that one of them has.", rules.bitwise),
    "BitwiseLeftShift": Function(("<<",), "shift_left", (_INTEGERS,), "Bits moved up.", rules.bitwise),
    "BitwiseRightShift": Function((">>",), "shift_right", (_INTEGERS,), "Bits moved down.", rules.bitwise),
    "BitwiseNot": Function(("~",), "bit_not", ("(integer) -> same type",), "Bits it has not.", rules.bit_not),
    "SimilarTo": FUNCTIONS["regexp_full_match"],
}


# --- aggregates ----------------------------------------------------------------------------------------------------


def _add_aggregate(names: str, signatures: str, description: str, canonical: str = "", window: bool = False) -> None:
    words = tuple(names.split())
    entry = AggregateFunction(
        words, canonical or words[0], tuple(s.strip() for s in signatures.split(";")), description, window
    )
    for word in words:
        AGGREGATES[word] = entry


_add_aggregate("count", "(any) -> BIGINT; (*) -> BIGINT", "Number of rows, or of values that are not NULL.")
_add_aggregate(
    "sum",
    "(integer) -> HUGEINT; (DECIMAL) -> DECIMAL(38,s); (float) -> DOUBLE; (BOOLEAN) -> HUGEINT",
    "Sum; NULL of nothing.",
)
_add_aggregate("avg mean", "(numeric) -> DOUBLE", "Mean; NULL of nothing.")
_add_aggregate("min", "(any) -> same type", "Smallest value.")
_add_aggregate("max", "(any) -> same type", "Largest value.")
_add_aggregate("stddev_samp stddev", "(numeric) -> DOUBLE", "Standard deviation of a sample.")
_add_aggregate("stddev_pop", "(numeric) -> DOUBLE", "Standard deviation of a population.")
_add_aggregate("var_samp variance", "(numeric) -> DOUBLE", "Variance of a sample.")
_add_aggregate("var_pop", "(numeric) -> DOUBLE", "Variance of a population.")
_add_aggregate("bool_and", "(BOOLEAN) -> BOOLEAN", "Whether all are true.")
_add_aggregate("bool_or", "(BOOLEAN) -> BOOLEAN", "Whether one is true.")
_add_aggregate("any_value", "(any) -> same type", "The first value that is not NULL.")
_add_aggregate("first arbitrary", "(any) -> same type", "The first value, NULL or not.")
_add_aggregate("count_if countif", "(BOOLEAN) -> HUGEINT", "Number of rows for which it is true.")
_add_aggregate("last", "(any [ORDER BY …]) -> same type", "The last value, NULL or not.")
_add_aggregate(
    "arg_max argmax max_by", "(any, any) -> type of the first", "The first argument where the second is greatest."
)
_add_aggregate(
    "arg_min argmin min_by", "(any, any) -> type of the first", "The first argument where the second is least."
)
_add_aggregate("mode", "(any) -> same type", "The most frequent value.")
_add_aggregate("median", "(any) -> DOUBLE, DECIMAL, TIMESTAMP or same type", "The value in the middle.")
_add_aggregate(
    "quantile_cont percentile_cont",
    "(numeric, DATE or TIMESTAMP, constant share) -> DOUBLE, DECIMAL or TIMESTAMP",
    "The value at a share of the sorted values, between two of them if need be.",
)
_add_aggregate(
    "quantile_disc percentile_disc quantile",
    "(any, constant share) -> same type",
    "The value at a share of the sorted values.",
)
_add_aggregate(
    "string_agg group_concat listagg",
    "(VARCHAR [, constant VARCHAR] [ORDER BY …]) -> VARCHAR",
    "The texts that are not NULL, one after another with a separator (a comma) between them.",
)
_PAIR = "(numeric, numeric) -> DOUBLE"
_add_aggregate("corr", _PAIR, "Correlation.")
_add_aggregate("covar_pop", _PAIR, "Covariance of a population.")
_add_aggregate("covar_samp", _PAIR, "Covariance of a sample.")
_add_aggregate("regr_slope", _PAIR, "Slope of the line through the points (y, x).")
_add_aggregate("regr_count", "(numeric, numeric) -> UINTEGER", "Number of pairs without NULL.")
_add_aggregate("percent_rank", "() -> DOUBLE", "(rank - 1) / (rows - 1).", window=True)
_add_aggregate("cume_dist", "() -> DOUBLE", "Share of the rows up to the row's peers.", window=True)
_add_aggregate("ntile", "(BIGINT) -> BIGINT", "Number of the row's bucket of n.", window=True)
_add_aggregate("nth_value", "(any, BIGINT) -> same type", "The n-th value of the frame.", window=True)
_add_aggregate("row_number", "() -> BIGINT", "Number of the row in its partition.", window=True)
_add_aggregate("rank", "() -> BIGINT", "Rank with gaps.", window=True)
_add_aggregate("dense_rank rank_dense", "() -> BIGINT", "Rank without gaps.", window=True)
_add_aggregate("lag", "(any [, constant INTEGER [, any]]) -> same type", "The value n rows before.", window=True)
_add_aggregate("lead", "(any [, constant INTEGER [, any]]) -> same type", "The value n rows after.", window=True)
_add_aggregate("first_value", "(any) -> same type", "The first value of the frame.", window=True)
_add_aggregate("last_value", "(any) -> same type", "The last value of the frame.", window=True)


def aggregate_type(entry: AggregateFunction, name: str, args: list[Expr]) -> tuple[list[Expr], SqlType]:
    """The cast arguments of an aggregate over one argument and its result type."""
    if len(args) != 1:
        raise no_overload(entry, name, args)
    e, kind = args[0], entry.canonical
    if kind == "count":
        return [settle(e)], BIGINT
    if kind in ("min", "max", "any_value", "first", "last", "lag", "lead", "first_value", "last_value", "nth_value"):
        e = cast(e, INTEGER) if is_null(e) else settle(e)
        return [e], e.type
    if kind in ("bool_and", "bool_or", "count_if"):
        if e.type != BOOLEAN and not is_null(e):
            raise no_overload(entry, name, args)
        return [cast(e, BOOLEAN)], HUGEINT if kind == "count_if" else BOOLEAN
    if is_null(e):
        e = cast(e, DOUBLE if kind != "sum" else INTEGER)
    if kind == "sum" and e.type == BOOLEAN:
        e = cast(e, INTEGER)
    if not e.type.is_numeric:
        raise no_overload(entry, name, args)
    e = settle(e)
    if kind == "sum":
        result = decimal(38, e.type.scale) if e.type.is_decimal else DOUBLE if e.type.is_float else HUGEINT
        return [e], result
    if kind == "avg":
        return [e], DOUBLE
    return [cast(e, DOUBLE)], DOUBLE


#: Functions that users of DuckDB know and that FineQuery does not have: named as such, not as unknown.
UNSUPPORTED = frozenset(
    """approx_quantile approx_count_distinct list array_agg product kurtosis skewness entropy histogram random uuid
    unnest range generate_series list_value struct_pack columns format printf hash initcap jaccard make_time julian
    week_of_year regexp_extract_all string_split grouping grouping_id row struct_extract json_extract nextval
    to_base hex unhex bin from_hex encode decode try_cast bar nextafter round_even overlay bit_and bit_or bit_xor
    regr_intercept regr_r2 regr_avgx regr_avgy regr_sxx regr_syy regr_sxy geomean geometric_mean fsum kahan_sum favg
    mad sem array_slice octet_length""".split()
)


_NO_LISTS = "There are no lists; string_agg makes one text of a group's values."
#: What to use instead of some of them.
INSTEAD = {
    **dict.fromkeys(("list", "array_agg", "histogram", "list_value", "unnest"), _NO_LISTS),
    **dict.fromkeys(("string_split", "regexp_split_to_array"), "split_part(x, separator, n) gives one piece."),
    "regexp_extract_all": "regexp_extract gives the first match.",
    "approx_count_distinct": "count(DISTINCT x) is exact.",
    "approx_quantile": "quantile_cont is exact.",
    "product": "exp(sum(ln(x))) is near it for positive numbers.",
    **dict.fromkeys(("format", "printf"), "Join the parts with ||, and CAST them to VARCHAR."),
    "make_time": "There is no type TIME; make_timestamp has a date too.",
    "columns": "Name the columns, or use * EXCLUDE (…).",
    "hash": "md5 and sha256 give digests.",
}


def names() -> list[str]:
    """All function names, for suggestions."""
    return [*FUNCTIONS, *AGGREGATES]
