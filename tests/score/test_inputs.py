"What cannot be scored is refused by name, in every unit and at infinity: never a number that only looks like one"
import json, numpy as np, pandas as pd, pytest, torch
from sklearn import metrics as skm
from fundus_fastai.core import DataError, EyeError
from fundus_fastai.score.calibration import (brier, calibrated, calibration_slope, ece, ece_by_chance, log_loss, predictive_values,
    reliability_table, temperature)
from fundus_fastai.score.compare import delong, mcnemar, read_panel
from fundus_fastai.score.estimate import bootstrap, class_estimates, confusion_estimates, patient_bootstrap, wilson, wilson_estimate
from fundus_fastai.score.metrics import (accuracy, auc, average_precision, balanced_accuracy, best_threshold, bias, class_metrics, cohen_kappa,
    confusion, f1, grade_kappa, mean_abs_error, mean_auc, patient_weights, quadratic_kappa, r_squared, threshold_metrics)
from fundus_fastai.score.kinds import choose_cuts, choose_thresholds, error_by_band, kind_of
from fundus_fastai.score.patients import combine_eyes, score_as
from fundus_fastai.score.plots import (plot_agreement, plot_benefit, plot_confusion, plot_history, plot_numbers, plot_pr, plot_referral, plot_reliability,
    plot_roc, plot_subgroups)
from fundus_fastai.score.scores import pick, score
from fundus_fastai.score.subgroups import subgroup_scores
from made import class_table, labels_table, numbers_table

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
    assert names[0] in s.note and 'means of AUC, average precision and F1 are over the others' in s.note
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

# one sentence in place of a traceback
cls = class_table(20, 2)
NA = pd.array([True,None], dtype='boolean')

@pytest.mark.parametrize('f,why', [
    (lambda: auc(['a','b'], ['x','y']), 'numbers are wanted'), (lambda: auc(NA, [.1,.2]), '1 of 2 truths are missing'),
    (lambda: mean_abs_error(['a'], [1]), 'numbers are wanted'), (lambda: r_squared(1, 2), 'one length'),
    (lambda: confusion(NA, NA, 2), '1 of 2 classes'), (lambda: ece(1, .5), 'one each'), (lambda: ece(NA, [.1,.2]), 'truths are missing'),
    (lambda: ece(['0','1'], ['x','y']), 'numbers are wanted'), (lambda: reliability_table([[0,1]], [[.1,.2]]), 'one event'),
    (lambda: class_metrics([], np.c_[['x'],['y']]), 'numbers are wanted'), (lambda: class_metrics(1, two), 'truth is to be'),
    (lambda: best_threshold([0,1], [0,1], None), 'a goal is'), (lambda: best_threshold([0,1], [0,1], ('sensitivity','x')), 'a goal is'),
    (lambda: quadratic_kappa([1,2]), 'counts are to be'), (lambda: quadratic_kappa(np.ones((2,3))), r'shape \(2, 3\)'),
    (lambda: choose_cuts([], []), 'no images'), (lambda: choose_cuts([-1,1], [0,1]), 'from 0 to 1'), (lambda: choose_cuts([0,1], [0]), 'one length'),
    (lambda: list(patient_weights([])), 'patients'), (lambda: list(patient_weights([1,2], seed=-1)), '`seed` is to be at least 0'),
    (lambda: bootstrap(auc, [0,1], [0,1], patient=[1,2], n_boot=2.5), '`n_boot` is to be a whole number'),
    (lambda: patient_bootstrap(auc, [0,1], [0,1], patient=[1,2], seed='a'), '`seed` is to be a whole number'),
    (lambda: patient_bootstrap(auc, [0,1], [0,1], patient=[1,2], n_boot=5, level='a'), 'a share'), (lambda: bootstrap(auc, 1, .5, patient=1), 'no images'),
    (lambda: combine_eyes(cls[:0]), 'no rows'), (lambda: combine_eyes(cls.drop(columns='patient')), 'no column patient'), (lambda: combine_eyes(None), 'NoneType'),
    (lambda: combine_eyes(numbers_table().assign(pred='x')), 'pred is not a number'), (lambda: score('preds.csv'), 'a str'), (lambda: score_as('category', None), 'NoneType'),
    (lambda: score(numbers_table().rename(columns=dict(pred='pred_age'))), 'probability column'), (lambda: kind_of(None), 'NoneType'),
    (lambda: pick([1,2]), 'a list'), (lambda: pick(cls, 'confident', per='camera'), 'no column camera'), (lambda: pick(cls, 'random', seed=-1), 'seed'),
    (lambda: pick(numbers_table().assign(pred='x'), 'random'), 'pred is not a number'),
    (lambda: choose_thresholds(labels_table().drop(columns=[o for o in labels_table() if o.startswith('p_')])), 'a label needs'), (lambda: error_by_band(numbers_table()[:0]), 'no rows'),
    (lambda: error_by_band(numbers_table().assign(target=np.nan)), 'target is not a number'),
    (lambda: read_panel([cls,cls]), 'nets are runs'), (lambda: read_panel(None), 'nets are runs'), (lambda: read_panel(dict(a=cls, b=5)), 'a int'),
    (lambda: subgroup_scores(cls), 'scores are wanted'), (lambda: subgroup_scores(score(cls, n_boot=2), 'sex'), 'groups are a dict'),
    *[(lambda f=f: f(cls), 'scores are wanted') for f in (plot_roc, plot_pr, plot_confusion, plot_numbers, plot_agreement, plot_referral)],
    (lambda: plot_confusion(score(labels_table(), n_boot=2)), 'no confusion matrix'), (lambda: plot_referral(score(cls, n_boot=2)), 'referral'),
    (lambda: plot_reliability([]), 'a dict of tables'), (lambda: plot_benefit([]), 'a dict of tables'), (lambda: plot_history(cls, 'lost'), 'lost'), (lambda: plot_history([]), 'a list'),
    (lambda: plot_subgroups(pd.DataFrame(), 'auc'), 'no column metric')])
