"Labels, numbers, grades: against scikit-learn, against leaks from the test side, against bad tables"
import numpy as np, pandas as pd, pytest
from sklearn import metrics as skm
from fundus_fastai.core import DataError
from fundus_fastai.score.estimate import TOO_FEW
from fundus_fastai.score.metrics import balanced_accuracy, grade_kappa, mean_abs_error
from fundus_fastai.score.patients import score_as
from fundus_fastai.score.kinds import (choose_cuts, choose_thresholds, cut_points, error_by_band, fill_cuts, get_kind)
from fundus_fastai.score.scores import score
from made import LABELS, labels_table, numbers_table, points_table

fast = dict(n_boot=20)

@pytest.mark.parametrize('seed', range(4))
def test_labels_like_sklearn(seed):
    df = labels_table(seed=seed)
    t = choose_thresholds(labels_table(seed=seed+10))
    m = {k:v.value for k,v in score(df, None, dict(thresholds=t), **fast).metrics.items()}
    y,p = (df[[f'{o}_{k}' for k in LABELS]].to_numpy() for o in ('target','p'))
    hit = p>np.array([t[k] for k in LABELS])
    assert np.isclose(m['auc'], skm.roc_auc_score(y, p, average='macro'))
    assert np.isclose(m['average_precision'], skm.average_precision_score(y, p, average='macro'))
    assert np.isclose(m['f1'], skm.f1_score(y, hit, average='macro', zero_division=0))
    for i,k in enumerate(LABELS):
        assert np.isclose(m[f'auc_{k}'], skm.roc_auc_score(y[:,i], p[:,i]))
        assert np.isclose(m[f'f1_{k}'], skm.f1_score(y[:,i], hit[:,i], zero_division=0))
        assert np.isclose(m[f'sensitivity_{k}'], skm.recall_score(y[:,i], hit[:,i]))
        assert np.isclose(m[f'specificity_{k}'], skm.recall_score(y[:,i], hit[:,i], pos_label=0))

def test_thresholds_are_the_best_there_are():
    "No threshold at all has a higher F1 on the images they were chosen on"
    df = labels_table(seed=3)
    for k,t in choose_thresholds(df).items():
        y,p = df[f'target_{k}'],df[f'p_{k}']
        best = max(skm.f1_score(y, p>o, zero_division=0) for o in [-1, *p])
        assert skm.f1_score(y, p>t)>=best-1e-9, k

@pytest.mark.parametrize('kind,table', [('multilabel',labels_table), ('ordered',points_table), ('number',numbers_table)])
def test_test_rows_choose_nothing(kind, table):
    "What scoring needs is taken from validation: other test rows leave it as it was"
    valid = table(seed=1)
    op = get_kind(kind).choose(valid)
    a,b = (score_as(kind, table(seed=k), op, valid=valid, **fast) for k in (2,3))
    for k in op: assert np.all(np.asarray(pd.Series(a.operating[k]))==np.asarray(pd.Series(op[k])))
    assert a.operating==b.operating and a.metrics!=b.metrics

@pytest.mark.parametrize('seed', range(4))
def test_numbers_like_sklearn(seed):
    df = numbers_table(seed=seed)
    m = {k:v.value for k,v in score(df, None, dict(guess=50.), **fast).metrics.items()}
    assert np.isclose(m['mae'], skm.mean_absolute_error(df.target, df.pred))
    assert np.isclose(m['r2'], skm.r2_score(df.target, df.pred))
    assert np.isclose(m['mae_guess'], (df.target-50).abs().mean())
    assert np.isclose(m['mae_gain'], m['mae_guess']-m['mae'])

def test_bands_hold_every_image_once():
    df = numbers_table()
    t = error_by_band(df)
    assert t['images'].sum()==len(df)

