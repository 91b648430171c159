"Statistics against scikit-learn, intervals against simulation, tables and reports against bad input"
import re, warnings
import numpy as np, pandas as pd, pytest
from sklearn import metrics as skm
from scipy.stats import binomtest

from fundus_fastai.core import DataError, read_json
from fundus_fastai.score.metrics import (auc, average_precision, best_threshold, bootstrap, class_aucs, class_estimates, class_metrics,
                                 cohen_kappa, confusion, confusion_estimates, f1, f1_by_class, matthews, mean_abs_error, micro, newcombe,
                                 patient_bootstrap, patient_weights, quadratic_kappa, r_squared, threshold_estimates,
                                 threshold_metrics, wilson)
from fundus_fastai.score.scores import check_predictions, most_wrong, plot_history, read_predictions, score
from fundus_fastai.run.report import Html, card_text, model_card, report_html, to_html, write_report

CLASSES = ['CNV','DME','DRUSEN','NORMAL']
pytestmark = [pytest.mark.filterwarnings('error'), # no warning may be spilled, but for a pipe that another test's process left open
              pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')]


def simulate(patients=60, scans=5, seed=0, skill=3.2, own=1.5, k=4):
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), scans)
    y = (np.arange(patients) % k)[who]
    z = skill*np.eye(k)[y] + own*rng.normal(size=(patients,k))[who] + .7*rng.normal(size=(len(who),k))
    return y, np.exp(z)/np.exp(z).sum(1, keepdims=True), who


@pytest.fixture
def preds():
    y,p,who = simulate(40, 3)
    names = np.array(CLASSES)
    return pd.DataFrame(dict(path=[f'{names[c]}-{w}-{i}.jpeg' for i,(c,w) in enumerate(zip(y,who))], patient=who.astype(str),
                             eye='L', target=names[y], **{f'p_{c}':p[:,i] for i,c in enumerate(names)}))


# statistics
@pytest.mark.parametrize('digits', [1, 2, None])
@pytest.mark.parametrize('seed', range(5))
def test_auc_and_ap_like_sklearn(seed, digits):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 200))
    y,s,w = rng.random(n)<.4, rng.random(n), rng.integers(0, 4, (7,n)).astype(float)
    y[:2] = True,False; w[:,:2] = 1
    if digits: s = s.round(digits)
    np.testing.assert_allclose(auc(y,s), skm.roc_auc_score(y,s), atol=1e-12)
    np.testing.assert_allclose(auc(y,s,w), [skm.roc_auc_score(y,s,sample_weight=o) for o in w], atol=1e-12)
    np.testing.assert_allclose(average_precision(y,s,w), [skm.average_precision_score(y,s,sample_weight=o) for o in w], atol=1e-12)


@pytest.mark.parametrize('k', [2,3,4])
def test_class_metrics_like_sklearn(k):
    y,p,who = simulate(30, 3, seed=k, k=k)
    p = p.round(2); p /= p.sum(1, keepdims=True)
    w = np.concatenate(list(patient_weights(who, 20)))
    got = class_metrics(y, p, w)
    for i,o in enumerate(w):
        if len(set(y[o>0]))<k: assert np.isnan(got['auc'][i]) and np.isnan(got['f1'][i]); continue
        pred = p.argmax(1)
        want = dict(accuracy=skm.accuracy_score(y, pred, sample_weight=o),
                    balanced_accuracy=skm.balanced_accuracy_score(y, pred, sample_weight=o),
                    auc=skm.roc_auc_score(y, p[:,1] if k==2 else p, multi_class='ovr', sample_weight=o),
                    average_precision=skm.average_precision_score(y if k==2 else np.eye(k)[y], p[:,1] if k==2 else p, sample_weight=o),
                    mcc=skm.matthews_corrcoef(y, pred, sample_weight=o), f1=skm.f1_score(y, pred, average='macro', sample_weight=o))
        for c in range(k):
            want[f'sensitivity_{c}'] = skm.recall_score(y==c, pred==c, sample_weight=o)
            want[f'specificity_{c}'] = skm.recall_score(y!=c, pred!=c, sample_weight=o)
        assert set(want)==set(got)
        for name in want: assert got[name][i]==pytest.approx(want[name], abs=1e-12), name


def test_weights_equal_copied_rows():
    y,p,who = simulate(12, 3)
    for w in np.concatenate(list(patient_weights(who, 5))):
        i = np.repeat(np.arange(len(y)), w.astype(int))
        a,b = class_metrics(y, p, w), class_metrics(y[i], p[i])
        for k in a: np.testing.assert_allclose(a[k], b[k], atol=1e-12)


