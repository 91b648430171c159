"Two nets on the same eyes: tests against published values, other packages and simulation; panels against bad input"
import warnings
import numpy as np, pandas as pd, pytest
from scipy.stats import binom, norm, t as student
from sklearn import metrics as skm

from fundus_fastai.core import DataError, EyeError
from fundus_fastai.score.compare import (panel_numbers, agreement, agreement_levels, answers, _auc_covariance, best_single, bland_altman, _coin_p,
    consistency, delong, delong_interval, Difference, ensemble, holm, jaccard, mcnemar,
    paired_bootstrap, panel_differences, panel_table, _placements, read_panel, says,
    score_panel)
from fundus_fastai.score.plots import plot_bland_altman, plot_consistency, plot_jaccard, plot_panel
from fundus_fastai.score.metrics import auc, average_precision, class_metrics, mean_abs_error
from fundus_fastai.score.estimate import TOO_FEW, bootstrap
from fundus_fastai.score.patients import combine_eyes, score_as
from fundus_fastai.score.scores import score
from made import binary

pytestmark = [pytest.mark.filterwarnings('error'), pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')]

# Ranks (twice the midrank) of two markers in aSAH, the data set of the R package pROC (Turck et al. 2010): the 41 patients with a poor
# outcome first, then 72 with a good one; worked out from the _placements in pROC's own tests.
WFNS = [147,111,167,205,205,205,205,111,205,111,40,111,205,167,167,111,205,205,205,111,205,111,205,111,167,205,167,167,40,167,167,111,111,
        205,205,111,111,205,205,205,205,40,40,40,40,205,40,111,111,40,111,111,40,40,40,111,40,111,40,40,147,167,40,167,40,205,205,40,40,111,
        167,40,40,111,111,40,111,40,111,111,40,40,40,40,111,40,111,40,40,147,111,167,111,40,167,40,40,205,167,111,111,40,40,40,147,40,111,
        111,167,167,40,40,40]
S100B = [106,80,133,100,183,215,198,32,169,63,32,178,174,195,215,156,215,215,215,32,215,162,2,63,149,215,156,215,48,156,106,80,94,149,215,
         116,215,165,215,215,183,106,116,80,13,189,142,80,80,13,48,13,63,94,32,142,32,94,106,142,13,133,116,172,63,201,189,133,32,180,189,
         94,48,63,48,13,106,80,116,125,13,13,63,13,63,48,133,63,48,169,94,160,32,80,165,32,13,152,176,80,125,48,116,80,32,13,142,125,189,
         142,125,201,195]
POOR = np.arange(113)<41


def study(patients=60, seed=0, skill=(2.,1.5), most=4, own=1., mixed=False):
    "Truth, scores of two nets and patients; patients have 1 to `most` images, and one truth each unless `mixed`"
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, most+1, patients))
    y = rng.random(len(who))<.5 if mixed else (rng.random(patients)<.5)[who]
    hard = rng.normal(size=patients)[who]
    taste = own*rng.normal(size=(2,patients))[:,who] # what one net makes of one patient, in all their images
    return y, [k*y + hard + t + .4*rng.normal(size=len(who)) for k,t in zip(skill, taste)], who


# DeLong
def test_delong_as_pROC_prints_it():
    d = delong(POOR, WFNS, S100B)
    assert d.value/((d.high-d.low)/2/1.959963984540054)==pytest.approx(2.20898359144091, abs=1e-9) # its Z
    assert d.p==pytest.approx(0.0271757822291882, abs=1e-12)
    assert (d.low,d.high)==(pytest.approx(0.0104061769564846, abs=1e-12),pytest.approx(0.174214419249478, abs=1e-12))
    assert delong_interval(POOR, WFNS).value==pytest.approx(0.823678861788618, abs=1e-12)
    assert delong_interval(POOR, S100B).value==pytest.approx(0.731368563685637, abs=1e-12)


def by_pairs(y, s):
    above = (s[y][:,None]>s[~y]) + .5*(s[y][:,None]==s[~y])
    v = np.empty(len(y)); v[y],v[~y] = above.mean(1),above.mean(0)
    return v


