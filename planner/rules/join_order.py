"""The order of joins, and which side is built and which probes, from estimated sizes."""

from __future__ import annotations

from math import log2

from finequery.operators.expr import Call, Column, Expr, conjunction
from finequery.planner.estimate import estimate, spread
from finequery.planner.logical import Join, Materialize, Node, Union
from finequery.planner.rules._graph import Graph, Member, Term, build_graph, is_graph, pair_corrections
from finequery.planner.rules._tree import as_schema, filtered, ids, with_inputs
from finequery.planner.rules.extract_keys import split_keys

#: Prices of one row. Put into a table: by a unique key with few gaps (an array), by a unique key, by any key or from
#: another join, whose rows have to be kept. Come out of a join. Probing costs 1, and more where the table is large.
BUILD_DENSE, BUILD_UNIQUE, BUILD_ANY, BUILD_JOIN, OUT = 0.5, 1.5, 3.0, 4.0, 0.3
CACHED = 16384
#: The largest graph that is searched in full; above, the smallest intermediate result is joined first.
LARGEST_SEARCH = 9


def join_order(plan: Node) -> Node:
    """Order joins so that the largest input streams through hash tables of the smaller ones, most selective first.

    Before::

        Join inner on custkey = custkey#2
          Join inner on orderkey = orderkey#2
            Scan orders [orderkey, custkey]
            Scan lineitem [orderkey#2]
          Filter name = 'x'
            Scan customer [custkey#2, name]

    After::

        Join inner on orderkey#2 = orderkey
          Scan lineitem [orderkey#2]
          Join inner on custkey = custkey#2
            Scan orders [orderkey, custkey]
            Filter name = 'x'
              Scan customer [custkey#2, name]
    """
    return as_schema(visit(plan), plan.schema)


def visit(node: Node) -> Node:
    if isinstance(node, Materialize):
        return node
    if is_graph(node):
        return Order(build_graph(node, visit)).result()
    inputs = [visit(i) for i in node.inputs]
    if isinstance(node, Union):
        inputs = [as_schema(new, old.schema) for new, old in zip(inputs, node.inputs)]
    return with_inputs(node, inputs)


