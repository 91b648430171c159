"Calibration against scikit-learn, statsmodels and counting"
import numpy as np, pandas as pd, pytest, statsmodels.api as sm
from scipy.special import expit, logit, softmax
from sklearn import metrics as skm
from sklearn.calibration import calibration_curve
from fundus_fastai.score.calibration import (add_calibration, at_temperature, benefit_table, binary_questions,
                                             brier, calibrated, calibration_slope, ece, _newton, _pct,
                                             ece_by_chance, log_loss, points_tables, predictive_values,
                                             reliability_table, temperature, threshold_points)
from fundus_fastai.core import DataError
from fundus_fastai.score.plots import plot_benefit
from fundus_fastai.score.scores import score
from fundus_fastai.score import calibration
from fundus_fastai.score.metrics import Draws, best_threshold, draw_counts
from fundus_fastai.score.estimate import Estimate, patient_bootstrap
from made import binary

def three(n=3000, factor=1., seed=0):
    rng = np.random.default_rng(seed)
    q = rng.dirichlet([1,1,1], n)
    return (rng.random((n,1))>q.cumsum(1)).sum(1), softmax(factor*np.log(q), axis=1)

def ys(d): return (d.target=='yes').to_numpy(), d.p_yes.to_numpy()

@pytest.mark.parametrize('seed', range(4))
def test_proper_scores_like_sklearn(seed):
    y,s = ys(binary(seed=seed))
    assert brier(y, s)==pytest.approx(skm.brier_score_loss(y, s)) and log_loss(y, s)==pytest.approx(skm.log_loss(y, s))
    t,p = three(200, seed=seed)
    assert log_loss(t, p)==pytest.approx(skm.log_loss(t, p))
    assert brier(t, p)==pytest.approx(((p-np.eye(3)[t])**2).sum(1).mean())
    flags = (np.random.default_rng(seed).random(p.shape)<p).astype(int)
    assert brier(flags, p)==pytest.approx(np.mean([skm.brier_score_loss(flags[:,i], p[:,i]) for i in range(3)]))
    assert log_loss(flags, p)==pytest.approx(np.mean([skm.log_loss(flags[:,i], p[:,i]) for i in range(3)]))

@pytest.mark.parametrize('f', [brier, log_loss, ece])
def test_weights_are_copies(f):
    "An image that counts twice counts like two images; a block of weights gives a value each"
    for y,p in [ys(binary(60)), three(90), (np.eye(3)[three(90)[0]], three(90)[1])]:
        w = np.random.default_rng(1).integers(0, 3, (5,len(y))).astype(float)
        got = f(y, p, w)
        assert got.shape==(5,)
        if f is ece: continue # bins stay those of all images
        for a,b in zip(got, w.astype(int)): assert a==pytest.approx(f(np.repeat(y, b, 0), np.repeat(p, b, 0)))

def test_ece_like_sklearn_curve():
    "With as many bins, the ECE is the weighted gap of scikit-learn's calibration curve"
    y,s = ys(binary(400, factor=2.))
    share,mean = calibration_curve(y, s, n_bins=10, strategy='uniform')
    n = np.histogram(s, np.linspace(0, 1, 11))[0]
    assert ece(y, s, bins=10, equal='width')==pytest.approx(np.sum(n[n>0]*abs(share-mean))/len(y), abs=1e-9)
    t = reliability_table(y, s, bins=8)
    share,mean = calibration_curve(y, s, n_bins=8, strategy='quantile')
    assert np.abs(t.share-share).max()<.05 and np.abs(t.probability-mean).max()<.02 and t.images.max()-t.images.min()<=6 # ties stay together

def test_ece_weights_by_hand():
    y,s = np.array([0,1,1,0]*10, bool),np.array([.1,.1,.9,.9]*10)
    w = np.array([[1,0,1,0]*10], float)
    assert ece(y, s)==pytest.approx(.4) and ece(y, s, w)[0]==pytest.approx(.1)

def test_chance_is_what_an_honest_net_has():
    got = np.mean([[ece(*ys(d)), ece_by_chance(d.p_yes, n=50)] for d in (binary(seed=i) for i in range(40))], axis=0)
    assert got[0]==pytest.approx(got[1], rel=.1) and got[0]>.03

