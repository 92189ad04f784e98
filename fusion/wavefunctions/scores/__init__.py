"""Per-walker derivatives of log|psi| with respect to the parameters, without forming their full matrix.

The score matrix O_bp = d log|psi(x_b)| / d theta_p is kept layer by layer. For a linear layer, applied R times per
walker, with inputs a and derivatives g of log|psi| with respect to its outputs, O_b = sum_r g_br a_br^T; the Gram
matrix O O^T and the products O v and O^T u follow from the factors a and g. Small parameter groups store their
rows of O.

Memory grows with the number of walkers. If the scores of all walkers do not fit, they are recorded in groups of
walkers, again whenever they are needed.
"""

from fusion.wavefunctions.scores.layers import Block, KnowsScores, LinearScores, RowScores, SharesInputs, Step
from fusion.wavefunctions.scores.matrix import Scores
from fusion.wavefunctions.scores.recorder import ScoreRecorder

__all__ = ["Block", "KnowsScores", "LinearScores", "RowScores", "ScoreRecorder", "Scores", "SharesInputs", "Step"]