@pytest.mark.parametrize('seed', range(4))
def test_grades_like_sklearn(seed):
    df = points_table(seed=seed)
    cuts = choose_cuts(*points_table(seed=seed+10)[['target','pred']].to_numpy().T)
    s = score(df, 'ordered', dict(cuts=cuts, threshold=1.), **fast)
    m,g = {k:v.value for k,v in s.metrics.items()},cut_points(df.pred, cuts)
    assert np.isclose(m['qwk'], skm.cohen_kappa_score(df.target, g, weights='quadratic'))
    assert np.isclose(m['accuracy'], (g==df.target).mean())
    assert np.isclose(m['referable_auc'], skm.roc_auc_score(df.target>=2, df.pred))
    assert np.isclose(m['referable_sensitivity'], skm.recall_score(df.target>=2, df.pred>1.))
    assert np.isclose(m['referable_specificity'], skm.recall_score(df.target>=2, df.pred>1., pos_label=0))

def test_chosen_cuts_beat_halfway_ones():
    "A net that says too little is set right by its cuts, on patients who did not choose them"
    valid,test = points_table(seed=1),points_table(seed=2)
    kappa = lambda c: skm.cohen_kappa_score(test.target, cut_points(test.pred, c), weights='quadratic')
    assert kappa(choose_cuts(valid.target, valid.pred))>kappa(np.arange(4)+.5)+.1

def test_grades_that_validation_lacks():
    "A test eye of a grade that validation never showed is scored, not refused"
    valid,test = points_table(seed=1).query('target<3'),points_table(seed=2)
    op = get_kind('ordered').choose(valid.reset_index(drop=True))
    s = score_as('ordered', test, op, **fast)
    assert len(op['cuts'])==2 and s.operating['cuts']==fill_cuts(op['cuts'], 4) and s.metrics['qwk'].value>0

broken = {'probability above one':(labels_table, lambda d: d.assign(p_haze=1.2)), 'a NaN':(labels_table, lambda d: d.assign(p_haze=np.nan)),
          'target of two':(labels_table, lambda d: d.assign(target_haze=2)), 'no patient':(numbers_table, lambda d: d.drop(columns='patient')),
          'infinite':(numbers_table, lambda d: d.assign(pred=np.inf)), 'half a grade':(points_table, lambda d: d.assign(target=d.target+.5)),
          'no rows':(labels_table, lambda d: d[:0])}

@pytest.mark.parametrize('name', broken)
def test_bad_tables_are_refused(name):
    table,spoil = broken[name]
    kind = {labels_table:'multilabel', numbers_table:'number', points_table:'ordered'}[table]
    with pytest.raises(DataError): score_as(kind, spoil(table()), **fast)

def test_label_without_a_case():
    "A label that no test image has is undefined, said to be so, and does not spoil the rest"
    df = labels_table().assign(target_cupping=0)
    m = score(df, **fast).metrics
    assert np.isnan(m['auc_cupping'].value) and m['auc_haze'].value>.5

def test_a_mean_over_labels_is_always_over_the_same():
    "A resample without the patients who have a label is left out, and told: it has no mean over all; of one patient there is none"
    df = labels_table()
    df['target_cupping'] = df.patient.astype(int).lt(6).astype(int)
    m = score(df).metrics
    lost = int(m['auc_cupping'].method.split(', ')[2].split()[0])
    assert lost and all(m[k].method==f'patient bootstrap, BCa, {lost} of 1000 resamples left out' for k in ('auc','average_precision'))
    m = score(df.assign(target_cupping=(df.patient=='0').astype(int)), **fast).metrics
    assert m['auc'].method==TOO_FEW and m['auc_cupping'].method.startswith('Newcombe (1 v ')

def test_the_f1_of_a_label_hangs_on_those_who_have_it():
    "Where resampling gives no interval, Wilson's is of the patients with the label, not of all: one patient tells next to nothing"
    df = labels_table()
    one = (df.patient=='0').astype(int)
    m = score(df.assign(target_haze=one, p_haze=.9*one, target_cupping=0), **fast).metrics
    assert m['f1_haze'].value==1 and m['f1_haze'].method=='Wilson (1 patient)' and m['f1_haze'].low==pytest.approx(.2065, abs=1e-4)
    assert m['f1_cupping'].value==0 and m['f1_cupping'].method=='no interval: no patients'