@pytest.mark.parametrize('factor', [.5,1.,3.])
def test_temperature_is_recovered(factor):
    y,s = ys(binary(4000, factor))
    assert temperature(y, s)==pytest.approx(factor, rel=.1)
    t,p = three(8000, factor)
    assert temperature(t, p)==pytest.approx(factor, rel=.1)
    flags = (np.random.default_rng(0).random(p.shape)<softmax(np.log(p)/factor, axis=1)).astype(int)
    assert temperature(flags, expit(factor*logit(softmax(np.log(p)/factor, axis=1))))==pytest.approx(factor, rel=.1)

def test_temperature_interval_covers():
    "Of 60 simulated validation sets, about 95 % of intervals hold the true temperature"
    hit = 0
    for i in range(60):
        d = binary(150, 2., seed=i)
        e = patient_bootstrap(temperature, *ys(d), patient=d.patient, n_boot=200)
        hit += e.low<=2<=e.high
    assert 52<=hit<=60

def test_temperature_minimizes_and_grid_agrees():
    y,s = ys(binary(100, 2.))
    T = temperature(y, s)
    assert all(log_loss(y, calibrated(s, T))<=log_loss(y, calibrated(s, T*k))+1e-9 for k in (.8,.95,1.05,1.25))
    assert temperature(y, s, np.ones((2,len(y))))==pytest.approx([T,T], rel=.01)

def test_temperature_keeps_order_and_sums():
    _,p = three(100, 2.)
    q = calibrated(p, 1.7)
    assert np.allclose(q.sum(1), 1) and (q.argmax(1)==p.argmax(1)).all()
    assert np.isfinite(calibrated(np.array([[1.,0.,0.]]), .05)).all()
    with pytest.raises(DataError, match='above 0'): calibrated(p, 0)

def test_temperature_of_three_classes_by_hand():
    "Each class's probability to the power 1/T, and the T that is found is the best of its neighbors"
    y,p = three(300, 2.)
    q = p**(1/1.7)
    assert np.allclose(calibrated(p, 1.7), q/q.sum(1, keepdims=True))
    T = temperature(y, p)
    assert T>1.5 and all(skm.log_loss(y, calibrated(p, T))<=skm.log_loss(y, calibrated(p, T*k)) for k in (.9,1.1))
    assert temperature(y, p, np.ones((2,len(y))))==pytest.approx([T,T], rel=.01)

@pytest.mark.parametrize('seed', range(4))
def test_slope_like_statsmodels(seed):
    y,s = ys(binary(factor=1+seed/2, seed=seed))
    w = np.random.default_rng(seed).integers(0, 4, len(y)).astype(float)
    x = logit(s)
    fit = sm.GLM(y.astype(float), sm.add_constant(x), sm.families.Binomial(), freq_weights=w).fit()
    large = sm.GLM(y.astype(float), np.ones(len(y)), sm.families.Binomial(), freq_weights=w, offset=x).fit()
    got = calibration_slope(y, s, w[None])
    assert got['slope'][0]==pytest.approx(fit.params[1], rel=1e-4) and got['intercept'][0]==pytest.approx(large.params[0], abs=1e-5)

def test_slope_where_there_is_none():
    s = np.linspace(.1, .9, 20)
    assert np.isnan(calibration_slope(s>.5, s)['slope'])                 # separated
    assert np.isnan(list(calibration_slope(np.ones(20), s).values())).all() # one class
    assert np.isnan(calibration_slope(s>.5, np.full(20, .5))['slope'])    # all the same answer

def test_predictive_values_by_counting():
    "Bayes against counts, and the data's own prevalence gives back the data's own values"
    y,s = ys(binary(300))
    hit = s>.4
    se,sp = hit[y].mean(),(~hit[~y]).mean()
    ppv,npv = predictive_values(se, sp, y.mean())
    assert ppv==pytest.approx(skm.precision_score(y, hit)) and npv==pytest.approx((~y[~hit]).mean())
    assert predictive_values(.8, .9, [0, 1])[0].tolist()==[0, 1]
    with pytest.raises(DataError): predictive_values(.9, .9, 1.2)

