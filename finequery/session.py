"""From SQL text to rows: cache, parse, bind, optimize, plan, execute."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from finequery import logs, scheduling
from finequery.convert import parameters
from finequery.errors import Error, InterfaceError, ProgrammingError
from finequery.jetson import accounts
from finequery.operators import watch
from finequery.plan_cache import Key, Plan, PlanCache
from finequery.resolver import Resolver, Scope, Sources
from finequery.types import SqlType
from finequery.working import Working

if TYPE_CHECKING:
    from finequery.catalog import Catalog
    from finequery.operators.column import Frame
    from finequery.operators.context import Context
    from finequery.planner.features import Observed
    from finequery.planner.shape import Lifting, Shape
    from finequery.planner.statements import Query, Statement
    from finequery.relation import Relation
    from finequery.settings import Settings

#: What a user may pass as parameters.
Values = Sequence[Any] | Mapping[str, Any] | None


class Session:
    """The state behind one connection. Its methods run under its lock, one query at a time."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog = catalog
        self.settings = settings
        self.registered: dict[str, tuple[str, Any]] = {}
        self.sources = Sources()
        self.plans = PlanCache()
        self.lock = threading.RLock()
        self.closed = False
        self.ran: Context | None = None  # the last query's
        self.running: list[watch.Watch] = []  # what runs now; more than one where threads share the session
        self._account = accounts.Account()  # of what is made outside of queries: tables while they are bound

    def resolver(self, scope: Scope) -> Resolver:
        """A resolver over what this session knows and the variables of ``scope``."""
        return Resolver(self.catalog, self.registered, self.sources, scope)

    def working(self, text: str = "", seconds: float | None = None) -> Working:
        """What runs inside can be stopped by ``interrupt``, and is, after ``seconds`` (None: the setting ``timeout``;
        0: never)."""
        return Working(self, text, seconds)

    def run(self, text: str, values: Values, scope: Scope) -> Relation:
        """Run the statements in ``text``; the last one's result. A query is bound here and executed when asked."""
        from finequery.relation import Relation

        types, physical = parameters(values)
        key = (text, tuple(types.items()))
        with self.lock, self.accounting():
            if self.closed:
                raise InterfaceError("The connection is closed")
            if self.sources.gone:
                self.sources.gone = False
                self.plans.clear()
            resolver = self.resolver(scope)
            plan = self.plans.get(key, resolver)
            if plan is not None:
                return self._start(plan.statement, plan, physical, resolver)
            from finequery.planner.shape import Lifting, shape_of

            size = self.settings["plan_cache_size"]
            shape = shape_of(text) if size else None
            if shape is not None:
                plan = self.plans.like(key, shape, resolver)
                if plan is not None:
                    self.plans.put(key, plan, size)
                    return self._start(plan.statement, plan, physical, resolver)
            self.plans.misses += 1
            from finequery.planner.parse import parse

            begin = time.perf_counter()
            parsed = parse(text)
            parsing = time.perf_counter() - begin
            if not parsed:
                return Relation.constant(self, (), (), ())
            if len(parsed) > 1 and types:
                raise ProgrammingError("Parameters need a single statement", hint="Run the statements one by one.")
            for one in parsed:
                resolver = self.resolver(scope)
                lifting = Lifting(shape) if shape is not None and len(parsed) == 1 else None
                statement, plan = self.prepare(one, types, resolver, lifting)
                if plan is not None:
                    plan.planning += parsing / len(parsed)
                if plan is not None and len(parsed) == 1:
                    self._keep(key, plan, shape)
                relation = self._start(statement, plan, physical, resolver)
                if one is not parsed[-1]:
                    relation.execute()
            return relation

    def accounting(self) -> AbstractContextManager[accounts.Account]:
        """Arrays made here lie where the session's queries want them."""
        self._account.shared = self._shared()
        return accounts.accounting(self._account)

    def device(self) -> Any:
        """The GPU that this session's queries run on; None: none."""
        choice = self.settings["device"]
        if choice == "cpu" or (choice == "auto" and scheduling.described() is None):
            return None
        from finequery.jetson.gpu import open_device

        gpu = open_device()
        gpu.set_limit(self.settings["gpu_memory_limit"])
        return gpu

    def _shared(self) -> str:
        """The kind of memory that this session's queries need for arrays that the CPU and a GPU read and write. With
        ``device = 'cpu'`` nothing asks whether there is a GPU."""
        if self.settings["device"] == "cpu":
            return "pageable"
        from finequery.jetson.memory import kind_for

        return kind_for("column")

    def _start(
        self, statement: Statement, plan: Plan | None, physical: dict[int | str, Any], resolver: Resolver
    ) -> Relation:
        if plan is not None and plan.statement is plan.query:
            from finequery.relation import Relation

            return Relation(self, plan, physical, resolver.variables)
        from finequery import commands

        return commands.run(self, statement, plan, physical)

    def _keep(self, key: Key, plan: Plan, shape: Shape | None) -> None:
        from finequery.planner.statements import Insert, Query

        size = self.settings["plan_cache_size"]
        if size and plan.lasting and isinstance(plan.statement, (Query, Insert)):
            self.plans.put(key, plan, size, shape)

    def prepare(
        self, parsed: Any, types: dict[int | str, SqlType], resolver: Resolver, lifting: Lifting | None = None
    ) -> tuple[Statement, Plan | None]:
        """Bind one parsed statement, and plan the query in it if it has one. ``lifting``: to be right for other
        literals, too."""
        from finequery import commands
        from finequery.planner.binder import bind

        begin = time.perf_counter()
        statement = bind(parsed, resolver, types, lifting)
        query = commands.query_of(statement)
        if query is None:
            return statement, None
        plan = self.plan(parsed.text, statement, query, resolver, types, lifting)
        plan.planning = time.perf_counter() - begin
        logs.planned(parsed.text, plan.planning)
        return statement, plan

    def plan(
        self,
        text: str,
        statement: Statement,
        query: Query,
        resolver: Resolver,
        types: dict[int | str, SqlType],
        lifting: Lifting | None = None,
    ) -> Plan:
        """Optimize a bound query and choose its operators."""
        from finequery.planner.optimizer import optimize
        from finequery.planner.physical import physical_plan
        from finequery.planner.statements import Insert

        _check_parameters(query.parameters, types)
        logical = optimize(query.plan)
        found, target = list(resolver.found), None
        if isinstance(statement, Insert):
            target = next(f for f in found if f[1] is statement.table)
            found.remove(target)
        deterministic = self.settings["deterministic"]
        root, lifted = physical_plan(logical, deterministic)
        template, values = (None, {}) if lifting is None else lifting.finish(lifted)
        return Plan(
            text=text,
            statement=statement,
            query=query,
            logical=logical,
            root=root,
            types=types,
            found=found,
            target=target,
            lasting=resolver.lasting,
            deterministic=deterministic,
            template=template,
            lifted=values,
        )

    def refreshed(self, plan: Plan, variables: Mapping[str, Any]) -> Plan:
        """The plan, or one made anew where a table it reads or a setting was changed. ``variables``: the caller's that
        it used."""
        same = plan.deterministic == self.settings["deterministic"] and not plan.root.spoiled
        if same and plan.holds(self.resolver(Scope(values=variables))):
            return plan
        from finequery.planner.parse import parse

        again = self.prepare(parse(plan.text)[0], plan.types, self.resolver(Scope(values=variables)))[1]
        assert again is not None
        return again

    def execute(self, plan: Plan, physical: dict[int | str, Any]) -> Frame:
        """Run a plan. Ctrl-C and ``interrupt`` stop it and leave the session as it was."""
        from finequery.operators.executor import execute

        with self._running(plan, physical) as context:
            return execute(plan.root, context)

    def frames(self, plan: Plan, physical: dict[int | str, Any]) -> Generator[Frame]:
        """``execute``, a part of the rows at a time where the files that are read don't fit into memory."""
        from finequery.operators.executor import frames

        with self._running(plan, physical) as context:
            yield from frames(plan.root, context)

    @contextmanager
    def _running(self, plan: Plan, physical: dict[int | str, Any]) -> Iterator[Context]:
        """One run of a plan."""
        with self.lock, self.working(plan.text) as running:
            if self.closed:
                raise InterfaceError("The connection is closed")
            try:
                begin = time.perf_counter()
                context = self.context(physical | plan.lifted)
                scheduler = scheduling.schedule(self.settings, plan, context)
                if scheduler is not None:
                    logs.placed(scheduler)
                running.plan, running.context = plan, context
                with scheduling.ours(context):
                    yield context
                if scheduler is not None:
                    scheduler.finish(context)
                if context.gpu is not None:
                    logs.departed(context)
                logs.ran(plan.text, time.perf_counter() - begin, self.settings["log_slow"])
                self.ran = context
            except Error as error:
                if error.subject is not None:
                    from finequery.planner.display import format_expr

                    error.message, error.subject = f"{error.message}, in {format_expr(error.subject)}.", None
                raise

    def context(self, physical: dict[int | str, Any]) -> Context:
        """What the executor needs to know besides the plan."""
        from finequery.jetson import memory
        from finequery.operators.context import CPU, GPU, Context
        from finequery.operators.pool import get_pool

        running = watch.current.get()
        gpu = scheduling.posing(self.settings["board"]) if self.settings["board"] else self.device()
        memory.set_limit(self.settings["memory_limit"])
        return Context(
            get_pool(self.settings["threads"]),
            physical,
            stopped=None if running is None else running.stopped,
            gpu=gpu,
            placement=GPU if self.settings["device"] == "gpu" and gpu is not None else CPU,
            strict=self.settings["strict"],
            account=memory.Account(shared=self._shared()),
            profile=self.settings["profile"],
        )

    def explain(self, plan: Plan, physical: dict[int | str, Any], analyze: bool) -> str:
        """EXPLAIN and EXPLAIN ANALYZE."""
        from finequery.planner.explain import explain

        with self.lock, self.working(plan.text) as running:
            context = self.context(physical | plan.lifted)
            scheduling.schedule(self.settings, plan, context, shown=True)
            running.plan, running.context = plan, context
            with scheduling.ours(context):
                text = explain(plan, context, analyze)
            if analyze:
                self.ran = context
            return text

    def observe(self, plan: Plan, physical: dict[int | str, Any]) -> list[Observed]:
        """Run a plan with every instruction measured: what its pipelines have seen and took."""
        from finequery.operators.executor import execute
        from finequery.planner.features import observed
        from finequery.planner.subtasks import split

        with self.lock, self.working(plan.text) as running:
            context = self.context(physical | plan.lifted)
            context.profile = True
            running.plan, running.context = plan, context
            execute(plan.root, context)
            return observed(split(plan.root), context)

    def interrupt(self) -> None:
        """Stop what is running now, from another thread."""
        for one in list(self.running):
            one.stop()


def _check_parameters(wanted: Sequence[int | str], given: Mapping[int | str, Any]) -> None:
    missing = [key for key in wanted if key not in given]
    extra = [key for key in given if key not in wanted]
    if not missing and not extra:
        return
    count = len(dict.fromkeys(wanted))
    if all(isinstance(key, int) for key in (*missing, *extra)):
        raise ProgrammingError(f"The statement has {count} parameter{'' if count == 1 else 's'}, {len(given)} given")
    if missing:
        raise ProgrammingError(f"No value for parameter ${missing[0]}")
    raise ProgrammingError(f"The statement has no parameter ${extra[0]}")