@pytest.mark.parametrize('digits', [0,1,None])
@pytest.mark.parametrize('seed', range(4))
def test_delong_by_pairs(seed, digits):
    y,(a,b),_ = study(seed=seed)
    if digits is not None: a,b = a.round(digits),b.round(digits)
    v = np.stack([by_pairs(y, s) for s in (a,b)])
    np.testing.assert_allclose(_placements(y, a), v[0], atol=1e-12)
    c = np.cov(v[:,y])/y.sum() + np.cov(v[:,~y])/(~y).sum()
    got,cov = _auc_covariance(y, [a,b])
    np.testing.assert_allclose(got, [skm.roc_auc_score(y, s) for s in (a,b)], atol=1e-12)
    np.testing.assert_allclose(cov, c, atol=1e-14)


@pytest.mark.parametrize('mixed', [False,True])
def test_clusters_by_the_formula_of_the_paper(mixed):
    "Obuchowski 1997, patient by patient"
    y,s,who = study(seed=5, mixed=mixed)
    got,cov = _auc_covariance(y, s, who)
    v = [by_pairs(y, o) for o in s]
    ids = np.unique(who)
    def total(o, t, side): return np.array([(o[(who==i)&side]-t).sum() for i in ids])
    x,z = [total(o, t, y) for o,t in zip(v,got)],[total(o, t, ~y) for o,t in zip(v,got)]
    m,n,i1,i0,i = y.sum(),(~y).sum(),len(set(who[y])),len(set(who[~y])),len(ids)
    for r in range(2):
        for q in range(2):
            s10,s01 = i1/((i1-1)*m)*(x[r]@x[q]),i0/((i0-1)*n)*(z[r]@z[q])
            s11 = i/(i-1)*(x[r]@z[q] + x[q]@z[r])
            assert cov[r,q]==pytest.approx(s10/m + s01/n + s11/(m*n), rel=1e-10)


def test_one_image_a_patient_is_delong():
    y,(a,b),_ = study()
    one = [f'p{i}' for i in range(len(y))]
    np.testing.assert_allclose(delong(y, a, b, patient=one)[:4], delong(y, a, b)[:4], atol=1e-12)
    np.testing.assert_allclose(delong_interval(y, a, one)[:3], delong_interval(y, a)[:3], atol=1e-12)


def test_copied_images_add_nothing():
    "Every image three times: DeLong by image thinks it knows more, DeLong by patient does not"
    y,(a,b),_ = study(most=1)
    i = np.repeat(np.arange(len(y)), 3)
    one,three = delong(y, a, b, patient=np.arange(len(y))),delong(y[i], a[i], b[i], patient=i)
    assert three.value==pytest.approx(one.value) and three.low==pytest.approx(one.low, abs=1e-12)
    fooled = delong(y[i], a[i], b[i])
    assert fooled.high-fooled.low < .6*(one.high-one.low)


def test_order_and_names_do_not_matter():
    y,(a,b),who = study()
    i = np.random.default_rng(0).permutation(len(y))
    for f in (lambda y,a,b,w: delong(y, a, b, patient=w), lambda y,a,b,w: mcnemar(y, a>1, b>1, patient=w), lambda y,a,b,w: paired_bootstrap(auc, y, (a,b), patient=w, n_boot=100)):
        np.testing.assert_allclose(f(y, a, b, who)[:4], f(y[i], a[i], b[i], who[i])[:4], atol=1e-10)
        x,z = f(y, a, b, who),f(y, b, a, who)
        np.testing.assert_allclose([x.value,x.low,x.p], [-z.value,-z.high,z.p], atol=1e-9)
    named = [f'{o:03}' for o in who]
    np.testing.assert_allclose(delong(y, a, b, patient=who)[:4], delong(y, a, b, patient=named)[:4], atol=1e-12)
    np.testing.assert_allclose(mcnemar(y, a>1, b>1, patient=who)[:4], mcnemar(y, a>1, b>1, patient=named)[:4], atol=1e-12)


def test_what_cannot_be_told():
    y,(a,b),who = study()
    assert delong(y, a, a)[3:]==(1., 'no interval: nothing scatters')
    assert delong(y, 3*a+1, a).p==1 # the same order is the same AUC
    assert np.isnan(delong(y|True, a, b).p) and delong(y|True, a, b).method=='undefined: one class only'
    two = np.where(y, 'x', 'y')
    assert delong(y, a, b, patient=two).method==TOO_FEW and np.isnan(delong(y, a, b, patient=two).p)
    assert delong_interval(y, y*1., who).method.startswith('Newcombe') and delong_interval(y, y*1., who).low<.97
    assert delong_interval(y, a, two).method=='Newcombe (1 v 1 patients)'
    perfect = delong(y, y*1., np.zeros(len(y))) # all right, and all the same
    assert perfect.value==.5 and np.isnan(perfect.p)
    assert mcnemar(y, y, y, patient=who)[3:]==(1., 'no interval: all patients agree')
    assert mcnemar(y[:3], y[:3], ~y[:3], patient=['p']*3).method=='no interval: all patients agree'