@pytest.mark.parametrize('names', [('ill','normal'), ('normal','sick'), ('2','10')])
def test_of_equals_one_class_is_said_everywhere(names):
    "Of two classes alike the table of metrics had counted one, and answers and the images read wrong had told the other"
    df = pd.DataFrame(dict(path=list('abcdef'), patient=list('abcdef'), target=[*names]*3, **{f'p_{c}':.5 for c in names}))
    kind = get_kind('category')
    op = kind.choose(df)
    s = score_as(kind, df, op, **fast)
    said = kind.decode(df, op)
    assert said.nunique()==1 and s.metrics[f'sensitivity_{op["positive"]}'].value==(said[0]==op['positive'])
    assert kind.reads(s.preds, op).guess.tolist()==said.tolist() and set(kind.worst(s.preds).target)=={*names}-{said[0]}

def test_ten_grades_are_in_their_order():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 12, 300)
    g = np.clip(y+rng.integers(-1, 2, 300), 0, 11)
    df = pd.DataFrame(dict(path=[f'{i}' for i in range(300)], patient=[f'{i//2}' for i in range(300)], target=[str(i+1) for i in y]))
    df = df.join(pd.DataFrame(np.where(np.arange(12)==g[:,None], .89, .01), columns=[f'p_{i+1}' for i in range(12)]))
    s = score(df[sorted(df)], 'grades', **fast)
    assert s.classes==[str(i+1) for i in range(12)] and np.isclose(s.metrics['qwk'].value, skm.cohen_kappa_score(y, g, weights='quadratic'))
    worse = get_kind('grades').truth(s.preds).target.astype(int)
    assert worse.equals(df.target.astype(int).groupby(df.patient).max())

def test_nets_are_compared_at_their_own_cuts():
    "What a comparison of nets measures of grades: kappa of the grades, mean error of the points, accuracy of the likeliest"
    d = points_table()
    cuts = [.2,.7,1.2,1.7]
    y,grade = d.target.to_numpy(),(d.pred.to_numpy()[:,None]>cuts).sum(1)
    want = skm.cohen_kappa_score(y, grade, weights='quadratic')
    assert grade_kappa(*get_kind('ordered').compare(d, 'qwk', dict(cuts=cuts)))==pytest.approx(want)
    assert mean_abs_error(*get_kind('ordered').compare(d, 'mae', dict(cuts=cuts)))==pytest.approx(skm.mean_absolute_error(y, d.pred))
    p = np.eye(5)[grade]*.6+.08
    t = d.drop(columns='pred').assign(target=y.astype(str), **{f'p_{i}':p[:,i] for i in range(5)})
    assert grade_kappa(*get_kind('grades').compare(t, 'qwk'))==pytest.approx(want)
    assert balanced_accuracy(*get_kind('grades').compare(t, 'balanced_accuracy'))==pytest.approx(skm.balanced_accuracy_score(y, grade))

def test_the_worst_read_of_labels():
    "The image whose worst label got least for what is true, first, and that label is told"
    df = labels_table(n=60)
    t = get_kind('multilabel').worst(df, 60)
    given = {r.path: {c: r[f'p_{c}'] if r[f'target_{c}'] else 1-r[f'p_{c}'] for c in LABELS} for _,r in df.iterrows()}
    assert t.path.tolist()==sorted(given, key=lambda k: min(given[k].values()))
    for r in t.itertuples():
        row = df[df.path==r.path].iloc[0]
        assert r.label==min(given[r.path], key=given[r.path].get) and r.p==row[f'p_{r.label}'] and r.there==(row[f'target_{r.label}']==1)

def test_a_label_with_one_side_is_told_and_no_other(capsys):
    df = labels_table()
    t = choose_thresholds(df.assign(target_haze=0, target_cupping=1))
    assert t['haze']==t['cupping']==.5 and 'one side only of haze, cupping:' in capsys.readouterr().err
    choose_thresholds(df)
    assert 'one side' not in capsys.readouterr().err

def test_a_scale_without_the_second_grade_has_no_referral():
    t = pd.DataFrame(dict(path=list('abcd'), patient=list('abcd'), target=['0','NPDR','PDR','0'], p_0=.5, p_NPDR=.3, p_PDR=.2))
    assert get_kind('grades').choose(t)=={}==get_kind('grades').settle(t, None)
    t = t.rename(columns=dict(p_NPDR='p_1', p_PDR='p_2')).assign(target=['0','1','2','0'])
    assert [*get_kind('grades').choose(t)]==['threshold']