def test_resamples_are_the_same_in_any_blocks_and_any_order():
    y,p,who = simulate(20, 4)
    a = np.concatenate(list(patient_weights(who, 50)))
    assert (a==np.concatenate(list(patient_weights(who, 50, block=200)))).all()
    i = np.random.default_rng(0).permutation(len(y))
    one,two = class_estimates(y,p,who,CLASSES),class_estimates(y[i],p[i],who[i],CLASSES)
    for k in one:
        np.testing.assert_allclose(one[k][:3], two[k][:3], atol=1e-12)
        assert one[k].method==two[k].method
    assert class_estimates(y,p,who,CLASSES,seed=1)!=one


def test_wilson_like_statsmodels():
    for k,n in [(0,12),(12,12),(3,10),(50,51),(1,1)]:
        np.testing.assert_allclose(wilson(k/n, n), binomtest(k, n).proportion_ci(method="wilson"), atol=1e-9)


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
            e = patient_bootstrap(acc, y, p, unit, n=300)
            held[k] += e.low<=truth['accuracy']<=e.high
    assert held['patients']>=87 and held['images']<=86 and held['patients']>held['images']+8, held


def test_a_perfect_net_is_not_certain():
    y,_,who = simulate(48, 2)
    e = class_estimates(y, np.eye(4)[y], who, CLASSES)
    assert e['sensitivity_CNV'].method=='Wilson (12 patients)' and e['sensitivity_CNV'].low==pytest.approx(.7575, abs=1e-3)
    assert e['specificity_CNV'].method=='Wilson (36 patients)' and e['accuracy'].method=='Wilson (48 patients)'
    assert 'Newcombe' in e['auc'].method and .8<e['auc'].low<.95
    assert all(o.value==1 and o.low<1 and o.high==1 for o in e.values())
    two = class_estimates(y[y<2], np.eye(2)[y[y<2]], who[y<2], ['a','b'])
    assert two['auc'].method=='Newcombe (12 v 12 patients)' and two['auc'][1:3]==newcombe(1,12,12)


def test_constant_scores_are_chance():
    y,p,who = simulate(16, 2, k=2)
    e = class_estimates(y, np.full_like(p, .5), who, ['a','b'])
    assert e['auc'].value==.5 and e['auc'].low<.4 and e['auc'].high>.6


def test_one_patient_one_class():
    y,p,who = simulate()
    e = class_estimates(y[:5], p[:5], who[:5], CLASSES)
    assert e['accuracy'].method=='no interval: one patient' and np.isnan(e['accuracy'].low)
    assert e['auc'].method=='undefined: one class only' and np.isnan(e['auc'].value)
    m = y==0
    e = class_estimates(y[m], p[m], who[m], CLASSES)
    assert e['auc'].method=='undefined: one class only' and e['sensitivity_CNV'].method=='patient bootstrap'
    assert e['specificity_DME'].method=='patient bootstrap' and np.isnan(e['specificity_CNV'].value)


def test_lost_resamples_are_counted():
    y,p,who = simulate(8, 3)
    how = class_estimates(y, p, who, CLASSES)['auc'].method
    lost = int(re.search(r'(\d+) of 1000', how)[1])
    assert lost==np.isnan(bootstrap(class_metrics, y, p, who)['auc']).sum()>0


def test_confusion_cells_and_class_aucs():
    y,p,who = simulate()
    t = confusion_estimates(y, p, who, CLASSES)
    assert (t.images.to_numpy().reshape(4,4)==skm.confusion_matrix(y, p.argmax(1))).all()
    assert ((t.low<=t.value)&(t.value<=t.high)).all()
    assert (confusion(y, p.argmax(1), 4)==skm.confusion_matrix(y, p.argmax(1))).all()
    a = class_aucs(y, p, who, CLASSES)
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
                  (mean_abs_error,y,s), (r_squared,y,s), (lambda a,b,w: matthews(confusion(a, b.argmax(1), 3, w)),y,p),
                  (lambda a,b,w: micro(auc, a, b, w),np.eye(3)[y],p), (lambda a,b,w: cohen_kappa(confusion(a, b.argmax(1), 3, w)),y,p),
                  (lambda a,b,w: micro(average_precision, a, b, w),np.eye(3)[y],p), (odd,y,p)]:
        np.testing.assert_allclose(bootstrap(f, a, b, who, 60, seed), f(a, b, w), atol=1e-12)
        np.testing.assert_allclose(bootstrap(f, a, b, who, 60, seed, block=900), f(a, b, w), atol=1e-12)
    for k,v in class_metrics(y, p, w).items():
        np.testing.assert_allclose(bootstrap(class_metrics, y, p, who, 60, seed)[k], v, atol=1e-12)


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
    v = bootstrap(metric, y, p, who, 20)
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
    np.testing.assert_allclose(bootstrap(auc, y, s, who, 2), [skm.roc_auc_score(y, s, sample_weight=o) for o in w], atol=1e-12)