@pytest.mark.parametrize('f', [lambda y,a,b,w: delong(y, a, b, patient=w), lambda y,a,b,w: paired_bootstrap(auc, y, (a,b), patient=w, n_boot=20)])
def test_bad_scores(f):
    y,(a,b),who = study()
    with pytest.raises(DataError, match='not numbers'): f(y, a, np.where(y, np.nan, b), who)
    for bad in [(y, a, b[1:], who), (y, a, b, who[1:]), (y[1:], a, b, who)]:
        with pytest.raises(DataError): f(*bad)
    with pytest.raises(DataError, match='0 or 1'): delong(y+1, a, b)
    with pytest.raises(DataError): mcnemar(y, a>1, (b>1)[1:])


# bootstrap
def test_paired_bootstrap_by_hand():
    y,(a,b),who = study(30)
    d = paired_bootstrap(auc, y, (a,b), patient=who, n_boot=300, seed=4)
    v = bootstrap(auc, y, a, patient=who, n_boot=300, seed=4)-bootstrap(auc, y, b, patient=who, n_boot=300, seed=4)
    tail = norm.cdf(-(30/29)**.5*student.ppf(.975, 29)) # Hesterberg 2015
    np.testing.assert_allclose(d[1:3], np.quantile(v, [tail,1-tail]), atol=1e-12)
    raw = min(1, 2*(1+min((v<=0).sum(), (v>=0).sum()))/301)
    assert d.p==pytest.approx(2*student.sf(norm.isf(raw/2)*(29/30)**.5, 29))
    many = paired_bootstrap(class_metrics, y.astype(int), [np.stack([-s,s], 1) for s in (a,b)], patient=who, n_boot=300, seed=4)
    assert many['auc'].value==pytest.approx(d.value) and many['auc'].low==pytest.approx(d.low)
    assert {'mcc','f1','accuracy'}<set(many) and all(isinstance(o, Difference) for o in many.values())


def test_lost_resamples_are_said():
    y,(a,b),who = np.arange(300)<15,np.random.default_rng(0).random((2,300)),np.arange(300)//3
    d = paired_bootstrap(auc, y, (a,b), patient=who)
    lost = int(np.isnan(bootstrap(auc, y, a, patient=who)).sum())
    assert lost and d.method.endswith(f'{lost} of 1000 resamples left out')


@pytest.mark.parametrize('ill', [1,2,3])
def test_few_who_are_ill_prove_nothing_among_many_who_are_not(ill):
    "One ill patient is always the same one, however many healthy ones there are: no p, whatever the metric"
    rng,who = np.random.default_rng(ill),np.repeat(np.arange(43), 2)
    y = (who<ill)*1
    a,b = (np.stack([-s,s], 1) for s in y*[[1.],[.2]]+rng.normal(size=(2,86)))
    told = paired_bootstrap(class_metrics, y, (a,b), patient=who)
    for k in ('auc','average_precision','balanced_accuracy','f1','mcc','sensitivity_1'):
        assert told[k].method==TOO_FEW and np.isnan(told[k].p) and told[k].value==class_metrics(y, a)[k]-class_metrics(y, b)[k]
    assert not np.isnan(told['accuracy'].p) and not np.isnan(told['specificity_1'].p)
    for side in (y, 1-y): assert delong(side, a[:,1], b[:,1], patient=who).method==TOO_FEW


@pytest.mark.parametrize('k', [1,2,4,5,6])
def test_a_handful_of_patients_proves_nothing(k):
    "One net better in every patient: k of them are k coins, and below five there is neither p nor interval"
    y,who = np.zeros(4*k),np.repeat(np.arange(k), 4)
    d = paired_bootstrap(mean_abs_error, y, (y+1+who,y+.1), patient=who, n_boot=200)
    assert d.value>0
    if k<5: assert np.isnan([d.low,d.high,d.p]).all() and d.method==f"no interval: {'one patient' if k==1 else f'{k} patients'}"
    else: assert d.low>0 and 2**(1-k)<=d.p<.1

