"""Policies of learned shapes whose networks are functions, priced by a small table."""

import numpy as np
import plans
from treewright.controller.learned.shape_features import SHAPE_FEATURES
from treewright.controller.learned.shape_menu import SHAPED_VERIFIERS, answers_of, num_answers
from treewright.controller.policies.learned_shapes import LearnedShapes
from treewright.controller.trees.delayed import MENU


def policy_of(network, speed_ups, **options):
    """Of a network that answers for the whole menu alone."""
    return LearnedShapes(network, np.arange(len(MENU)), plans.TABLE, speed_ups, **options)


def random_policy(verifier="traversal", seed=0):
    """A network whose choices vary with every feature, and which sometimes drafts nothing."""
    generator = np.random.default_rng(seed)
    weights = 0.7 * generator.normal(size=(len(SHAPE_FEATURES), num_answers(SHAPED_VERIFIERS)))
    phases = generator.uniform(0, 6, size=weights.shape[1])
    answers = answers_of(verifier, SHAPED_VERIFIERS)

    def network(features):
        lengths = np.sin(features.astype(np.float64) @ weights + phases)
        lengths[:, answers[0]] += 0.9 * (np.sin(9 * features[:, :3].sum(axis=1)) > 0.5)
        return lengths

    return LearnedShapes(network, answers, plans.TABLE, {"1": 1e-6})