def test_thresholds_come_from_validation():
    "Other test images leave the threshold as it was; it is the one of `best_threshold`, and the numbers are those of the test"
    valid = binary(200, seed=1)
    a,b = (threshold_points(binary(200, seed=k), valid, n_boot=30) for k in (2,3))
    assert [o['threshold'] for o in a]==[o['threshold'] for o in b] and a!=b
    assert a[0]['threshold']==best_threshold(*ys(valid), ('sensitivity',.9))
    y,s = ys(binary(200, seed=2))
    for o in a:
        hit = s>o['threshold']
        assert o['sensitivity'].value==pytest.approx(hit[y].mean()) and o['specificity'].value==pytest.approx((~hit[~y]).mean())
        assert o['ppv'].value==pytest.approx(y[hit].mean()) and o['prevalence']==pytest.approx(y.mean())
        for q in o['at']:
            assert q['ppv'].value==pytest.approx(predictive_values(o['sensitivity'].value, o['specificity'].value, q['prevalence'])[0])

def test_interval_of_a_predictive_value_at_a_prevalence():
    "Resampled sensitivity and specificity, put through Bayes: computed here by hand"
    test,valid = binary(120, seed=2),binary(120, seed=1)
    o = threshold_points(test, valid, n_boot=200, prevalences=(.05,))[0]
    (y,s),t = ys(test),o['threshold']
    def ppv(y, s, w):
        hit = s>t; w = np.ones((1,len(y))) if w is None else w
        r = predictive_values((w@(y&hit))/(w@y), (w@(~y&~hit))/(w@~y), .05)[0]
        return r if len(r)>1 else r[0]
    e = patient_bootstrap(ppv, y, s, patient=test.patient, n_boot=200)
    assert (o['at'][0]['ppv'].low,o['at'][0]['ppv'].high)==pytest.approx((e.low,e.high))

def test_tables_of_operating_points_tell_what_was_measured():
    points = threshold_points(binary(120, seed=2), binary(120, seed=1), n_boot=30, prevalences=(.01,.3))
    a,b = points_tables(points)
    assert a['threshold'].tolist()==[f"{o['threshold']:.3f}" for o in points]
    for k,o in enumerate(points):
        for t,name,e in [(a,'sensitivity %',o['sensitivity']), (a,'specificity %',o['specificity']), (b,'PPV % here',o['ppv']),
                         (b,'NPV % here',o['npv']), (b,'PPV % at 1 %',o['at'][0]['ppv']), (b,'NPV % at 30 %',o['at'][1]['npv'])]:
            assert float(t[name][k].split()[0])==pytest.approx(100*e.value, abs=.51)

def test_scores_hold_it_and_keep_their_keys():
    test,valid = binary(80, 2., seed=2),binary(80, 2., seed=1)
    plain,full = score(test, n_boot=50),add_calibration(score(test, n_boot=50), valid)
    assert {k:full.metrics[k] for k in plain.metrics}==plain.metrics
    assert full.metrics['temperature'].method=='validation (80 patients)'
    assert set(full.metrics)-set(plain.metrics)=={'brier','ece','temperature'}
    assert full.metrics['temperature'].value==pytest.approx(temperature(*ys(valid)))
    assert full.calibration['after']['brier'].value==pytest.approx(brier(*ys(at_temperature(test, full.metrics['temperature'].value))))
    j = full.to_json()
    assert list(j)[:7]==['task','source','arch','split','n_images','n_patients','metrics'] and len(j['operating_points'])==4
    one = add_calibration(score(test, n_boot=20), valid.assign(target='yes'))
    assert 'temperature' not in one.metrics and not one.points

def test_labels_of_answers_that_know_no_truth_are_calibrated():
    t = at_temperature(pd.DataFrame(dict(path=['a'], p_x=[.4], p_y=[.1])), 5., 'multilabel')
    assert t.iloc[0,1:].tolist()==pytest.approx((1/(1+np.exp(-np.log([.4/.6,.1/.9])/5))).tolist()) and t.path[0]=='a'

@pytest.mark.parametrize('order', range(3))
def test_order_of_rows_and_columns(order):
    d,v = binary(60, 2., seed=2),binary(60, 2., seed=1)
    a = add_calibration(score(d, n_boot=20), v)
    d2 = [d[d.columns[::-1]], d.iloc[::-1], d.sample(frac=1, random_state=1)][order]
    b = add_calibration(score(d2, n_boot=20), v[v.columns[::-1]].iloc[::-1].reset_index(drop=True))
    for k in ('brier','ece','temperature'): assert a.metrics[k].value==pytest.approx(b.metrics[k].value, abs=1e-9)
    assert list(binary_questions(d[d.columns[::-1]]))==['yes']
    assert [o['threshold'] for o in a.points]==pytest.approx([o['threshold'] for o in b.points])