# McNemar
def test_mcnemar_like_statsmodels():
    from statsmodels.stats.contingency_tables import mcnemar as theirs
    rng = np.random.default_rng(0)
    for n in (5, 20, 300):
        y,a,b = rng.integers(0, 3, (3,n))
        ok = pd.crosstab(a==y, b==y).reindex(index=[False,True], columns=[False,True], fill_value=0)
        assert mcnemar(y, a, b, mid=False).p==pytest.approx(theirs(ok, exact=True).pvalue, abs=1e-12)
        assert mcnemar(y, a, b).value==pytest.approx((a==y).mean()-(b==y).mean())


def test_mid_p_and_clusters():
    assert _coin_p(np.array([1]*9+[-1]*2), True)==pytest.approx(2*binom.cdf(2, 11, .5)-binom.pmf(2, 11, .5), abs=1e-12)
    lead = np.array([4,-1,2,2,0,-3,1])
    signs = np.array(np.meshgrid(*[[-1,1]]*7)).reshape(7,-1)
    assert _coin_p(lead, False)==pytest.approx((np.abs(lead@signs)>=5).mean(), abs=1e-12)
    assert _coin_p(lead, True)==pytest.approx((np.abs(lead@signs)>=5).mean()-(np.abs(lead@signs)==5).mean()/2, abs=1e-12)
    assert _coin_p(np.array([2,-2]), True)==1 and _coin_p(np.zeros(3), True)==1
    big = np.random.default_rng(0).integers(-3, 5, 20_000)
    z = abs(big.sum())/np.sqrt((big**2).sum())
    from scipy.stats import norm
    assert _coin_p(np.array([1]*5100+[-1]*4900), False)==pytest.approx(2*norm.sf(199/100), rel=1e-3) and z>29 and _coin_p(big, True)<1e-100


def test_bonett_price_by_hand():
    y = np.zeros(100, int); a = y.copy(); b = y.copy(); a[:5] = 1; b[5:20] = 1 # 15 v 5 discordant
    d = mcnemar(y, a, b)
    p,q = 16/102,6/102
    half = 1.959964*((p+q-(p-q)**2)/102)**.5
    np.testing.assert_allclose(d[:3], (.1, p-q-half, p-q+half), atol=1e-6)


def test_interval_of_leads_is_the_standard_error_of_a_mean():
    "With two images for everybody the ratio estimate is a mean over patients"
    from scipy.stats import t
    rng = np.random.default_rng(1)
    y,a,b = rng.integers(0, 2, (3,80)); who = np.arange(80)//2
    each = ((a==y)*1.-(b==y)).reshape(40, 2).mean(1)
    d = mcnemar(y, a, b, patient=who)
    assert d.high-d.value==pytest.approx(t.ppf(.975, 39)*each.std(ddof=1)/40**.5, rel=1e-9)


def test_holm_like_statsmodels():
    from statsmodels.stats.multitest import multipletests
    p = np.random.default_rng(0).random(30)**3
    np.testing.assert_allclose(holm(p), multipletests(p, method='holm')[1], atol=1e-12)
    q = np.insert(p, [0,7], np.nan)
    assert np.isnan(holm(q)[[0,8]]).all() and np.allclose(np.delete(holm(q), [0,8]), holm(p))
    assert [*holm(.03)]==[.03]
    with pytest.raises(DataError, match='a list of numbers between 0 and 1'): holm([q])
    assert len(holm([]))==0 and np.isnan(holm([np.nan])).all()
    with pytest.raises(DataError): holm([-.1])


# do they keep their word?
def test_coverage_of_differences():
    "Two nets, each with its taste in patients: by patient about 95 %, by image far less"
    big,(a,b),_ = study(100_000, seed=10**6)
    truth = auc(big, a)-auc(big, b)
    held = dict.fromkeys(['DeLong by image','DeLong by patient','bootstrap by patient'], 0)
    for i in range(300):
        y,(a,b),who = study(seed=i)
        for k,d in zip(held, [delong(y, a, b), delong(y, a, b, patient=who), paired_bootstrap(auc, y, (a,b), patient=who, n_boot=200)]):
            held[k] += d.low<=truth<=d.high
    held = {k:v/300 for k,v in held.items()}
    assert held['DeLong by image']<.85 and .91<held['DeLong by patient']<.985 and .90<held['bootstrap by patient']<.985, held


