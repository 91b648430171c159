"Intervals against simulation: draws of patients, perfect nets, and what is undefined"
import re
import numpy as np, pandas as pd, pytest
from sklearn import metrics as skm
from scipy import stats
from fundus_fastai.score.metrics import (auc, average_precision, best_threshold, class_metrics, cohen_kappa, confusion, f1, matthews,
    mean_abs_error, mean_auc, patient_weights, r_squared, threshold_metrics)
from fundus_fastai.score.estimate import (TOO_FEW, acceleration, bootstrap, class_estimates, confusion_estimates, estimate, event_estimate, left_out,
    newcombe, patient_bootstrap, readable, threshold_estimates, welch, wilson)
from made import CLASSES, micro, simulate

pytestmark = [pytest.mark.filterwarnings('error'), # no warning may be spilled, but for a pipe that another test's process left open
              pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')]

def test_resamples_are_the_same_in_any_blocks_and_any_order():
    y,p,who = simulate(20, 4)
    a = np.concatenate(list(patient_weights(who, 50)))
    assert (a==np.concatenate(list(patient_weights(who, 50, block=200)))).all()
    i = np.random.default_rng(0).permutation(len(y))
    one,two = class_estimates(y,p,CLASSES, patient=who),class_estimates(y[i],p[i],CLASSES, patient=who[i])
    for k in one:
        np.testing.assert_allclose(one[k][:3], two[k][:3], atol=1e-12)
        assert one[k].method==two[k].method
    assert class_estimates(y,p,CLASSES, patient=who,seed=1)!=one

def test_wilson_like_statsmodels():
    for k,n in [(0,12),(12,12),(3,10),(50,51),(1,1)]:
        np.testing.assert_allclose(wilson(k/n, n), stats.binomtest(k, n).proportion_ci(method="wilson"), atol=1e-9)

def test_newcombe_holds_the_truth():
    "Two normals 2 apart, 12 v 12 patients: AUC .921, often perfect in the sample"
    rng,truth = np.random.default_rng(0), .9214
    held = []
    for _ in range(400):
        a = float(auc(np.arange(24)<12, rng.normal(size=24)+2*(np.arange(24)<12)))
        low,high = newcombe(a, 12, 12); held.append(low<=truth<=high)
        assert 0<=low<=a<=high<=1
    assert .92<np.mean(held)<=1

def test_patient_interval_covers_where_image_interval_does_not():
    truth = class_metrics(*simulate(20_000, seed=10**6)[:2])
    held = dict(patients=0, images=0)
    for i in range(100):
        y,p,who = simulate(seed=i)
        acc = lambda y,p,w: (p.argmax(1)==y).mean() if w is None else w@(p.argmax(1)==y)/w.sum(-1)
        for k,unit in [('patients',who), ('images',np.arange(len(y)))]:
            e = patient_bootstrap(acc, y, p, patient=unit, n_boot=300)
            held[k] += e.low<=truth['accuracy']<=e.high
    assert held['patients']>=87 and held['images']<=86 and held['patients']>held['images']+8, held

def test_a_perfect_net_is_not_certain():
    y,_,who = simulate(48, 2)
    e = class_estimates(y, np.eye(4)[y], CLASSES, patient=who)
    assert e['sensitivity_CNV'].method=='Wilson (12 patients)' and e['sensitivity_CNV'].low==pytest.approx(.7575, abs=1e-3)
    assert e['specificity_CNV'].method=='Wilson (36 patients)' and e['accuracy'].method=='Wilson (48 patients)'
    assert 'Newcombe' in e['auc'].method and .8<e['auc'].low<.95
    assert all(o.value==1 and o.low<1 and o.high==1 for o in e.values())
    two = class_estimates(y[y<2], np.eye(2)[y[y<2]], ['a','b'], patient=who[y<2])
    assert two['auc'].method=='Newcombe (12 v 12 patients)' and two['auc'][1:3]==newcombe(1,12,12)

def test_constant_scores_are_chance():
    y,p,who = simulate(16, 2, k=2)
    e = class_estimates(y, np.full_like(p, .5), ['a','b'], patient=who)
    assert e['auc'].value==.5 and e['auc'].low<.4 and e['auc'].high>.6

def test_one_patient_one_class():
    y,p,who = simulate()
    e = class_estimates(y[:5], p[:5], CLASSES, patient=who[:5])
    assert e['accuracy'].method=='no interval: one patient' and np.isnan(e['accuracy'].low)
    assert e['auc'].method=='undefined: one class only' and np.isnan(e['auc'].value)
    m = y==0
    e = class_estimates(y[m], p[m], CLASSES, patient=who[m])
    assert e['auc'].method=='undefined: one class only' and e['sensitivity_CNV'].method=='patient bootstrap, BCa'
    assert e['specificity_DME'].method=='patient bootstrap, BCa' and np.isnan(e['specificity_CNV'].value)

def test_lost_resamples_are_counted():
    y,p,who = simulate(24, 3)
    how = class_estimates(y, p, CLASSES, patient=who)['auc'].method
    lost = int(re.search(r'(\d+) of 1000', how)[1])
    assert lost==np.isnan(bootstrap(class_metrics, y, p, patient=who)['auc']).sum()>0

def test_few_of_a_class_have_an_interval_by_formula():
    "One to three ill people among forty: their own resamples would hold the truth in a third to eight tenths of studies"
    truth,held = .7602,0 # of two normals 1 apart
    for i in range(60):
        rng,m = np.random.default_rng(i),1+i%3
        y = np.arange(m+40)<m
        e = event_estimate(auc, y, rng.normal(size=m+40)+y, patient=np.arange(m+40), n_boot=300)
        assert e.method==f'Newcombe ({m} v 40 patients)' and e[1:3]==newcombe(e.value, m, 40)
        held += e.low<=truth<=e.high
    assert held>=54
    y,p,who = simulate(44, 2, k=2)
    y = (who<2)*1
    e = class_estimates(y, p, ['a','b'], patient=who)
    assert {e[k].method for k in ('average_precision','sensitivity_b')}=={'Wilson (2 patients)'} and e['mcc'].method==TOO_FEW
    assert e['accuracy'].method=='patient bootstrap, BCa'

def test_a_perfect_average_precision_hangs_on_the_rarest_class():
    who = np.arange(60)
    y = np.repeat([0,1,2], [8,22,30])
    assert class_estimates(y, np.eye(3)[y], 'abc', patient=who, n_boot=50)['average_precision'].method=='Wilson (8 patients)'
    for m in (8,52): # whichever side is rare
        y = (who<m)*1
        assert class_estimates(y, np.eye(2)[y], 'ab', patient=who, n_boot=50)['average_precision'].method=='Wilson (8 patients)'

def test_confusion_cells_and_class_aucs():
    y,p,who = simulate()
    t = confusion_estimates(y, p, CLASSES, patient=who)
    assert t.method.str.startswith('patient bootstrap').any()
    e = class_estimates(y, p, CLASSES, patient=who)
    for r in t[t.target==t.predicted].itertuples(): # of the same draws, the sensitivity of the class
        np.testing.assert_allclose([r.value,r.low,r.high], e[f'sensitivity_{r.target}'][:3])
    assert (t.images.to_numpy().reshape(4,4)==skm.confusion_matrix(y, p.argmax(1))).all()
    assert ((t.low<=t.value)&(t.value<=t.high)).all()
    assert (confusion(y, p.argmax(1), 4)==skm.confusion_matrix(y, p.argmax(1))).all()
    a = {c: event_estimate(auc, y==i, p[:,i], patient=who, name=c) for i,c in enumerate(CLASSES)}
    assert np.mean([e.value for e in a.values()])==pytest.approx(skm.roc_auc_score(y, p, multi_class='ovr'))

def uneven(seed, n=400, patients=90):
    "Classes, probabilities and patients with one to many images"
    rng = np.random.default_rng(seed)
    who = np.r_[np.arange(patients), rng.integers(patients, size=n-patients)]
    y,p = rng.integers(0, 3, n),rng.random((n,3))**2
    return y, p/p.sum(1, keepdims=True), who

@pytest.mark.parametrize('digits', [1,None])
@pytest.mark.parametrize('seed', range(3))
def test_draws_give_what_the_table_of_weights_gives(seed, digits):
    "All metrics on draws of patients, as `bootstrap` makes them, and on plain weights: the same numbers"
    y,p,who = uneven(seed)
    if digits: p = p.round(digits)
    w = np.concatenate(list(patient_weights(who, 60, seed)))
    t,s,hit = y==1,p[:,1],p[:,1]>.3
    odd = lambda y,p,w: 1. if w is None else (w[:,::2].sum(1)*2 - w.max(-1) + np.exp(-w/9).mean(axis=1))/len(w.T) # no short way
    for f,a,b in [(auc,t,s), (average_precision,t,s), (auc,t&False,s), (auc,t|True,s), (average_precision,t&False,s), (f1,t,hit),
                  (mean_abs_error,y,s), (r_squared,y,s), (lambda a,b,w: matthews(confusion(a, b.argmax(1), 3, w=w)),y,p),
                  (lambda a,b,w: micro(auc, a, b, w),np.eye(3)[y],p), (lambda a,b,w: cohen_kappa(confusion(a, b.argmax(1), 3, w=w)),y,p),
                  (lambda a,b,w: micro(average_precision, a, b, w),np.eye(3)[y],p), (odd,y,p)]:
        np.testing.assert_allclose(bootstrap(f, a, b, patient=who, n_boot=60, seed=seed), f(a, b, w), atol=1e-12)
        np.testing.assert_allclose(bootstrap(f, a, b, patient=who, n_boot=60, seed=seed, block=900), f(a, b, w), atol=1e-12)
    for k,v in class_metrics(y, p, w).items():
        np.testing.assert_allclose(bootstrap(class_metrics, y, p, patient=who, n_boot=60, seed=seed)[k], v, atol=1e-12)

def test_the_same_resamples_as_ever():
    "A seed means the same patients in every version: the first that were drawn for seed 0"
    w = next(patient_weights(np.arange(8), 3))
    assert w.dtype==float and w.tolist()==[np.bincount(o, minlength=8).tolist() for o in np.random.default_rng(0).integers(8, size=(3,8))]

def test_weights_can_be_used_as_an_array():
    y,p,who = uneven(0)
    got = {}
    def metric(y, p, w):
        if w is None: return 0.
        got['w'],got['plain'] = w,np.asarray(w)
        return np.average(np.broadcast_to(y, w.shape), axis=1, weights=w)
    v = bootstrap(metric, y, p, patient=who, n_boot=20)
    w,plain = got['w'],got['plain']
    np.testing.assert_allclose(v, (plain@y)/plain.sum(1))
    for a,b in [(w.sum(-1),plain.sum(-1)), (w.sum(),plain.sum()), (w.sum(0),plain.sum(0)), (w.sum(-1, keepdims=True),plain.sum(-1, keepdims=True)),
                (w[2,3:7],plain[2,3:7]), (w*2.,plain*2), (1-w,1-plain), (w>1,plain>1), (w.T,plain.T), (w@np.eye(400)[:,:3],plain[:,:3]),
                (np.sum(w, axis=1),plain.sum(1)), (w.mean(1),plain.mean(1)), (w/w.sum(-1)[:,None],plain/plain.sum(1)[:,None]), (len(w),20)]:
        np.testing.assert_allclose(a, b, atol=1e-12)

def test_auc_of_many_images_does_not_overflow():
    n = 300_000 # pairs beyond 32 bits
    rng = np.random.default_rng(0)
    y = rng.random(n)<.5; s = rng.normal(size=n)+y
    who = np.arange(n)//10
    w = next(patient_weights(who, 2))
    np.testing.assert_allclose(bootstrap(auc, y, s, patient=who, n_boot=2), [skm.roc_auc_score(y, s, sample_weight=o) for o in w], atol=1e-12)

def test_mcc_and_f1_at_the_ends():
    y,_,who = simulate(48, 2)
    e = class_estimates(y, np.eye(4)[y], CLASSES, patient=who)
    assert e['mcc'].method=='Wilson (12 patients)' and e['mcc'][1:3]==wilson(1, 12) and e['f1'].method=='Wilson (48 patients)'
    same = class_estimates(y, np.eye(4)[y*0], CLASSES, patient=who) # the net always says CNV
    assert same['mcc'].value==0 and same['mcc'].method.startswith('no interval')
    two = y[y<2]
    worst = class_estimates(two, np.eye(2)[1-two], ['a','b'], patient=who[y<2])
    assert worst['mcc'].value==-1 and np.isnan(worst['mcc'].low)
    assert class_estimates(y[:2], np.eye(4)[y[:2]], CLASSES, patient=who[:2])['mcc'].method=='undefined: one class only'
    lost = class_estimates(y[y!=2], np.eye(4)[y[y!=2]], CLASSES, patient=who[y!=2])
    assert lost['f1'].method=='undefined: no image of DRUSEN' and lost['mcc'].value==1

def test_a_table_shows_nothing_where_nothing_is():
    for kind,want in (('Int64','1'), ('Float64','1'), ('string','1'), (float,'1'), (object,'1')):
        v = pd.Series(['1',None] if kind=='string' else [1,None], dtype=kind)
        assert readable(v.to_frame())[0].tolist()==readable(v).tolist()==[want,''], kind

def test_a_threshold_from_validation():
    (vy,vp,_),(y,p,who) = simulate(seed=1, k=2),simulate(seed=2, k=2)
    t = best_threshold(vy==1, vp[:,1], ('sensitivity', .9))
    assert skm.recall_score(vy, vp[:,1]>t)>=.9
    e = threshold_estimates(y==1, p[:,1], t, patient=who, n_boot=300)
    hit = p[:,1]>t
    want = dict(sensitivity=skm.recall_score(y, hit), specificity=skm.recall_score(y, hit, pos_label=0), accuracy=skm.accuracy_score(y, hit),
                balanced_accuracy=skm.balanced_accuracy_score(y, hit), mcc=skm.matthews_corrcoef(y, hit), f1=skm.f1_score(y, hit))
    for k,v in want.items(): assert e[k].value==pytest.approx(v) and e[k].low<v<e[k].high, k
    assert threshold_metrics(y==1, p[:,1], threshold=.5)['accuracy']==class_metrics(y, p)['accuracy']
    all_hit = threshold_estimates(y==1, p[:,1], -1., patient=who, n_boot=50)
    assert (all_hit['sensitivity'].value,all_hit['specificity'].value,all_hit['mcc'].value)==(1,0,0)
    assert all_hit['specificity'].method=='Wilson (30 patients)' and all_hit['specificity'].low==0<all_hit['specificity'].high
    ill = y==1
    assert threshold_estimates(ill[ill], p[ill,1], t, patient=who[ill], n_boot=50)['specificity'].method=='undefined: one class only'

def test_fast():
    from time import perf_counter
    y,p,who = simulate(200, 5)
    t = perf_counter(); class_estimates(y, p, CLASSES, patient=who)
    assert perf_counter()-t < 4 # .2 s on an idle core; a busy machine gets room


@pytest.mark.parametrize('people', [1,2,3,4,5])
def test_draws_of_a_handful_are_no_interval(people):
    "Draws of two people gave a mean error an interval that held the truth in 47 of 100 studies, of four in 77"
    y,who = np.zeros(2*people),np.arange(2*people)//2
    e = patient_bootstrap(mean_abs_error, y, np.arange(2.*people), patient=who, n_boot=100)
    assert e.value==people-.5
    if people<5: assert not e.bounded and e.method==f"no interval: {'one patient' if people==1 else f'{people} patients'}"
    else: assert e.low<e.value<e.high

def test_patients_of_a_confusion_matrix_are_counted_once(monkeypatch):
    "They had been counted anew for each cell without an interval"
    from fundus_fastai.score import estimate
    asked,count = [],estimate._patients_by_class
    monkeypatch.setattr(estimate, '_patients_by_class', lambda *args: asked.append(1) or count(*args))
    y,p,who = simulate(30, 3, k=4)
    t = confusion_estimates(y, np.eye(4)[y], range(4), patient=who, n_boot=20)
    assert len(asked)==1 and t.method.str.startswith('Wilson').all()

def test_ends_like_scipy():
    "BCa as scipy computes it, asked for the level that Student's t and n/(n-1) make of .95"
    v,who = np.random.default_rng(3).exponential(size=60),np.arange(60)
    mean = lambda y,p,w: v.mean() if w is None else w@v/w.sum(-1)
    level = 2*stats.norm.cdf(stats.t.ppf(.975, 59)*(60/59)**.5)-1
    want = stats.bootstrap((v,), np.mean, confidence_level=level, n_resamples=20_000, method='BCa', random_state=0).confidence_interval
    e = patient_bootstrap(mean, v, v, patient=who, n_boot=20_000)
    assert e[1:3]==pytest.approx(list(want), abs=.012) and e.method=='patient bootstrap, BCa'
    plain = estimate(v.mean(), bootstrap(mean, v, v, patient=who, n_boot=20_000), level=level, people=10**6)
    assert plain.method=='patient bootstrap' and min(e.low-plain.low, e.high-plain.high)>.015 # skewed to the right

@pytest.mark.parametrize('patients', [5,30,100,101,250])
def test_values_without_each_patient(patients):
    "Of up to a hundred patients each is left out in turn, of more in groups as even as may be; nobody twice"
    y,p,who = simulate(patients, 2)
    left,names = left_out(class_metrics, y, p, patient=who)['auc'],sorted(set(who.astype(str)))
    size = -(-patients//100)
    groups = [names[i::-(-patients//size)] for i in range(-(-patients//size))]
    assert len(left)==len(groups)<=100 and max(map(len, groups))-min(map(len, groups))<=1
    for a,out in zip(left, groups):
        m = ~np.isin(who.astype(str), out)
        assert a==pytest.approx(mean_auc(y[m], p[m]), nan_ok=True)

def test_acceleration_of_groups_is_that_of_patients():
    "Sums of several patients are less skewed, and there are fewer of them: Efron's a stays what it is"
    v = np.random.default_rng(0).exponential(size=4000)
    mean = lambda y,p,w: w@v/w.sum(-1)
    a = [acceleration(left_out(mean, v, v, patient=np.arange(4000), most=m)) for m in (4000,400)]
    assert a[0]==pytest.approx(((v-v.mean())**3).sum()/(6*((v-v.mean())**2).sum()**1.5), rel=1e-6) and a[1]==pytest.approx(a[0], rel=.25)
    assert acceleration(np.full(9, .3))==acceleration(np.full(9, np.nan))==0 and acceleration(np.array([np.nan,.1,.2,.4]))==acceleration(np.array([.1,.2,.4]))

def test_near_the_ceiling_the_interval_holds_the_truth():
    "Fifty patients, an AUC of .983: plain percentiles held it in 82 of 100 studies"
    truth,held,plain = stats.norm.cdf(3/2**.5),0,0
    for i in range(150):
        rng,who = np.random.default_rng(i),np.arange(50)
        y = who<18
        s = rng.normal(size=50)+3*y
        e = event_estimate(auc, y, s, patient=who, n_boot=400)
        low,high = np.quantile(bootstrap(auc, y, s, patient=who, n_boot=400), [.025,.975])
        held,plain = held+(e.low<=truth<=e.high),plain+(low<=truth<=high)
    assert held>=135 and held>plain+5, (held,plain)

def test_an_interval_holds_its_own_value():
    "Average precision of few patients rises in resamples, by scans that come twice"
    for i in range(60):
        rng,who = np.random.default_rng(i),np.arange(14)
        y = who<6
        e = event_estimate(average_precision, y, rng.normal(size=14)+y, patient=who, key='average_precision', n_boot=100)
        assert e.low<=e.value<=e.high

def test_welch_like_scipy():
    "The degrees of freedom of two samples that scatter alike, and one more"
    for m,n in ((6,300),(5,5),(25,26),(40,7)):
        a,b = (np.random.default_rng(0).normal(size=k) for k in (m,n))
        a,b = ((o-o.mean())/o.std(ddof=1) for o in (a,b))
        assert welch(m, n)-1==pytest.approx(stats.ttest_ind(a, b, equal_var=False).df)

def test_an_auc_hangs_on_the_few():
    "Six ill beside 300: with all of them for Student's t the interval of an AUC of .898 held it in 85 of 100 studies"
    truth,y,who = stats.norm.cdf(1.8/2**.5),np.arange(306)<6,np.arange(306)
    es = [event_estimate(auc, y, np.random.default_rng(i).normal(size=306)+1.8*y, patient=who, n_boot=400) for i in range(200)]
    assert all(e.method.startswith('patient bootstrap, BCa') for e in es)
    assert np.mean([e.low<=truth<=e.high for e in es])>=.89

def test_an_auc_is_the_same_in_the_table_and_alone():
    "Of two classes, in `class_estimates`, and as one question"
    y,s,who = np.arange(80)<9,np.random.default_rng(2).normal(size=80)+(np.arange(80)<9),np.arange(80)
    p = np.stack([-s,s], 1)
    assert class_estimates(y.astype(int), p, ['well','ill'], patient=who)['auc']==event_estimate(auc, y, s, patient=who)
