"""How strong are the tests? A seeded sample of small mistakes, and which of them no test notices.

Run by hand, from anywhere in the checkout; not collected by pytest and no part of CI::

    python tests/mutation.py --seed 7 --one-of-each 40 --modules properties figures --map ../map
    python tests/mutation.py --seed 7 --each 10 --modules properties/ood.py --tests tests/properties --jobs 2

Each mutation is one small change of one module (``mutators.py``). ``--one-of-each`` draws modules, and of
each a kind and a mutation of that kind; ``--each`` and ``--count`` draw all kinds equally often while they
last, of each module or of all together. The same seed draws the same sample of the same sources.

First all tests run once without a mutation, to see which lines each runs and how long it takes
(``mutation_map.py``): some minutes, which a second run with the same ``--map`` saves. Then the tests that
run the mutated line are run on each mutation until the first failure, short tests and those of the module's
own folder first, in forks of a session that has collected them (``mutation_runs.py``). Where no fork can
show the mutation, as in what importing the module runs, or where no test runs the line in its own process,
the module's tests start from scratch. Survivors of the quick tests are run against the slow ones, which are
recorded when the first is found. A failure, an error or the time limit (many times what the tests take
without a mutation) notices the mutation; a failure counts only if the same tests pass without it. Survivors
are printed with their place and the changed lines, then the shares by module and by kind.

A survivor is a missing test, code that nobody needs, or an equivalent mutation, that is one that changes no
result (a chunk of another size, a border that no number hits). Ends with status 1 if less than ``--least``
of the sample is noticed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mutation_map import Map, file_of, up_to_date
from mutation_runs import PRELOADED, Outcome, Session, from_scratch, workspace
from mutators import (
    MUTATORS,
    ROOT,
    Mutation,
    modules_of,
    mutations_of,
    one_of_each,
    sample,
)


@dataclass(frozen=True)
class Stage:
    """Tests that are tried together.

    Attributes:
        name: of the map that is kept of them.
        marks: which they are, as ``pytest -m`` takes it.
        seconds: of tests that are run on one mutation, at most; the first test runs in any case.
    """

    name: str
    marks: str
    seconds: float


@dataclass
class Job:
    """One workspace with its session, for one mutation at a time.

    ``trusted``: tests that pass without a mutation here.
    """

    folder: Path
    stage: Stage
    known: Map
    limit: float
    session: Session
    trusted: set[str]

    def noticed_by(self, mutation: Mutation) -> str:
        """Return what notices a mutation; nothing if the tests pass."""
        covering = self.affordable(
            name for name in self.known.covering(mutation) if name in self.session.tests
        )
        outcome = Outcome(reached=False)
        if covering:
            outcome = self.believed(mutation, covering, self.session.run)
        at_import = self.known.imported.get(mutation.path, 0) >> mutation.line & 1
        if outcome.by or (outcome.reached and not at_import):
            return outcome.by
        near = self.affordable(dict.fromkeys([*covering, *self.known.near(mutation.path)]))
        return self.believed(mutation, near, self.from_scratch).by if near else ""

    def affordable(self, names: Iterable[str]) -> list[str]:
        """Return the first of these tests, as many as there is time for."""
        chosen: list[str] = []
        left = self.stage.seconds
        for name in names:
            left -= self.known.tests[name].seconds
            if left < 0 and chosen:
                break
            chosen.append(name)
        return chosen

    def from_scratch(
        self, mutation: Mutation | None, tests: Sequence[str], limit: float
    ) -> Outcome:
        """Run tests in a session of their own."""
        return from_scratch(self.folder, mutation, tests, self.stage.marks, limit + 60.0)

    def believed(
        self,
        mutation: Mutation,
        tests: list[str],
        run: Callable[[Mutation | None, Sequence[str], float], Outcome],
    ) -> Outcome:
        """Run tests; leave out those that fail after the same ones without the mutation, too."""
        while True:
            # Tests that are merely slow today must not count as having noticed.
            limit = max(self.limit, 6 * sum(self.known.tests[name].seconds for name in tests))
            outcome = run(mutation, tests, limit)
            if outcome.by not in tests or outcome.by in self.trusted:
                return outcome
            if not run(None, tests[: tests.index(outcome.by) + 1], limit).by:
                self.trusted.add(outcome.by)
                return outcome
            print(f"left out, fails at times without a mutation: {outcome.by}", flush=True)
            tests = [name for name in tests if name != outcome.by]
            if not tests:
                return Outcome()


def tried(
    chosen: Sequence[Mutation], stage: Stage, known: Map, folders: Sequence[Path], limit: float
) -> list[Mutation]:
    """Run a stage's tests on all mutations, a job in each folder, and return those not noticed."""
    files = sorted({file_of(name) for m in chosen for name in known.covering(m)})
    files = files or sorted(known.digests.keys() - modules_of(["."]))[:1]  # never all of them
    free: queue.SimpleQueue[Job] = queue.SimpleQueue()
    sessions: list[Session] = []

    def one(mutation: Mutation) -> bool:
        job = free.get()
        try:
            by = job.noticed_by(mutation)
        finally:
            free.put(job)
        if by:
            print(f"noticed  {mutation.path}:{mutation.line} [{mutation.kind}] by {by}", flush=True)
        return not by

    try:
        for folder in folders[: len(chosen)]:
            sessions.append(Session(folder, files, stage.marks))
            free.put(Job(folder, stage, known, limit, sessions[-1], set()))
        with ThreadPoolExecutor(len(folders)) as pool:
            survived = list(pool.map(one, chosen))
    finally:
        for session in sessions:  # they wait for mutations to the end of days
            session.close()
    return [mutation for mutation, alive in zip(chosen, survived, strict=True) if alive]


