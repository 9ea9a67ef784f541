"""Evolutionary multi-objective search over the subnetworks of any family, by pymoo's NSGA-II.

A subnetwork is a row of positions, one per gene, in the choices that its search space offers for the gene.

Source: K. Deb, A. Pratap, S. Agarwal, T. Meyarivan, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II",
IEEE Transactions on Evolutionary Computation, 2002.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.evaluator import Evaluator
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UX
from pymoo.problems.static import StaticProblem

from dynamic_perception.networks.search_space import SearchSpace, SubnetConfig
from dynamic_perception.training.pareto import Limits, Point, spread

POPULATION, OFFSPRING = 24, 12  # subnetworks
DRAWS = 20  # random subnetworks for each one of the first population
CHANGED_GENES = 2  # of a mutated subnetwork, on average


class Evolution:
    """Proposes subnetworks, is told what they are worth, proposes better ones.  Never the same one twice.

    Args:
        space: of the subnetworks.
        limits: subnetworks that keep to them come first.
        seed: of everything that is random.
    """

    def __init__(self, space: SearchSpace, limits: Limits, seed: int):
        self._space, self._limits, self._genes = space, limits, space.genes()
        self._proposed: Population | None = None
        self._unseen = _Unseen(self._decode)
        last = np.array([len(choices) - 1 for choices in self._genes])
        self._algorithm = NSGA2(
            pop_size=POPULATION,
            n_offsprings=OFFSPRING,
            sampling=self._first_population(last, seed),
            crossover=UX(),
            mutation=_ChooseAnew(last),
            eliminate_duplicates=self._unseen,
        )
        problem = Problem(n_var=len(last), n_obj=2, n_ieq_constr=2, xl=np.zeros_like(last), xu=last, vtype=int)
        self._algorithm.setup(problem, termination=NoTermination(), seed=seed)

    def ask(self) -> list[SubnetConfig]:
        """Subnetworks to measure; none if there is no other left."""
        self._proposed = self._algorithm.ask()
        return [] if self._proposed is None else [self._decode(individual.X) for individual in self._proposed]

    def tell(self, points: Sequence[Point]) -> None:
        """What the subnetworks of the last `ask` are worth, or the first few of them."""
        told = self._proposed[: len(points)]
        objectives = np.array([(math.log(p.latency), -p.accuracy) for p in points])
        excesses = np.array([self._limits.excess(p) for p in points])
        Evaluator().eval(StaticProblem(self._algorithm.problem, F=objectives, G=excesses), told)
        self._unseen.seen.update(p.config for p in points)
        self._algorithm.tell(infills=told)

    def _decode(self, positions: np.ndarray) -> SubnetConfig:
        return self._space.from_genes([choices[i] for choices, i in zip(self._genes, positions)])

    def _first_population(self, last: np.ndarray, seed: int) -> np.ndarray:
        """Random subnetworks at even ratios of their multiply-accumulates.

        Drawn gene by gene, nearly all would be of middle size.  So a part of the genes, half on average, makes
        the same choice, as in `SearchSpace.ladder`.
        """
        rng = np.random.default_rng(seed)
        shape = POPULATION * DRAWS, len(last)
        rungs = np.rint(rng.random((shape[0], 1)) * last).astype(int)
        drawn = np.where(rng.random(shape) < 0.5, rungs, rng.integers(last + 1, size=shape))
        ends = np.zeros_like(last), last
        by_config = {self._decode(row): row for row in (*ends, *drawn)}
        rising = sorted(by_config, key=self._space.macs)
        chosen = spread([math.log(self._space.macs(config)) for config in rising], POPULATION)
        return np.array([by_config[rising[i]] for i in chosen])


class _ChooseAnew(Mutation):
    """Gives a few genes, whose choices are numbered up to `last`, any other of their choices."""

    def __init__(self, last: np.ndarray):
        super().__init__()
        self._last = last

    def _do(
        self, problem: Problem, X: np.ndarray, random_state: np.random.Generator | None = None, **_: Any
    ) -> np.ndarray:
        changed = random_state.random(X.shape) < CHANGED_GENES / X.shape[1]
        steps = random_state.integers(1, np.maximum(self._last, 1) + 1, size=X.shape)
        return np.where(changed, (X + steps) % (self._last + 1), X)


class _Unseen(DuplicateElimination):
    """Drops what was measured before, and what is the same subnetwork as another one of the proposals."""

    def __init__(self, decode: Any):
        super().__init__()
        self._decode = decode
        self.seen: set[SubnetConfig] = set()

    def _do(self, pop: Population, other: Population | None, is_duplicate: np.ndarray) -> np.ndarray:
        taken = set(self.seen) if other is None else {self._decode(individual.X) for individual in other}
        for i, individual in enumerate(pop):
            config = self._decode(individual.X)
            is_duplicate[i] = config in taken
            taken.add(config)
        return is_duplicate