@pytest.mark.parametrize('k', [2,4])
def test_metrics_of_a_matrix_like_sklearn(k):
    rng = np.random.default_rng(k)
    for _ in range(5):
        y,a,w = rng.integers(0, k, 60),rng.integers(0, k, 60),rng.integers(0, 3, 60)
        cm = confusion(y, a, k, w)
        assert matthews(cm)==pytest.approx(skm.matthews_corrcoef(y, a, sample_weight=w), abs=1e-12)
        np.testing.assert_allclose(f1_by_class(cm), skm.f1_score(y, a, average=None, sample_weight=w), atol=1e-12)
        for o in (None,'linear','quadratic'):
            assert cohen_kappa(cm, o or 'none')==pytest.approx(skm.cohen_kappa_score(y, a, weights=o, sample_weight=w), abs=1e-12)
        assert quadratic_kappa(cm)==cohen_kappa(cm, 'quadratic')
        onehot = np.eye(k)[y]; p = rng.random((60,k)).round(1)
        assert micro(auc, onehot, p, w)==pytest.approx(skm.roc_auc_score(onehot, p, average='micro', sample_weight=w))
        assert micro(average_precision, onehot, p)==pytest.approx(skm.average_precision_score(onehot, p, average='micro'))
        assert micro(f1, onehot, p>.5)==pytest.approx(skm.f1_score(onehot, p>.5, average='micro'))
    assert np.isnan(matthews(np.diag([4,0]))) and matthews(np.array([[0,4],[0,3]]))==0 and np.isnan(cohen_kappa(np.diag([4,0])))


def test_mcc_and_f1_at_the_ends():
    y,_,who = simulate(48, 2)
    e = class_estimates(y, np.eye(4)[y], who, CLASSES)
    assert e['mcc'].method=='Wilson (12 patients)' and e['mcc'][1:3]==wilson(1, 12) and e['f1'].method=='Wilson (48 patients)'
    same = class_estimates(y, np.eye(4)[y*0], who, CLASSES) # the net always says CNV
    assert same['mcc'].value==0 and same['mcc'].method.startswith('no interval')
    two = y[y<2]
    worst = class_estimates(two, np.eye(2)[1-two], who[y<2], ['a','b'])
    assert worst['mcc'].value==-1 and np.isnan(worst['mcc'].low)
    assert class_estimates(y[:2], np.eye(4)[y[:2]], who[:2], CLASSES)['mcc'].method=='undefined: one class only'
    lost = class_estimates(y[y!=2], np.eye(4)[y[y!=2]], who[y!=2], CLASSES)
    assert lost['f1'].method=='undefined: no image of DRUSEN' and lost['mcc'].value==1


def test_a_threshold_from_validation():
    (vy,vp,_),(y,p,who) = simulate(seed=1, k=2),simulate(seed=2, k=2)
    t = best_threshold(vy==1, vp[:,1], ('sensitivity', .9))
    assert skm.recall_score(vy, vp[:,1]>t)>=.9
    e = threshold_estimates(y==1, p[:,1], who, t, n=300)
    hit = p[:,1]>t
    want = dict(sensitivity=skm.recall_score(y, hit), specificity=skm.recall_score(y, hit, pos_label=0), accuracy=skm.accuracy_score(y, hit),
                balanced_accuracy=skm.balanced_accuracy_score(y, hit), mcc=skm.matthews_corrcoef(y, hit), f1=skm.f1_score(y, hit))
    for k,v in want.items(): assert e[k].value==pytest.approx(v) and e[k].low<v<e[k].high, k
    assert threshold_metrics(y==1, p[:,1], None, .5)['accuracy']==class_metrics(y, p)['accuracy']
    all_hit = threshold_estimates(y==1, p[:,1], who, -1., n=50)
    assert (all_hit['sensitivity'].value,all_hit['specificity'].value,all_hit['mcc'].value)==(1,0,0)
    assert all_hit['specificity'].method=='Wilson (30 patients)' and all_hit['specificity'].low==0<all_hit['specificity'].high
    ill = y==1
    assert threshold_estimates(ill[ill], p[ill,1], who[ill], t, n=50)['specificity'].method=='undefined: one class only'