def test_false_alarms_of_mcnemar():
    "Two nets of the same skill: by patient at most about 5 % false alarms, by image far more"
    alarms = np.zeros(2)
    for i in range(400):
        y,(a,b),who = study(seed=i, skill=(1.5,1.5))
        alarms += [mcnemar(y, a>.75, b>.75, patient=who).p<.05, mcnemar(y, a>.75, b>.75).p<.05]
    assert alarms[0]/400<.08 and alarms[1]/400>.10, alarms/400


# panels
CLASSES = ['CNV','DME','DRUSEN']

def table(net, classes=CLASSES, patients=40, images=2, shuffle=True):
    rng,mine = np.random.default_rng(0),np.random.default_rng(net+1)
    who,k = np.repeat(np.arange(patients), images),len(classes)
    y = rng.integers(k, size=patients)[who]
    z = 1.5*np.eye(k)[y] + .8*rng.normal(size=(len(who),k)) + mine.normal(size=(len(who),k))
    p = np.exp(z)/np.exp(z).sum(1, keepdims=True)
    t = pd.DataFrame(dict(path=[f'{i}.png' for i in range(len(who))], patient=who.astype(str), target=np.array(classes)[y],
                          **{f'p_{c}':p[:,i] for i,c in enumerate(classes)}))
    return t.sample(frac=1, random_state=net)[list(np.random.default_rng(net).permutation(t.columns))] if shuffle else t


def many(classes=CLASSES, **kw): return {f'n{i}':table(i, classes, **kw) for i in range(3)}


def test_rows_and_columns_in_any_order():
    a,b = read_panel(many()),read_panel(many(shuffle=False))
    assert (answers(a)==answers(b)[:,b.first.set_index('path').index.get_indexer(a.first.path)]).all()
    pd.testing.assert_frame_equal(jaccard(a), jaccard(b))
    x,y = consistency(a, 'DME'),consistency(b, 'DME')
    np.testing.assert_allclose(x.drop(columns='method').astype(float), y.drop(columns='method').astype(float))
    assert best_single(a)==best_single(b)


@pytest.mark.parametrize('change,words', [
    (lambda t: t[t.path!='3.png'], 'n1 lacks 1 of 80 images that n0 has: 3.png'),
    (lambda t: t.replace({'path':{'3.png':'unknown.png'}}), 'n1 lacks 1 of 81 images'),
    (lambda t: t.replace({'target':{'CNV':'DME'}}), 'n1 and n0 differ in target'),
    (lambda t: t.replace({'patient':{'3':'4'}}), 'n1 and n0 differ in patient for 2 images'),
    (lambda t: t.rename(columns={'p_CNV':'p_AMD'}).replace({'target':{'CNV':'AMD'}}), 'n1 has the classes AMD, DME, DRUSEN'),
    (lambda t: t.assign(p_CNV=np.nan), 'not a number'),
    (lambda t: t.assign(p_CNV=t.p_CNV/2), 'do not sum to one'),
    (lambda t: pd.concat([t, t[:1]]), 'more than one row'),
    (lambda t: t[['path','patient']].assign(target=1., pred=1.), 'n1 answers with a number, n0 with a category'),
    (lambda t: t[:0], 'no rows'),
])
def test_bad_tables_are_named(change, words, tmp_path):
    nets = many(); nets['n1'] = change(nets['n1'])
    with pytest.raises(DataError, match=words): read_panel(nets)
    for k,t in nets.items(): t.to_csv(tmp_path/f'{k}.csv', index=False)
    with pytest.raises(DataError, match=words): read_panel([tmp_path/f'{k}.csv' for k in nets])


def test_a_panel_means_by_positive_what_its_runs_mean():
    d = binary(120, seed=0)
    no,yes = (score_as('category', d, dict(positive=k), n_boot=20) for k in ('no','yes'))
    p = read_panel(dict(a=no, b=no))
    assert p.classes==['yes','no'] and score_panel(p, n_boot=20)['a'].metrics['average_precision'].value==no.metrics['average_precision'].value
    assert read_panel(dict(a=d, b=d)).classes==['no','yes'] and read_panel(dict(a=d, b=no)).classes==['yes','no']
    with pytest.raises(DataError, match='positive is not the same class for each: a no, b yes'): read_panel(dict(a=no, b=yes))