def measure(
    chosen: Sequence[Mutation],
    stages: Sequence[Stage],
    tests: Sequence[str],
    maps: Path,
    jobs: int,
    limit: float,
) -> list[tuple[Mutation, bool]]:
    """Run the stages' tests on mutations, ``jobs`` at a time; return whether each is noticed.

    Args:
        tests: files or folders of tests, relative to the checkout.
        maps: folder for the maps of which test runs what.
        limit: seconds that the tests of one mutation may take in any case.
    """
    survivors = list(chosen)
    with tempfile.TemporaryDirectory(prefix="mutation-") as base:
        folders = [workspace(Path(base, str(job))) for job in range(jobs)]
        for stage in stages:
            if survivors:
                paths = {mutation.path for mutation in survivors}
                file = maps / f"{stage.name}.json"
                known = up_to_date(file, tests, stage.marks, paths, folders[0])
                survivors = tried(survivors, stage, known, folders, limit)
                print(f"{len(survivors)} survive the {stage.name} tests", flush=True)
    for mutation in survivors:
        print(f"SURVIVED {mutation.path}:{mutation.line} [{mutation.kind}]")
        print(mutation.diff((ROOT / mutation.path).read_bytes()), flush=True)
    return [(mutation, mutation not in survivors) for mutation in chosen]


def summary(results: Sequence[tuple[Mutation, bool]]) -> str:
    """Return the shares noticed, by module, by kind and in all."""
    shares: dict[str, list[bool]] = defaultdict(list)
    modules = sorted({mutation.path for mutation, _ in results})
    for name in (*modules, *MUTATORS, "all"):
        shares[name] = [
            seen for mutation, seen in results if name in (mutation.path, mutation.kind, "all")
        ]
    return "\n".join(
        f"{name:50} {sum(seen):4} of {len(seen):4}  {sum(seen) / len(seen):6.1%}"
        for name, seen in shares.items()
        if seen
    )


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = made.add_argument
    add("--seed", type=int, default=0, help="of the sample (0)")
    add("--modules", nargs="+", default=["."], help="folders or files below the package (all)")
    size = made.add_mutually_exclusive_group()
    size.add_argument("--count", type=int, default=100, help="mutations in all (100)")
    size.add_argument("--each", type=int, help="mutations of each module, at most")
    size.add_argument("--one-of-each", type=int, metavar="N", help="one of each of N modules")
    add("--tests", nargs="+", default=["tests"], help="files or folders of tests (all)")
    add("--map", type=Path, help="folder that keeps which test runs what, for the next run")
    add("--quick", action="store_true", help="do without the slow tests")
    add(
        "--most",
        type=float,
        default=25.0,
        help="seconds of quick tests a mutation (25); slow: 4 times",
    )
    add("--limit", type=float, default=60.0, help="seconds, or 6 times what the tests take (60)")
    add("--jobs", type=int, default=1, help="mutations at a time (1)")
    add("--least", type=float, default=0.95, help="share to be noticed (0.95)")
    return made


def drawn(options: argparse.Namespace) -> list[Mutation]:
    """Return the sample that the command line asks for."""
    modules = [mutations_of(path) for path in modules_of(options.modules)]
    every = [mutation for of_one in modules for mutation in of_one]
    if options.one_of_each:
        chosen = one_of_each(every, options.one_of_each, options.seed)
    elif options.each:
        chosen = [m for of_one in modules for m in sample(of_one, options.each, options.seed)]
    else:
        chosen = sample(every, options.count, options.seed)
    print(f"{len(chosen)} of {len(every)} mutations, seed {options.seed}", flush=True)
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    options = parser().parse_args(arguments)
    chosen = drawn(options)
    stages = [Stage("quick", "not slow and not long and not exhaustive", options.most)]
    if not options.quick:
        stages.append(Stage("slow", "slow and not long and not exhaustive", 4 * options.most))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # threads do not survive a fork
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory(prefix="mutation-map-") as passing:
        maps = options.map or Path(passing)
        maps.mkdir(parents=True, exist_ok=True)
        results = measure(chosen, stages, options.tests, maps, options.jobs, options.limit)
    print(summary(results))
    share = sum(seen for _, seen in results) / max(1, len(results))
    return int(share < options.least)


if __name__ == "__main__":
    sys.exit(main())