def test_missing_scores_are_not_guessed():
    y,p,who = simulate(20, 2, k=2)
    bad = np.where(np.arange(40)[:,None]<3, np.nan, p)
    for f in (lambda: auc(y==1, bad[:,1]), lambda: average_precision(y==1, bad[:,1]), lambda: best_threshold(y==1, bad[:,1]),
              lambda: threshold_metrics(y==1, bad[:,1]), lambda: class_metrics(y, bad), lambda: class_estimates(y, bad, who, ['a','b']),
              lambda: bootstrap(auc, y==1, bad[:,1], who, 5)):
        with pytest.raises(DataError, match='3 of 40'): f()


def test_fast():
    from time import perf_counter
    y,p,who = simulate(200, 5)
    t = perf_counter(); class_estimates(y, p, who, CLASSES)
    assert perf_counter()-t < 4 # .2 s on an idle core; a busy machine gets room


# tables of predictions
def test_right_in_any_order(preds):
    a,b = score(preds), score(preds[preds.columns[::-1]].sample(frac=1, random_state=0))
    for k in a.metrics: assert a.metrics[k]['value']==pytest.approx(b.metrics[k]['value'], abs=1e-12)
    assert b.classes==CLASSES


@pytest.mark.parametrize('change,words', [
    (lambda d: d.assign(p_CNV=np.nan), 'not a number in 120 of 120 rows'),
    (lambda d: d.assign(p_CNV='x'), 'not a number'),
    (lambda d: d.assign(p_CNV=-.5), 'outside 0 to 1'),
    (lambda d: d.assign(p_CNV=d.p_CNV/2), 'do not sum to one'),
    (lambda d: d.assign(target='AMD'), 'target AMD has no column p_AMD'),
    (lambda d: d.assign(path='a.png'), 'more than one row: a.png'),
    (lambda d: d.assign(patient=None), 'patient is missing in 120 of 120 rows'),
    (lambda d: d.assign(target=''), 'target is missing'),
    (lambda d: d.drop(columns='target'), 'no column target'),
    (lambda d: d.drop(columns=['p_DME','p_DRUSEN','p_NORMAL']), 'at least two classes'),
    (lambda d: d[:0], 'no rows'),
    (lambda d: pd.concat([d, d[['p_CNV']]], axis=1), 'p_CNV occurs twice'),
])
def test_bad_tables(preds, change, words, tmp_path):
    with pytest.raises(DataError, match=words): check_predictions(change(preds))
    if 'twice' in words: return
    change(preds).to_csv(tmp_path/'x.csv', index=False)
    with pytest.raises(DataError, match=words): read_predictions(tmp_path/'x.csv')


def test_bad_files(tmp_path, preds):
    with pytest.raises(DataError, match='does not exist'): read_predictions(tmp_path/'no.csv')
    for name,b in [('empty.csv',b''), ('bin.csv',b'\x00\xff\xfe\x81\x82'), ('one.csv',b'hello\n')]:
        (tmp_path/name).write_bytes(b)
        with pytest.raises(DataError, match=name): read_predictions(tmp_path/name)
    with pytest.raises(DataError, match='not for A, B'): score(preds, ['A','B'])


def test_files_give_the_same_numbers(preds, tmp_path):
    s = score(preds.astype({f'p_{c}':'float32' for c in CLASSES}), task='oct', source='local', arch='resnet50')
    s.save(tmp_path/'run')
    m = read_json(tmp_path/'run'/'metrics.json')
    assert list(m)[:7]==['task','source','arch','split','n_images','n_patients','metrics']
    assert (m['n_images'],m['n_patients'])==(120,40) and set(m['metrics']['auc'])=={'value','low','high','method'}
    back = score(read_predictions(tmp_path/'run'/'predictions.csv'), task='oct', source='local', arch='resnet50').to_json()
    for k,v in m['metrics'].items():
        for e in ('value','low','high'): assert back['metrics'][k][e]==pytest.approx(v[e], abs=1e-6)