def test_a_sentence_for_odd_input(f, why):
    with pytest.raises(EyeError, match=why): f()

def test_nothing_has_no_average_precision():
    assert np.isnan(average_precision([], [])) and np.isnan(auc([], []))

@pytest.mark.parametrize('make', [lambda d: d.set_axis([0]*len(d)), lambda d: d.convert_dtypes(), lambda d: d.astype(object), lambda d: d.astype(str),
                                  lambda d: d.assign(patient=d.patient.astype('category'))])
@pytest.mark.parametrize('table', [cls, numbers_table(40), labels_table(40)])
def test_other_types_give_the_same(table, make):
    "A repeated index, nullable and categorical columns, numbers as text"
    a,b = (json.dumps(score(o, n_boot=20).to_json()) for o in (table,make(table)))
    def told(o): return json.loads(o, parse_float=lambda v: round(float(v), 12)) # sums of another order
    assert told(a)==told(b)
    pd.testing.assert_frame_equal(combine_eyes(table), combine_eyes(make(table)), check_dtype=False)
    assert pick(table, 'confident').path.tolist()==pick(make(table), 'confident').path.tolist()

# --- own arrays: lists, tables with an odd index, tensors, classes as floats

SHAPES = dict(list=lambda a: a.tolist(), object=lambda a: a.astype(object), float=lambda a: a.astype(float),
    pandas=lambda a: (pd.Series if a.ndim==1 else pd.DataFrame)(a, index=np.arange(len(a))[::-1]+7), tensor=torch.tensor,
    graph=lambda a: torch.tensor(a, dtype=torch.float64, requires_grad=True))

def own_arrays():
    rng = np.random.default_rng(0)
    y,p = rng.integers(0, 3, 60),rng.dirichlet(np.ones(3), 60)
    return dict(y=y, p=p, e=rng.integers(0, 2, 60), s=p[:,0], g=p.argmax(1))

who = np.arange(60)//2
drawn = dict(patient=who, n_boot=20)
OWN = dict(accuracy=(accuracy,'yp'), balanced=(balanced_accuracy,'yp'), mean_auc=(mean_auc,'yp'), metrics=(class_metrics,'yp'), kappa=(grade_kappa,'yg'),
    brier=(brier,'yp'), log_loss=(log_loss,'yp'), temperature=(temperature,'yp'), ece=(ece,'yp'), calibrated=(lambda p: calibrated(p, 2.),'p'),
    chance=(ece_by_chance,'p'), auc=(auc,'es'), ap=(average_precision,'es'), slope=(calibration_slope,'es'), counts=(lambda y, g: confusion(y, g, 3),'yg'),
    mcnemar=(lambda y, g: mcnemar(y, g, np.zeros(60))[:4],'yg'), boot=(lambda y, p: patient_bootstrap(accuracy, y, p, **drawn)[:3],'yp'),
    cells=(lambda y, p: confusion_estimates(y, p, 'abc', **drawn).to_numpy()[:,2:6].astype(float),'yp'),
    few=(lambda y, p: [o[:3] for o in class_estimates(y, p, 'abc', patient=who//20, n_boot=20).values()],'yp'))

def flat(res): return np.concatenate([np.ravel(np.asarray(o, float)) for o in (res.values() if isinstance(res, dict) else [res])])

@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('name', OWN)
def test_own_arrays_of_any_make(name, shape):
    f,keys = OWN[name]
    plain = own_arrays()
    own = {k:SHAPES[shape](v) for k,v in plain.items()}
    np.testing.assert_allclose(flat(f(*[own[k] for k in keys])), flat(f(*[plain[k] for k in keys])), atol=1e-9)

@pytest.mark.parametrize('f', [accuracy, balanced_accuracy, mean_auc])
def test_an_unknown_probability_wins_no_class(f):
    with pytest.raises(DataError, match='1 of 3 images have a probability'): f([0,1,2], np.where(np.eye(3)*[1,0,0], np.nan, .5))

def test_few_bits(): assert auc([0,1], torch.tensor([.25,.75]).bfloat16())==1