def test_bad_panels():
    with pytest.raises(DataError, match='two nets at least'): read_panel({'a':table(0)})
    with pytest.raises(DataError, match='called x'): read_panel(['a/x.csv','b/x.csv'])
    with pytest.raises(DataError, match='does not exist'): read_panel({'a':table(0), 'b':'nowhere.csv'})
    p = read_panel(many())
    with pytest.raises(EyeError, match='AMD'): says(p, 'AMD')
    with pytest.raises(DataError, match='which one'): consistency(p)
    with pytest.raises(EyeError, match='unknown net'): panel_differences(p, 'nobody')


def test_levels_and_votes_by_hand():
    p = read_panel(many())
    said,truth = np.array(CLASSES)[answers(p)],p.first.target.to_numpy()
    t = consistency(p, 'DME')
    for v in range(4):
        at = (said=='DME').sum(0)==v
        assert t.images[v]==at.sum() and t.true[v]==(truth[at]=='DME').sum()
        assert t.right[v]==pytest.approx((truth[at]=='DME').mean() if v>1 else (truth[at]!='DME').mean())
    t = agreement_levels(p).set_index('agree')
    for v in (2,3):
        at = np.array([max(list(o).count(c) for c in CLASSES)==v for o in said.T])
        vote = np.array([max(CLASSES, key=list(o).count) for o in said.T])
        assert t.images[v]==at.sum() and t.right[v]==pytest.approx((vote==truth)[at].mean())
    if 1 in t.index: assert t.right[1]==0 # three nets, three answers: nobody is right


def test_kappa_like_the_others():
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa
    p = read_panel(many()); said = answers(p)
    t = agreement(p, n_boot=100)
    assert t.value[0]==pytest.approx(skm.cohen_kappa_score(said[0], said[1]))
    assert t.value.iloc[-1]==pytest.approx(fleiss_kappa(aggregate_raters(said.T, 3)[0]))
    q = agreement(p, weights='quadratic', n_boot=20)
    assert q.value[2]==pytest.approx(skm.cohen_kappa_score(said[1], said[2], weights='quadratic'))
    assert ((t.low<t.value)&(t.value<t.high)).all()
    j = jaccard(p, 'CNV')
    assert j.loc['n2','truth']==pytest.approx(skm.jaccard_score(p.first.target=='CNV', said[2]==0))


def test_ensembles():
    p = read_panel(many()); cols = [f'p_{c}' for c in CLASSES]
    probs = np.stack([t[cols].to_numpy() for t in p.tables.values()])
    np.testing.assert_allclose(ensemble(p)[cols], probs.mean(0))
    g = np.exp(np.log(probs).mean(0)); g /= g.sum(1, keepdims=True)
    np.testing.assert_allclose(ensemble(p, 'logit')[cols], g, atol=1e-9)
    s = score_panel(p, n_boot=100)
    assert list(s)==['n0','n1','n2','ensemble'] and s['ensemble'].by_patient['mean of all images']['n_patients']==40
    assert s['ensemble'].metrics['accuracy'].value==pytest.approx((np.array(CLASSES)[probs.mean(0).argmax(1)]==p.first.target).mean())
    assert list(panel_table(s).columns)==['accuracy','balanced_accuracy','auc','average_precision','mcc','f1']
    t = panel_differences(p, n_boot=50).set_index('metric')
    assert {'auc','auc_CNV','accuracy','mcc'}<set(t.index) and t.index.is_unique
    assert t.value['auc_CNV']==pytest.approx(skm.roc_auc_score(p.first.target=='CNV', probs.mean(0)[:,0])
                                             - skm.roc_auc_score(p.first.target=='CNV', p.tables[t.b.iloc[0]].p_CNV))


def labels(net, thresholds=False):
    a,b = table(net, ['no','dr'], shuffle=False),table(net+10, ['no','amd'], shuffle=False)
    return pd.DataFrame(dict(path=a.path, patient=a.patient, target_dr=(a.target=='dr')*1, target_amd=(b.target=='amd')*1,
                             p_dr=a.p_dr, p_amd=b.p_amd)).sample(frac=1, random_state=net)


