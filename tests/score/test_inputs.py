"What cannot be scored is refused by name, in every unit and at infinity: never a number that only looks like one"
import numpy as np, pandas as pd, pytest
from sklearn import metrics as skm
from fundus_fastai.core import DataError, EyeError
from fundus_fastai.score.calibration import ece, predictive_values
from fundus_fastai.score.compare import delong, mcnemar
from fundus_fastai.score.estimate import bootstrap, class_estimates, patient_bootstrap, wilson, wilson_estimate
from fundus_fastai.score.metrics import (auc, average_precision, best_threshold, bias, class_metrics, cohen_kappa, confusion, f1,
    mean_abs_error, r_squared, threshold_metrics)
from fundus_fastai.score.scores import score
from made import labels_table

two = np.eye(2)
events = [auc, average_precision, best_threshold, threshold_metrics, f1]

@pytest.mark.parametrize('f', events)
@pytest.mark.parametrize('y,s,why', [([-1,1],[0,1],'0 or 1'), ([0,np.nan],[0,1],'0 or 1'), ([0,1,1],[0,1],'one length'),
    (['no','yes'],[0,1],'0 or 1'), ([0,2],[0,1],'0 or 1'), ([0,1],[np.nan,1],'not numbers'), ([[0,1]],[[0,1]],'one length')])
def test_truth_and_scores_of_an_event(f, y, s, why):
    with pytest.raises(DataError, match=why): f(y, s)

@pytest.mark.parametrize('y,p', [([0,2],[0,1]), ([-1,0],[0,1]), ([0,1],[0,2]), ([0,.5],[0,1]), (['a','b'],[0,1]), ([0,np.nan],[0,1])])
def test_classes_out_of_range(y, p):
    with pytest.raises(DataError, match='from 0 to 1'): confusion(y, p, 2)

@pytest.mark.parametrize('f,error,why', [
    (lambda: confusion([0,1,1], [0,1], 2), DataError, '3 true'),
    (lambda: class_metrics([0,1,1], two), DataError, r'\(3,\)'),
    (lambda: class_metrics([0,2], two), DataError, '2 among'),
    (lambda: auc([0,1], [0,1], np.ones(3)), DataError, 'weights'),
    (lambda: best_threshold([0,1], [0,1], ('sensitivity',90)), DataError, 'share'),
    (lambda: best_threshold([0,1], [0,1], ('sensitvity',.9)), DataError, 'sensitivity'),
    (lambda: best_threshold([0,1], [0,1], 'yoden'), EyeError, 'youden'),
    (lambda: best_threshold([0,1], [0,np.inf]), DataError, 'infinite'),
    (lambda: predictive_values(90, 80, .1), DataError, 'sensitivity is a share'),
    (lambda: predictive_values(.9, 80, .1), DataError, 'specificity is a share'),
    (lambda: predictive_values(.9, .8, 10), DataError, 'prevalence is a share'),
    (lambda: ece([0,1], [.1,.9], equal='quantile'), EyeError, 'mass'),
    (lambda: ece([0,1], [.1,.9], bins=0), DataError, 'bins'),
    (lambda: cohen_kappa(two, 'squared'), EyeError, 'quadratic'),
    (lambda: f1([0,1], [.2,.8]), DataError, 'threshold'),
    (lambda: mcnemar(['a','b'], ['a','b'], [0,1]), DataError, 'text here'),
    (lambda: mcnemar([0,np.nan], [0,1], [0,1]), DataError, 'missing'),
    (lambda: delong([0,1,1], [0,1], [0,1]), DataError, 'one length'),
    (lambda: wilson(90, 10), DataError, 'share'),
    (lambda: wilson(.5, 10, 95), DataError, 'level'),
    (lambda: class_estimates([0,1], two, 'ab', patient=[1,2], level=95), DataError, 'level'),
    (lambda: class_estimates([], np.zeros((0,2)), 'ab', patient=[]), DataError, 'no images'),
    (lambda: class_estimates([0,1], two, 'ab', patient=[1,2], n_boot=0), DataError, 'n_boot'),
    (lambda: class_estimates([0,1], two, 'ab', patient=[1,2,3]), DataError, 'patients')])
def test_refused_by_name(f, error, why):
    with pytest.raises(error, match=why): f()

@pytest.mark.parametrize('f', [mean_abs_error, bias, r_squared])
def test_numbers(f):
    with pytest.raises(DataError, match='one length'): f([1,2,3], [1])
    with pytest.raises(DataError, match='finite'): f([1,np.nan], [1,2])
    with pytest.raises(DataError, match='finite'): f([1,2], [1,np.inf])

@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('f,theirs', [(auc,skm.roc_auc_score), (average_precision,skm.average_precision_score)])
def test_infinite_scores_are_ranks_like_others(f, theirs, seed):
    "Ties at infinity are ties, for the value and for every resample"
    rng = np.random.default_rng(seed)
    y,s = rng.integers(0, 2, 80),rng.integers(-2, 3, 80).astype(float)
    far = np.where(s==2, np.inf, np.where(s==-2, -np.inf, s))
    assert f(y, far)==pytest.approx(theirs(y, s))
    a,b = (bootstrap(f, y, o, patient=np.arange(80), n_boot=30) for o in (far,s))
    np.testing.assert_allclose(a, b)
    assert auc([0,1], [np.inf,np.inf])==.5

@pytest.mark.parametrize('unit', [1e-9, 1e-3, 1., 1e6, 1e12])
def test_r_squared_knows_no_unit(unit):
    rng = np.random.default_rng(0)
    y = rng.normal(50, 12, 60); p = y+rng.normal(size=60)
    assert r_squared(y*unit, p*unit)==pytest.approx(skm.r2_score(y, p))
    assert np.isnan(r_squared(np.full(60, .1)*unit, p*unit)) and np.isnan(r_squared(y*unit, p*unit, np.arange(60)==3))

def test_nothing_seen():
    assert np.isnan(wilson(0, 0)).all()
    e = wilson_estimate(np.nan, 0)
    assert not e.bounded and e.method=='no interval: no patients'

@pytest.mark.parametrize('all_or_none', [0,1])
def test_a_label_with_one_side_is_in_no_mean(all_or_none):
    df = labels_table()
    names = [c[7:] for c in df if c.startswith('target_')]
    rest = names[1:]
    s = score(df.assign(**{f'target_{names[0]}':all_or_none}), n_boot=30)
    y,p = (df[[f'{k}_{c}' for c in rest]].to_numpy() for k in ('target','p'))
    assert names[0] in s.note and 'means are over the others' in s.note
    assert s.metrics['auc'].value==pytest.approx(skm.roc_auc_score(y, p, average='macro'))
    assert s.metrics['average_precision'].value==pytest.approx(skm.average_precision_score(y, p, average='macro'))
    assert s.metrics['f1'].value==pytest.approx(skm.f1_score(y, p>.5, average='macro'))
    e = s.metrics[f'average_precision_{names[0]}']
    assert not e.bounded and 'one class only' in e.method
    assert all('(0 patients)' not in o.method for o in s.metrics.values())

def test_labels_that_all_have_one_side():
    df = labels_table()
    s = score(df.assign(**{c:0 for c in df if c.startswith('target_')}), n_boot=30)
    assert all(np.isnan(s.metrics[k].value) for k in ('auc','average_precision','f1'))