class Order:
    """Searches one join graph. Sets of items are bit sets."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.count = len(graph.items)
        self.neighbours = [0] * self.count
        self.operators = 0
        self.sizes: dict[int, float] = {}
        #: set -> (cost, rows, left set, right set)
        self.best: dict[int, tuple[float, float, int, int]] = {}
        self.class_members = [self.distincts(members) for members in graph.classes]
        self.corrections = pair_corrections(graph)
        self.build_prices = [self.unique_keys(i) for i in range(self.count)]
        self.connect()

    def distincts(self, members: list[Member]) -> list[tuple[int, float]]:
        """For a class: the bit of each relation in it and its number of distinct values, ascending by number."""
        largest: dict[int, float] = {}
        for m in members:
            bit = 1 << m.item
            largest[bit] = max(largest.get(bit, 1.0), spread(m.column))
        return sorted(largest.items(), key=lambda pair: pair[1])

    def unique_keys(self, item: int) -> list[tuple[int, float]]:
        """For a relation: price of building on each unique key, and the relations that can probe it."""
        found = []
        for members in self.graph.classes:
            for m in members:
                c = m.column
                if m.item == item and c.unique:
                    dense = c.low is not None and c.high is not None and c.high - c.low <= 8 * c.domain
                    others = sum({1 << k.item for k in members if k.item != item})
                    found.append((others, BUILD_DENSE if dense else BUILD_UNIQUE))
        return found

    def build_price(self, right: int, left: int) -> float:
        if right & (right - 1) or right & self.operators:
            return BUILD_JOIN if right & (right - 1) else BUILD_ANY
        return min([p for others, p in self.build_prices[right.bit_length() - 1] if others & left], default=BUILD_ANY)

    def connect(self) -> None:
        masks = []
        for members in self.class_members:
            mask = 0
            for bit, _ in members:
                mask |= bit
            masks.append(mask)
        for i, item in enumerate(self.graph.items):
            if item.operator is not None:
                self.operators |= 1 << i
                masks += [1 << i | 1 << j for j in range(self.count) if item.requires >> j & 1]
        for t in self.graph.terms:
            if type(t.expr) is Call and t.expr.name == "eq":
                masks.append(t.mask)
        for mask in masks:
            for i in range(self.count):
                if mask >> i & 1:
                    self.neighbours[i] |= mask & ~(1 << i)

    def rows(self, s: int) -> float:
        """Estimated rows of the join of a set, whatever its order."""
        known = self.sizes.get(s)
        if known is not None:
            return known
        rows = 1.0
        for i, item in enumerate(self.graph.items):
            if s >> i & 1:
                rows *= item.rows
        for members in self.class_members:
            smallest = True
            for bit, distinct in members:
                if s & bit:
                    if not smallest:
                        rows /= distinct
                    smallest = False
        for mask, factor in self.corrections:
            if s & mask == mask:
                rows *= factor
        for t in self.graph.terms:
            if t.mask and s & t.mask == t.mask:
                rows *= t.share
        rows = self.sizes[s] = max(rows, 1.0)
        return rows

    def result(self) -> Node:
        for i in range(self.count):
            self.best[1 << i] = (0.0, self.rows(1 << i), 0, 0)
        everything = (1 << self.count) - 1
        if self.count <= LARGEST_SEARCH:
            for left, right in self.pairs():
                self.consider(left, right)
        if everything not in self.best:
            self.greedy(everything)
        node, _ = self.build(everything)
        constant = [t.expr for t in self.graph.terms if not t.mask]
        return filtered(node, constant)

    def consider(self, a: int, b: int) -> None:
        """Join two disjoint sets, if that is possible, in the cheaper direction."""
        if a not in self.best or b not in self.best:
            return
        whole = a | b
        directions: tuple[tuple[int, int], ...] = ((a, b), (b, a))
        if self.lone_operator(a) or self.lone_operator(b):
            if self.lone_operator(a) and self.lone_operator(b):
                return
            directions = directions[:1] if self.lone_operator(b) else directions[1:]
        rows = self.rows(whole)
        for left, right in directions:
            size = self.best[right][1]
            if self.lone_operator(right):
                item = self.graph.items[right.bit_length() - 1]
                if item.requires & ~left:
                    return
                size = estimate(item.node).rows
            build = self.build_price(right, left)
            probe = 1.0 if size <= CACHED else 1.0 + 0.25 * log2(size / CACHED)
            cost = self.best[left][0] + self.best[right][0] + build * size + probe * self.best[left][1] + OUT * rows
            known = self.best.get(whole)
            if known is None or cost < known[0]:
                self.best[whole] = (cost, rows, left, right)

    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of connected, disjoint, adjacent sets (Moerkotte and Neumann), small ones first."""
        found: list[tuple[int, int]] = []
        neighbours, count = self.neighbours, self.count

        def around(s: int) -> int:
            n, rest = 0, s
            while rest:
                low = rest & -rest
                n |= neighbours[low.bit_length() - 1]
                rest ^= low
            return n & ~s

        def grow(s: int, excluded: int, emit) -> None:  # type: ignore[no-untyped-def]
            n = around(s) & ~excluded
            sub = n
            while sub:
                emit(s | sub)
                sub = (sub - 1) & n
            sub = n
            while sub:
                grow(s | sub, excluded | n, emit)
                sub = (sub - 1) & n

        def complements(s: int) -> None:
            lowest = s & -s
            excluded = (lowest << 1) - 1 | s
            n = around(s) & ~excluded
            for i in range(count - 1, -1, -1):
                if n >> i & 1:
                    found.append((s, 1 << i))
                    grow(1 << i, excluded | (((2 << i) - 1) & n), lambda t: found.append((s, t)))

        for i in range(count - 1, -1, -1):
            complements(1 << i)
            grow(1 << i, (2 << i) - 1, complements)
        found.sort(key=lambda pair: bin(pair[0] | pair[1]).count("1"))
        return found

    def greedy(self, everything: int) -> None:
        """Join whatever gives the smallest result, over and over; products only where nothing else is left."""
        parts = [1 << i for i in range(self.count)]
        while len(parts) > 1:
            choice: tuple[bool, float, int, int] | None = None
            for i, a in enumerate(parts):
                for b in parts[i + 1 :]:
                    if not self.possible(a, b):
                        continue
                    joined = any(a >> k & 1 and self.neighbours[k] & b for k in range(self.count))
                    rank = (not joined, self.rows(a | b), a, b)
                    if choice is None or rank < choice:
                        choice = rank
            assert choice is not None
            _, _, a, b = choice
            self.best.pop(a | b, None)
            self.consider(a, b)
            parts = [p for p in parts if p not in (a, b)] + [a | b]

    def lone_operator(self, s: int) -> bool:
        """Whether the set is nothing but the right side of a join that is not inner."""
        return bool(s & self.operators) and not s & (s - 1)

    def possible(self, a: int, b: int) -> bool:
        if self.lone_operator(a) and self.lone_operator(b):
            return False
        for operator, other in ((a, b), (b, a)):
            if self.lone_operator(operator) and self.graph.items[operator.bit_length() - 1].requires & ~other:
                return False
        return True

    def build(self, s: int) -> tuple[Node, int]:
        """The plan of a set, and its leftmost relation."""
        _, _, left, right = self.best[s]
        items = self.graph.items
        if not left:
            at = s.bit_length() - 1
            return filtered(items[at].node, [t.expr for t in self.graph.terms if t.mask == s]), at
        left_node, first = self.build(left)
        if self.lone_operator(right):
            item = items[right.bit_length() - 1]
            o = item.operator
            assert o is not None
            new = Join(o.kind, left_node, item.node, o.keys, o.condition, o.null_safe, o.null_aware, o.mark)
            return filtered(new, [t.expr for t in self.new_terms(s) if t.mask & ~left]), first
        right_node, right_first = self.build(right)
        keys: list[tuple[Expr, Expr]] = []
        for members in self.graph.classes:
            a = self.choose(members, left, first)
            b = self.choose(members, right, right_first)
            if a is not None and b is not None:
                keys.append((a, b))
        terms = [t.expr for t in self.new_terms(s) if t.mask & ~left and t.mask & ~right]
        more, condition = split_keys(terms, ids(left_node), ids(right_node))
        return Join("inner", left_node, right_node, tuple(keys + more), conjunction(condition)), first

    def new_terms(self, s: int) -> list[Term]:
        return [t for t in self.graph.terms if t.mask and t.mask & s == t.mask]

    def choose(self, members: list[Member], side: int, first: int) -> Expr | None:
        """Which of the equal expressions on one side is the key: the stored column that streams, if it is there."""
        best: tuple[bool, bool, int] | None = None
        found: Expr | None = None
        for m in members:
            if side >> m.item & 1:
                rank = (m.item != first, not isinstance(m.expr, Column), m.item)
                if best is None or rank < best:
                    best, found = rank, m.expr
        return found