def test_labels_with_their_thresholds(tmp_path):
    from fundus_fastai.score.kinds import choose_thresholds
    for i in range(2):
        valid = labels(i+2).assign(target_dr=labels(i).target_dr, target_amd=labels(i).target_amd) # same truth, other noise
        score(labels(i), None, dict(thresholds=choose_thresholds(valid)), n_boot=20).save(tmp_path/f'run{i}')
        valid.to_csv(tmp_path/f'run{i}'/'validation.csv', index=False)
    p = read_panel([tmp_path/'run0',tmp_path/'run1'])
    assert p.kind.labels and p.classes==['amd','dr'] and set(p.thresholds)=={'run0','run1'}
    said,truth = says(p, 'dr')
    assert (said[1]==(p.tables['run1'].p_dr>p.thresholds['run1']['dr'])).all() and (truth==(p.first.target_dr==1)).all()
    s = score_panel(p, valid=read_panel([tmp_path/'run0',tmp_path/'run1'], 'validation.csv'), n_boot=20)
    assert set(s['ensemble'].operating['thresholds'])=={'dr','amd'}
    t = panel_differences(p, n_boot=30, thresholds=s['ensemble'].operating['thresholds']).set_index('metric')
    b = t.b.iloc[0]
    for c in ('dr','amd'): assert t.value[f'f1_{c}']==pytest.approx(s['ensemble'].metrics[f'f1_{c}'].value-s[b].metrics[f'f1_{c}'].value)
    assert t.method['auc_dr'].startswith('DeLong')


def test_an_interval_of_shares_stays_between_minus_one_and_one():
    "All of six images are right for one net and wrong for the other"
    y = np.zeros(6, int)
    assert mcnemar(y, y, y+1)[:2]==(1., pytest.approx(7/8-1/8-1.959964*((1-(6/8)**2)/8)**.5)) and mcnemar(y, y, y+1).high==1
    assert mcnemar(y, y+1, y).low==-1 and mcnemar(y, y+1, y).value==-1
    few = np.array([1,1,1,1,0,0])
    for a,b in [(few,y), (y,few)]:
        d = mcnemar(y, a, b, patient=[1,2,3,4,5,6])
        assert -1<=d.low<d.value<d.high<=1 and max(abs(d.low), abs(d.high))==1


def test_the_method_tells_whether_patients_were_counted():
    y,(a,b),who = study()
    assert delong(y, a, b).method==delong_interval(y, a).method=='DeLong, images taken as independent'
    assert delong(y, a, b, patient=who).method==delong_interval(y, a, who).method=='DeLong for clusters (Obuchowski), 60 patients'


def test_agreement_on_one_label():
    p = read_panel({'a':labels(0), 'b':labels(1)})
    said = says(p, 'dr')[0]
    assert agreement(p, 'dr', n_boot=20).value[0]==pytest.approx(skm.cohen_kappa_score(*said))
    with pytest.raises(DataError, match='which one'): agreement(p)
    with pytest.raises(DataError, match='ask label by label'): answers(p)


def test_a_panel_by_patient():
    "Of each net and of the ensemble the mean of a patient's images, in logits, against the truth of the patient"
    p = read_panel(many())
    s = score_panel(p, n_boot=20)
    t = panel_table(s, 'patient')
    d = panel_differences(p, 'n0', 'n1', per='patient', n_boot=20).set_index('metric')
    one,two = (combine_eyes(p.tables[k]) for k in ('n0','n1'))
    right = [(o[[f'p_{c}' for c in CLASSES]].to_numpy().argmax(1)==[CLASSES.index(c) for c in o.target]).mean() for o in (one,two)]
    assert d.value['accuracy']==pytest.approx(right[0]-right[1])
    assert t.accuracy['n0'].startswith(f'{right[0]:.3f}') and len(t)==4
    assert t.accuracy['n0']!=panel_table(s).accuracy['n0']


def test_words_of_a_difference():
    assert str(Difference(.0312, .01, .05, .02, 'DeLong'))=='+0.031 (+0.010 to +0.050), p = 0.020'
    assert str(Difference(-.5, np.nan, np.nan, .0004, 'few'))=='-0.500, p < 0.001 (few)'
    assert str(Difference(np.nan, np.nan, np.nan, np.nan, 'undefined'))=='undefined'


