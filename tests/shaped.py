"""Policies of learned shapes whose networks are functions, priced by a small table."""

import numpy as np
import plans
from treewright.controller.learned.shape_features import SHAPE_FEATURES
from treewright.controller.learned.shape_menu import SHAPED_VERIFIERS, answers_of, menu_of, num_answers
from treewright.controller.policies.learned_shapes import LearnedShapes
from treewright.controller.trees.menu import DELAYED_MENU


def policy_of(network, speed_ups, **options):
    """Of a network that answers for all delayed trees alone."""
    answers = np.arange(len(DELAYED_MENU.shapes))
    return LearnedShapes(network, answers, DELAYED_MENU, plans.TABLE, speed_ups, **options)


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

    return LearnedShapes(network, answers, menu_of(verifier), plans.TABLE, {"1": 1e-6})