bad = {'do not sum to one':(np.array([0,1]), np.array([[.5,.6],[.5,.5]])), 'no number from 0 to 1':(np.array([0,1]), np.array([np.nan,.5])),
       'from 0 to 1':(np.array([0,1]), np.array([1.2,.5])), 'one each':(np.array([0,1]), np.array([.5])), 'is needed':(np.array([]), np.array([])),
       'classes are to be 0 to 1':(np.array([0,2]), np.array([[.5,.5],[.5,.5]])), 'to be 0 or 1':(np.array([0,3]), np.array([.5,.5])),
       'do not fit':(np.zeros((2,3)), np.zeros((2,2)))}

@pytest.mark.parametrize('says', bad)
@pytest.mark.parametrize('f', [brier, log_loss, ece])
def test_bad_input_is_named(f, says):
    with pytest.raises(DataError, match=says): f(*bad[says])

def test_one_patient_ties_and_one_class():
    d = binary(60)
    one = add_calibration(score(d[d.patient=='0'], n_boot=20), binary(40, seed=1))
    assert np.isnan(one.metrics['brier'].low) and not np.isnan(one.metrics['brier'].value)
    tied = d.assign(p_yes=.5, p_no=.5)
    s = add_calibration(score(tied, n_boot=20), tied)
    assert s.metrics['ece'].value==pytest.approx(abs((d.target=='yes').mean()-.5)) and len(s.points)==4
    same = add_calibration(score(d.assign(target='no'), n_boot=20), binary(40, seed=1))
    assert np.isnan(same.points[0]['sensitivity'].value) and 'one class only' in same.points[0]['sensitivity'].method
    with pytest.raises(DataError, match='one class only'): temperature(np.zeros(5), np.full(5, .3))

def test_questions_of_every_kind():
    d = binary(40)
    assert list(binary_questions(d))==['yes']
    t,p = three(60)
    many = pd.DataFrame(p, columns=['p_0','p_1','p_2']).assign(path=[f'{i}' for i in range(60)], patient=[str(i) for i in range(60)], target=t.astype(str))
    assert list(binary_questions(many))==['0','1','2'] and list(binary_questions(many, 'grades'))==['grade 2 and above']
    ages = d[['path','patient','eye']].assign(target=50., pred=51.)
    assert binary_questions(ages)=={} and add_calibration(score(ages, n_boot=10), ages).points==[]
    point = ages.assign(target=[float(i%5) for i in range(len(ages))], pred=[float(i%4) for i in range(len(ages))])
    s = add_calibration(score(point, 'ordered', n_boot=20), point)
    assert len(s.points)==4 and s.calibration is None
    lab = d[['path','patient','eye']].assign(target_a=(d.target=='yes').astype(int), p_a=d.p_yes)
    m = add_calibration(score(lab, n_boot=20), lab).metrics
    assert m['brier'].value==pytest.approx(brier(*ys(d)))

def test_validation_without_a_high_grade_chooses_no_referral():
    point = binary(40)[['path','patient','eye']]
    point = point.assign(target=[float(i%5) for i in range(len(point))], pred=[float(i%4) for i in range(len(point))])
    s = add_calibration(score(point, 'ordered', n_boot=20), point[point.target<2])
    assert s.points==[]

def test_a_share_below_one_is_never_100_percent():
    e = Estimate(.99996, .9987, .999999, '')
    assert _pct(e)=='99.99 (99.87 to 99.99)' and _pct(e._replace(value=1., low=.95, high=1.))=='100 (95 to 100)'
    assert _pct(Estimate(.996, .99, 1., ''))=='99.6 (99.0 to 100.0)' and _pct(Estimate(.904, .8, .994, ''))=='90 (80 to 99)'

@pytest.mark.parametrize('free', [True,False])
def test_slopes_of_draws_are_those_of_each_row(free):
    "Draws, that are made a table once, and rows of weights one by one"
    rng,who = np.random.default_rng(0),np.arange(200)//2
    s = rng.random(200)
    y = (rng.random(200)<s)*1.
    c = next(draw_counts(100, 20, 0, b=20))
    many = np.stack(_newton(logit(s), y, Draws(c, who, {}), free))
    each = [_newton(logit(s), y, o, free) for o in c[:,who].astype(float)]
    assert np.allclose(many.T, each, rtol=0, atol=1e-12)

