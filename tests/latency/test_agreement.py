import numpy as np
import pytest
from scipy import stats

from latency.agreement import Agreement, AgreementBounds, score_agreement


def test_scores_are_what_their_names_say() -> None:
    generator = np.random.default_rng(0)
    measured = generator.uniform(10, 20, 30)
    predicted = measured * (1 + generator.normal(0.01, 0.02, 30))
    scores = score_agreement(predicted.tolist(), measured.tolist())
    errors = [p / m - 1 for p, m in zip(predicted, measured, strict=True)]
    assert scores.mape == pytest.approx(sum(map(abs, errors)) / 30)
    assert scores.largest == pytest.approx(max(map(abs, errors)))
    assert scores.bias == pytest.approx(sum(errors) / 30)
    assert scores.pearson == pytest.approx(np.corrcoef(predicted, measured)[0, 1])
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, measured)]
    assert scores.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert scores.kendall == pytest.approx(stats.kendalltau(predicted, measured).statistic)


def test_a_perfect_prediction_misses_nothing() -> None:
    scores = score_agreement([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert scores.missed(AgreementBounds(mape=0.0, largest=0.0, spearman=1.0 - 1e-12)) == []


def test_missed_bounds_are_named_with_both_figures() -> None:
    scores = Agreement(mape=0.03, largest=0.09, bias=0.0, pearson=0.9, spearman=0.98, kendall=0.9)
    assert scores.missed(AgreementBounds()) == []
    assert scores.missed(AgreementBounds(mape=0.02, largest=0.08, spearman=0.99)) == [
        "mean error 3.00% is above 2.00%",
        "largest error 9.00% is above 8.00%",
        "Spearman correlation 0.9800 is below 0.9900",
    ]


def test_an_undefined_score_misses_its_bound() -> None:
    scores = Agreement(mape=float("nan"), largest=0.0, bias=0.0, pearson=0.0, spearman=float("nan"), kendall=0.0)
    assert len(scores.missed(AgreementBounds(mape=0.02, spearman=0.9))) == 2