def test_numbers():
    rng = np.random.default_rng(0)
    age = rng.normal(60, 10, 40)[np.arange(80)//2]
    base = table(0, shuffle=False)[['path','patient']].assign(target=age)
    p = read_panel({str(i):base.assign(pred=age+i+rng.normal(0, 4, 80)) for i in range(3)})
    e,d = bland_altman(p, '0', 'truth', n_boot=200),p.tables['0'].pred-age
    np.testing.assert_allclose([e[k].value for k in ('mean','sd','lower')], [d.mean(),d.std(),d.mean()-1.96*d.std()])
    assert e['mean'].low<e['mean'].value<e['mean'].high and best_single(p)!='2'
    np.testing.assert_allclose(ensemble(p).pred, np.mean([t.pred for t in p.tables.values()], axis=0))
    assert panel_differences(p, n_boot=30).metric.tolist()==['mae','r2']
    with pytest.raises(DataError, match='no classes'): consistency(p)


def test_two_images_of_one_patient_and_one_class_only():
    "Little data gives words, not warnings"
    p = read_panel({k:t[:2].assign(patient='a') for k,t in many(shuffle=False).items()})
    t = panel_differences(p, n_boot=20)
    assert t.p.dropna().between(0, 1).all() and t.low.isna().all()
    assert agreement(p, n_boot=20).low.isna().all() and consistency(p, 'CNV').images.sum()==2
    q = read_panel({k:t[t.target=='CNV'] for k,t in many(shuffle=False).items()})
    assert panel_differences(q, n_boot=20).set_index('metric').method['auc_CNV']=='undefined: one class only'


def test_the_legend_of_levels_stands_on_nothing():
    from matplotlib.figure import Figure
    p = read_panel(many(['female','male']), source='phantom')
    ax = Figure((4,2.8), layout='constrained').subplots()
    plot_consistency(consistency(p, 'male'), 'male', ax, source=p.source)
    ax.figure.canvas.draw()
    said = [t.get_window_extent() for t in (*ax.texts, ax.title, ax.xaxis.label) if t.get_text()]
    assert not ax.get_legend().get_window_extent().count_overlaps(said)

def test_figures_say_phantom():
    from matplotlib.figure import Figure
    p = read_panel(many(['female','male']), source='phantom')
    s = score_panel(p, n_boot=20)
    for f in (lambda ax: plot_consistency(consistency(p), 'male', ax, source=p.source), lambda ax: plot_jaccard(jaccard(p), ax=ax, source=p.source), lambda ax: plot_panel(s, ax=ax)):
        ax = Figure().subplots(); f(ax)
        assert any('PHANTOM' in t.get_text() for t in ax.texts)
    base = table(0, shuffle=False)[['path','patient']].assign(target=1.)
    q = read_panel({k:base.assign(pred=np.arange(80.)**i) for i,k in enumerate('ab')}, source='phantom')
    ax = Figure().subplots(); plot_bland_altman(*[panel_numbers(q, k) for k in 'ab'], ax, limits=bland_altman(q, 'a', 'b'), names='ab', source=q.source)
    assert any('PHANTOM' in t.get_text() for t in ax.texts)


def test_the_interval_of_one_auc_near_its_ceiling():
    "Near 1 a plain DeLong interval of 40 patients holds the truth in 84 of 100 studies; made of its logit it keeps its word"
    y,(a,_),_ = study(20_000, seed=10**6, skill=(3.2,1), most=1)
    truth,held,runs = auc(y, a),0,400
    for i in range(runs):
        y,(a,_),who = study(40, seed=i, skill=(3.2,1), most=1)
        e = delong_interval(y, a, who)
        assert 0<=e.low<=e.value<=e.high<=1
        held += e.low<=truth<=e.high
    assert held>=.925*runs, held/runs


@pytest.mark.parametrize('people', [6,10])
def test_nets_alike_differ_in_one_study_of_twenty(people):
    "By plain percentiles nets of the same mean error differed in 13 of 100 studies of six patients, in 11 of ten"
    rng,y,who,found,runs = np.random.default_rng(people),np.zeros(2*people),np.arange(2*people)//2,0,400
    for i in range(runs):
        pair = rng.normal(size=(2,people))[:,who]+rng.normal(size=(2,2*people))
        d = paired_bootstrap(mean_abs_error, y, pair, patient=who, n_boot=500, seed=i)
        found += not d.low<=0<=d.high
        assert d.p>=.05 or not d.low<=0<=d.high
    assert found<=.08*runs, found/runs