def test_a_slope_is_found_in_few_steps():
    "What made a thousand resamples of four thousand images last minutes"
    rng,calls,own = np.random.default_rng(1),[],calibration._shares
    s = np.random.default_rng(0).random(3000)
    y,x = (rng.random(3000)<s)*1.,logit(s)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(calibration, '_shares', lambda *o: calls.append(len(o[0])) or own(*o))
        calibration_slope(y, s)
        assert len(calls)<20
        calls.clear()
        calibration._newton(x, y, rng.multinomial(3000, np.full(3000, 1/3000), size=10), True)
    assert max(calls)<=21 and len(calls)<=8+4 # draws begin where all ended

@pytest.mark.parametrize('seed', range(3))
def test_slopes_of_answers_that_are_far_too_sure(seed):
    "Probabilities of 1e-9 keep their logit"
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, 400)
    y,s = (rng.random(400)<expit(z)).astype(int),expit(z*6)
    assert (s<1e-6).any()
    theirs = sm.Logit(y, sm.add_constant(logit(s))).fit(disp=0).params[1]
    assert calibration_slope(y, s)['slope']==pytest.approx(theirs, rel=1e-4)

def test_probabilities_without_a_logit_are_told(capsys):
    d = binary(200)
    cols = [c for c in d if c.startswith('p_')]
    d.loc[:4,cols] = [1.,0.]
    add_calibration(score(d, n_boot=5), None)
    assert '5 probabilities are 0 or 1' in capsys.readouterr().err

def test_a_temperature_at_the_bound_is_no_result():
    test,valid = binary(120, seed=1),binary(120, seed=2)
    sure = valid.assign(p_yes=np.where(valid.target=='yes', .7, .3), p_no=np.where(valid.target=='yes', .3, .7))
    s = add_calibration(score(test, n_boot=20), sure)
    assert s.calibration['temperature']['at_bound'] and 'no result: at the bound' in s.metrics['temperature'].method
    s = add_calibration(score(test, n_boot=20), valid)
    assert not s.calibration['temperature']['at_bound'] and 'bound' not in s.metrics['temperature'].method


def test_a_temperature_of_few_who_are_ill_has_no_interval():
    "Draws of one class ran to the bound of the search, .05, and made it the lower end"
    rng,who = np.random.default_rng(0),np.repeat(np.arange(30), 2)
    def told(ill, people=30):
        y = (who<ill)[who<people]*1
        p = expit(2*(rng.normal(size=len(y))+np.where(y, 1, -1.5)))
        t = pd.DataFrame(dict(path=[f'{i}.png' for i in range(len(y))], patient=[f'p{o}' for o in who[who<people]],
                              target=np.where(y, 'ill', 'normal'), p_ill=p, p_normal=1-p))
        return add_calibration(score(t, n_boot=200), t)
    few = told(2).metrics['temperature']
    assert few.value>0 and not few.bounded and 'too few patients of a class' in few.method
    enough = told(12).metrics['temperature']
    assert .06<enough.low<enough.value<enough.high
    three = told(1, 3)
    assert all(not three.metrics[k].bounded for k in ('brier','ece','temperature'))
    y = np.array([0,0,1])
    T = calibration.temperature(y, np.array([.2,.4,.7]), np.array([[1.,1,1],[2,1,0],[0,0,3]]))
    assert np.isnan(T).tolist()==[False,True,True]

def test_a_rare_disease_is_not_told_as_none():
    "4 of a thousand had stood there as 0 %, and a sensitivity of 99.5 % as 100"
    from fundus_fastai.score.calibration import points_tables
    e = Estimate(.5, .4, .6, '')
    def shown(q, least):
        o = dict(question='x', goal='sensitivity', at_least=least, threshold=.5, prevalence=q, at=[], **dict.fromkeys(('sensitivity','specificity','ppv','npv'), e))
        a,b = points_tables([o])
        return a['chosen for'][0],b['prevalence here'][0]
    assert shown(.004, .995)==('sensitivity 99.5 %','0.4 %') and shown(1/3, .9)==('sensitivity 90 %','33 %') and shown(1., .95)[1]=='100 %'