def test_names_stay_names(preds, tmp_path):
    d = preds.rename(columns={'p_CNV':'p_0','p_DME':'p_NA'}).replace({'target':{'CNV':'0','DME':'NA'}}).assign(patient='00'+preds.patient)
    d.to_csv(tmp_path/'p.csv', index=False)
    got = read_predictions(tmp_path/'p.csv')
    assert {'0','NA'}<set(got.target) and got.patient[0]=='000'


def test_text_faces(preds):
    s = score(preds, source='phantom')
    assert 'PHANTOM' in str(s) and 'PHANTOM' in s._repr_html_() and 'PHANTOM' not in str(score(preds))
    one = score(preds[:3])
    assert one.to_json()['metrics']['auc']==dict(value=None, low=None, high=None, method='undefined: one class only')
    assert 'undefined' in str(one)
    w = most_wrong(s, 5)
    assert (w.target!=w.predicted).all() and w.p_target.is_monotonic_increasing


# reports
LOADS = r'(?:src|href|srcset|action|data)\s*=\s*"(?!data:)[^"]*"|<script|<link|<iframe|@import|url\(|https?://'

def snow(path): return np.random.default_rng(len(path)).integers(0, 255, (20,30), dtype=np.uint8)

def test_report_is_one_file(preds, tmp_path):
    s = score(preds, source='phantom', task='oct', arch='resnet50')
    h = pd.DataFrame(dict(epoch=[0,1], train_loss=[1,.5], valid_loss=[1,.6], accuracy=[.5,.6]))
    f = write_report(tmp_path/'r', s, history=h, read=snow, sections=[('Maps','text',[(snow('a'),'a map')])], date='2026-01-31')
    text = f.read_text(encoding='utf-8')
    assert f.name=='report.html' and not re.findall(LOADS, text)
    assert text.count('<figcaption>')==text.count('>PHANTOM</span>')>=8 and 'Not a medical device' in text
    assert f'{s.n_images} images of {s.n_patients} patients' in text
    again = write_report(tmp_path/'b.html', s, history=h, read=snow, sections=[('Maps','text',[(snow('a'),'a map')])], date='2026-01-31')
    assert again.read_text(encoding='utf-8')==text
    assert 'PHANTOM' not in report_html(score(preds, source='local'))


def test_report_escapes(preds, tmp_path):
    evil = '<script>alert(1)</script>"><img src=x onerror=1>'
    d = preds.assign(path=[f'{i}{evil}$\\frac' for i in range(len(preds))], patient=preds.patient+evil)
    d = d.rename(columns={'p_CNV':'p_<b>$x_'}).replace({'target':{'CNV':'<b>$x_'}})
    s = score(d, task=evil, arch=evil, source=evil)
    h = pd.DataFrame({'epoch':[0,1], 'train_loss':[1.,.5], '<i>$a':[.1,.2]})
    text = report_html(s, title=evil, question=evil, note=evil, history=h, config={evil:evil}, read=snow,
                       splits=pd.DataFrame({'split':[evil]}), sections=[(evil, evil, [(snow('a'), evil)])])
    assert not re.findall(r'<script|<img src=x|<b>\$x', text)
    assert '<script' not in card_text(s, title=evil)
    assert to_html(Html('<b>x</b>'))=='<b>x</b>' and to_html('<b>')=='<p>&lt;b&gt;</p>'


def test_report_of_poor_data(preds):
    def gone(path): raise FileNotFoundError(path)
    assert 'cannot be read' in report_html(score(preds), read=gone)
    assert 'undefined: one class only' in report_html(score(preds[:3]))
    perfect = preds.assign(**{f'p_{c}': (preds.target==c).astype(float) for c in CLASSES})
    assert 'No image of this test set was read wrongly' in report_html(score(perfect))


def test_card(preds, tmp_path):
    s = score(preds, source='phantom', task='oct', arch='resnet50')
    text = model_card(tmp_path, s, config=dict(size=224)).read_text()
    for o in ('PHANTOM', 'Not a medical device', f"{s.metrics['auc']['value']:.3f}", '120 images of 40 patients', 'load_model', '"size": 224'):
        assert o in text, o


def test_history_of_nothing_and_one_epoch():
    from matplotlib.figure import Figure
    for h in [pd.DataFrame(dict(epoch=[0], train_loss=[1.], valid_loss=[np.nan])), pd.DataFrame(dict(epoch=[0]))]:
        plot_history(h, ax=Figure().subplots()), plot_history(h, 'metrics', ax=Figure().subplots())