@pytest.mark.parametrize('bins', [-1, 0, 2.5, '10'])
def test_bins_that_are_none_are_named(bins):
    "They had been a TypeError, or numpy's negative dimensions"
    y,s = np.array([0,1]*50),np.linspace(0, 1, 100)
    for f in (lambda: ece(y, s, bins=bins), lambda: ece_by_chance(s, bins), lambda: reliability_table(y, s, bins=bins)):
        with pytest.raises(DataError, match='`bins` is to be'): f()

@pytest.mark.parametrize('prevalence', [None, .05, 0., 1.])
def test_net_benefit_by_counting(prevalence):
    "Vickers and Elkin's formula, image by image; at a prevalence each ill image stands for so many"
    y,s = ys(binary(200, seed=5))
    s = s.round(2) # some lie on a threshold: who has it is treated
    t = benefit_table(y, s, at=[.1,.25,.5,.9], prevalence=prevalence, n_boot=20)
    q = y.mean() if prevalence is None else prevalence
    for r in t.itertuples():
        odds = r.threshold/(1-r.threshold)
        se,fpr = (np.mean([o>=r.threshold for o in s[of]]) for of in (y,~y))
        rules = [q*se-(1-q)*fpr*odds, q-(1-q)*odds]
        assert [r.benefit, r.all]==pytest.approx(rules) and r.more==pytest.approx(rules[0]-max(rules[1], 0))

def test_net_benefit_like_dcurves():
    "Figures of dcurves 1.1.7 on the same 300 answers, at their own prevalence and at 5 %"
    rng = np.random.default_rng(3)
    y = rng.random(300)<.3
    s = np.clip(rng.normal(.3+.2*y, .2), .001, .999)
    at = [.01,.05,.1,.2,.35,.5,.8]
    own = [.259663,.231053,.188889,.116667,.027179,0,-.023333]
    rare = [.040927,.003864,-.043371,-.129545,-.193767,-.140341,-.048693]
    for q,known in ((None,own), (.05,rare)): assert benefit_table(y, s, at=at, prevalence=q, n_boot=20).benefit.to_numpy()==pytest.approx(known, abs=1e-6)

def test_interval_of_what_a_net_is_worth_covers():
    "Of 100 studies of 120 patients with two images each, some nine in ten hold the truth at each threshold"
    def study(k, n):
        rng = np.random.default_rng(k)
        who = np.repeat(np.arange(n), 2)
        q = expit(-1+1.5*rng.normal(size=n))[who]
        return rng.random(2*n)<q, expit(logit(q)+.3*rng.normal(size=2*n)), who
    at = [.1,.3,.5]
    truth = benefit_table(*study(0, 200_000)[:2], at=at, n_boot=2)
    hits = np.zeros((2,3))
    for k in range(1, 101):
        y,s,who = study(k, 120)
        t = benefit_table(y, s, who, at=at, n_boot=200)
        hits += [(t.low<=truth.benefit)&(truth.benefit<=t.high), (t.more_low<=truth.more)&(truth.more<=t.more_high)]
    assert (hits>=87).all(), hits

def test_net_benefit_of_odd_input():
    "A class that a draw lacks counts nothing, or is left out at a prevalence of its own; five patients are the least; what is no threshold is named"
    y,s = ys(binary(40, seed=2))
    none = benefit_table(y&False, s, at=[.2], n_boot=20).iloc[0]
    assert none.benefit==pytest.approx(-(s>=.2).mean()/4) and none['all']==-.25
    assert np.isnan(benefit_table(y&False, s, at=[.2], prevalence=.1, n_boot=20).benefit[0])
    assert benefit_table(y, s, np.arange(len(y))%4, at=[.2], n_boot=20).low.isna().all()
    for kw,says in ((dict(at=[0]),'not 0'), (dict(at=[.5,1.]),'not 1'), (dict(prevalence=5),'prevalence')):
        with pytest.raises(DataError, match=says): benefit_table(y, s, **kw)
    with pytest.raises(DataError, match='one event'): benefit_table(np.eye(2), np.eye(2))

def test_a_net_of_no_use_is_drawn():
    "Nothing above 0: the axis stands upright, and the band of what has no interval is none"
    t = benefit_table(np.arange(6)%2, np.linspace(.9, .1, 6), at=[.6,.9], n_boot=20)
    assert (t.benefit<0).all() and t.low.notna().any()
    low,high = plot_benefit({'$a$':t, 'b':t}).get_ylim()
    assert low<0<high
