"Many nets side by side: one split, one budget, picks by validation, and nothing lost when one fails or somebody stops"
import errno, shutil
from functools import partial
from pathlib import Path
import cv2, matplotlib.pyplot as plt, numpy as np, pandas as pd, pytest, timm, torch
from matplotlib.text import Text
from sklearn.metrics import accuracy_score, roc_auc_score
from fundus_fastai.run import compare as C, report, train as T
from fundus_fastai.run.compare import (SIXTEEN, Comparison, compare_nets, pick_nets,
                                       plot_comparison, read_comparison, run_folder, _apart)
from fundus_fastai.vision import profile
from fundus_fastai.vision.profile import net_facts
from fundus_fastai.options import CompareOptions
from fundus_fastai.core import DataError, EyeError, LeakError, read_json, write_json
from fundus_fastai.score.kinds import CATEGORY, kinds, read_predictions
from fundus_fastai.vision.steps import load_frame, split_frame
from fundus_fastai.vision.model import load_model, read_config
from fundus_fastai.run.folder import finished

torch.set_num_threads(1)
LABELS = ('haze','drusen')
TWO = ['test_resnet','test_efficientnet']
FAST = dict(weights='none', size=32, bs=8, epochs=1, workers=0)

def eye(i, side, size=64):
    "A made-up eye: its color tells the number, a bright spot its side"
    im = np.zeros((size,size+24,3), np.uint8)
    cv2.circle(im, (size//2+12,size//2), size//2-4, (90+i%8*15,60,30+i%5*10), -1)
    cv2.circle(im, (size//2+12+(14 if side=='R' else -14),size//2), 5, (255,230,160), -1)
    return im

@pytest.fixture(scope='module', autouse=True)
def light():
    "Reports are half of a small run's time: only the first of this file is drawn"
    real,drawn = report.Report.html,[]
    def html(self):
        if drawn: return '<html>fundus_fastai</html>'
        drawn.append(real(self))
        return drawn[0]
    with pytest.MonkeyPatch.context() as m:
        m.setattr(report.Report, 'html', html)
        m.setattr(profile, 'images_a_second', partial(profile.images_a_second, seconds=.01)) # no test reads how fast a net is
        yield

@pytest.fixture(scope='module')
def table(tmp_path_factory):
    "A CSV of 72 eyes of 36 people with every kind of target"
    d = tmp_path_factory.mktemp('eyes')
    rng,rows = np.random.default_rng(0),[]
    for i in range(72):
        side,p = 'LR'[i%2],i//2
        cv2.imwrite(str(d/f'{i}.png'), eye(i, side)[...,::-1])
        rows.append(dict(path=f'{i}.png', patient=f'p{p}', eye=side, sex='FM'[p%2], age=40+p, grade=[0,0,2,1][p%4],
                         haze=p%2, drusen=int(p%3==0), kind=['a','b','c'][p%3]))
    pd.DataFrame(rows).to_csv(d/'eyes.csv', index=False)
    return d/'eyes.csv'

def frame(table, task='anomaly', label='haze', **kw):
    return split_frame(load_frame(task, table, label=label, **kw), by='rarest' if task=='diseases' else 'label')

@pytest.fixture(scope='module')
def df(table): return frame(table)

@pytest.fixture(scope='module')
def whole(df, tmp_path_factory):
    "Two nets, two seeds, two epochs, never interrupted"
    out = tmp_path_factory.mktemp('whole')/'cmp'
    return out, compared(df, 'anomaly', TWO, out, **{**FAST, 'epochs':2}, seeds=(1,2))

@pytest.fixture(scope='module')
def quick(df, tmp_path_factory):
    "Two nets, one seed, one epoch"
    out = tmp_path_factory.mktemp('quick')/'cmp'
    return out, compared(df, 'anomaly', TWO, out, **FAST)

OWN = ('out','resume','force','allow_leak')
def compared(df, task, archs, out, **kw):
    "`compare_nets`, options by name"
    own = {k:kw.pop(k) for k in OWN if k in kw}
    return compare_nets(df, task, archs, opts=CompareOptions(**kw), out=out, **own)

def copied(whole, to):
    shutil.copytree(whole[0], to)
    return to

def scores(out): return {f'{o.parent.name}/{o.name}': o.read_bytes() for k in ('validation','predictions') for o in out.glob(f'*-?/{k}.csv')}

# --- every kind of answer

QUESTIONS = {'anomaly':'haze', 'disease':'kind', 'diseases':','.join(LABELS), 'age':None, 'sex_age':None, 'dr':None, 'dr_ordered':None}

slow = pytest.mark.slow # one task of each kind is quick enough for every day

@pytest.mark.parametrize('task', [o if o in ('anomaly','diseases','age') else pytest.param(o, marks=slow) for o in QUESTIONS])
def test_every_kind_agrees_with_its_own_scorer(table, task, tmp_path, request):
    "The number that is compared is the one that the run itself reports, by every metric of its kind"
    if task=='anomaly': out,c = request.getfixturevalue('quick')
    else: c = compared(frame(table, task, QUESTIONS[task]), task, TWO, out := tmp_path/'c', **FAST)
    assert not len(c.failed) and c.metric==c.kind.compared[0] and c.side=='test'
    for k in c.kind.compared:
        r = read_comparison(out, k, n_boot=50)
        for o in r.nets.itertuples():
            m = read_json(out/f'{o.arch}-42'/'metrics.json')['metrics'][k]
            assert o.test==pytest.approx(m['value'], abs=1e-6), (k, o.arch)
            assert o.valid==o.valid and (np.isnan(o.test_low) or o.test_low<=o.test<=o.test_high)
    assert {c.most_accurate, c.light} <= set(TWO)
    for o in ('most_accurate','light'):
        assert load_model(out/o).config['arch']==getattr(c, o)
    assert c._repr_html_() and str(c)

def test_kinds_are_those_of_the_tasks(df):
    from fundus_fastai.vision.tasks import tasks
    assert {t.kind for t in tasks.values()} == set(kinds.values()) and all(k.compared for k in kinds.values())

def test_interval_is_the_runs_own(quick):
    "One seed: value and interval are those of `metrics.json`"
    r = read_comparison(quick[0], 'balanced_accuracy').nets.set_index('arch').loc[TWO[0]]
    m = read_json(run_folder(quick[0], TWO[0], 42)/'metrics.json')['metrics']['balanced_accuracy']
    assert (r.test_low,r.test_high)==pytest.approx((m['low'],m['high']))

# --- the same for all

def test_the_same_split_for_all(whole, df):
    out,c = whole
    assert len({o.read_bytes() for o in [out/'split.csv', *out.glob('*-?/split.csv')]})==1 and len(list(out.glob('*-?/split.csv')))==4
    split = pd.read_csv(out/'split.csv', dtype=str)
    for o in out.glob('*-?'):
        for k,f in (('valid','validation.csv'),('test','predictions.csv')):
            assert sorted(read_predictions(o/f).path)==sorted(split.path[split.split==k])

def test_answers_to_other_images_rank_nobody(whole, tmp_path):
    "A readout's validation.csv holds training images, too: those of the validation side count, and no other"
    out = copied(whole, tmp_path/'c')
    f = run_folder(out, TWO[0], 1)/'validation.csv'
    valid,test = pd.read_csv(f, dtype=dict(path=str, patient=str)),pd.read_csv(f.with_name('predictions.csv'), dtype=dict(path=str, patient=str))
    split = pd.read_csv(out/'split.csv', dtype=str)
    more = test.head(9).assign(path=split.path[split.split=='train'].head(9).to_numpy())
    pd.concat([more, valid]).to_csv(f, index=False)
    c = read_comparison(out)
    pd.testing.assert_frame_equal(c.nets, read_comparison(whole[0]).nets)
    assert c.counts['valid'][0]==len(valid)

def test_seeds_are_averaged_and_trained_apart(whole):
    out,c = whole
    runs = c.runs.set_index(['arch','seed'])
    assert len(scores(out))==len(set(scores(out).values()))==8
    for r in c.nets.itertuples():
        assert r.valid==pytest.approx(runs.valid[r.arch].mean()) and r.test==pytest.approx(runs.test[r.arch].mean())
        assert (r.test_seed_min,r.test_seed_max)==(runs.test[r.arch].min(),runs.test[r.arch].max())

def test_the_best_seed_by_validation_is_exported(whole):
    out,c = whole
    r = c.runs[c.runs.arch==c.most_accurate].sort_values('valid', ascending=False).iloc[0]
    assert (out/'most_accurate'/'model.safetensors').read_bytes()==(out/f'{r.arch}-{r.seed}'/'model.safetensors').read_bytes()
    card = (out/'most_accurate'/'README.md').read_text()
    assert card.startswith('---\n') and card.split('\n---\n')[1].startswith('> Chosen as **most accurate** of 2 nets') and 'mean over seeds 1 2' in card

def test_costs(whole):
    out,c = whole
    for r in c.runs.itertuples():
        d = out/f'{r.arch}-{r.seed}'
        n = sum(p.numel() for p in load_model(d).model.parameters())
        assert r.parameters==n and r.file_mb==(d/'model.safetensors').stat().st_size/1e6 and r.macs>0
        assert r.train_images_s>0 and r.infer_images_s>0 and r.epochs==2 and r.bs==8 and r.device.startswith('CPU')
        assert r.memory_mb>50 and 'process' in r.memory_of
        f = net_facts(r.arch, 2, 32, pretrained=False)
        header = (r.file_mb-f['file_mb'])*1e6 # names and places of the tensors
        assert (f['parameters'],f['macs'])==(r.parameters,r.macs) and 0<header<150*len(load_model(d).model.state_dict())

def test_sixteen_have_imagenet_weights_and_no_other():
    tags = {o: timm.get_pretrained_cfg(o) for o in SIXTEEN}
    assert len(tags)==16 and all(o.tag.endswith('in1k') and (o.hf_hub_id or o.url) for o in tags.values()), tags
    assert not [o.tag for o in tags.values() if 'jft' in o.tag or '12k' in o.tag or '22k' in o.tag]

# --- the choice

def remade(out, arch, seed, file, right):
    "Rewrite predictions so that a share `right` of the images is answered rightly"
    f = run_folder(out, arch, seed)/file
    t = read_predictions(f)
    good = np.arange(len(t))<round(right*len(t))
    one,two = [c for c in t if c.startswith('p_')]
    p = np.where((t.target==one[2:])==good, .9, .1)
    t.assign(**{one:p, two:1-p}).to_csv(f, index=False)

def test_validation_chooses_even_where_test_disagrees(whole, tmp_path):
    out = copied(whole, tmp_path/'c')
    a,b = TWO
    for s in (1,2):
        for arch,v,t in ((a,.9,.5),(b,.6,.95)):
            remade(out, arch, s, 'validation.csv', v); remade(out, arch, s, 'predictions.csv', t)
    c = read_comparison(out, 'accuracy')
    n = c.nets.set_index('arch')
    assert n.test[b]>n.test[a]+.3 and n.valid[a]>n.valid[b]+.2
    assert c.most_accurate==c.light==a and c.nets.arch[0]==a and c.nets.picked.tolist()==['most accurate and light','']
    assert n.difference[b]==pytest.approx(n.test[b]-n.test[a]) and n.difference_low[b]>=0 and n.p_holm[b]<.2 # of six patients
    assert np.isnan(n.difference[a])
    C.save_comparison(c, out)
    assert read_config(out/'most_accurate')['arch']==a

def test_the_light_one_lies_within_one_standard_error():
    t = pd.DataFrame(dict(arch=list('abcd'), valid=[.90,.884,.886,.95], valid_se=[.01,.5,.5,.065], file_mb=[9,1,3,50.]))
    assert pick_nets(t)==('d','c')      # .885 is the bar: the standard error of the best counts, not that of the others
    assert pick_nets(t[:3])==('a','a')
    assert pick_nets(t.assign(valid=[5.,4,3,9], valid_se=1.), 'mae')==('c','b')
    assert pick_nets(t.assign(valid_se=np.nan))==('d','d')

def test_of_nets_that_are_as_good_the_smaller_is_best():
    t = pd.DataFrame(dict(arch=list('abc'), valid=[.9,.9,.8], valid_se=0., file_mb=[5,2,1.]))
    assert pick_nets(t)==('b','b') and pick_nets(t.assign(valid_se=.2))==('b','c')
    assert pick_nets(t.assign(valid=[np.nan,.7,.8]))==('c','c') and pick_nets(t.assign(valid=np.nan))==(None,None) # that failed

@pytest.mark.parametrize('metric,own', [('accuracy', lambda t: accuracy_score(t.target=='b', t.p_b>.5)), ('auc', lambda t: roc_auc_score(t.target=='b', t.p_b))])
def test_a_side_is_the_mean_of_seeds_by_scikit_learn(tmp_path, metric, own):
    "Rows in any order, those of the side alone; what is about other images, or other truths, is refused"
    rng = np.random.default_rng(0)
    t = pd.DataFrame(dict(path=[f'{i:02}.png' for i in range(60)], patient=[f'p{i//2}' for i in range(60)], eye=None, target=rng.choice(['a','b'], 60)))
    side,seeds = C._Side(CATEGORY, metric, t.path[:50]),[]
    def put(df): df.to_csv(tmp_path/'t.csv', index=False); return side.add('net', tmp_path/'t.csv', None)
    for noise in (.1, .5, 3):
        p = 1/(1+np.exp(-(t.target=='b')+.5+noise*rng.normal(size=60)))
        seeds.append(t.assign(p_a=1-p, p_b=p))
        assert put(seeds[-1].sample(frac=1, random_state=0))==pytest.approx(own(seeds[-1][:50]))
    e,se = side.score('net', 200)
    assert e.value==pytest.approx(np.mean([own(o[:50]) for o in seeds])) and e.low<e.value<e.high and .01<se<.15
    for bad in (seeds[0][1:], seeds[0].assign(target=seeds[0].target.where(seeds[0].index>0, {'a':'b','b':'a'}[t.target[0]]))):
        with pytest.raises(DataError, match='other images or targets'): put(bad)

def test_a_mean_auc_is_always_over_the_same_labels():
    "A resample that lacks a label has none: what scatters would else be which labels are in it"
    rng = np.random.default_rng(0)
    y = np.c_[rng.random(60)<.4, np.arange(60)<1, np.zeros(60)]
    p,w = rng.random((60,3)),np.ones((2,60))
    w[1,0] = 0
    v = C._mean_auc(y, p, w)
    assert v[0]==C._mean_auc(y, p)==pytest.approx(np.mean([C.auc(y[:,i], p[:,i]) for i in (0,1)])) and np.isnan(v[1])
    assert np.isnan(C._mean_auc(y*0, p, w)).all()

def test_holm_counts_all_nets(whole, tmp_path, df):
    "Three nets against the best: the least p is tripled"
    out = copied(whole, tmp_path/'c')
    m = read_json(out/'comparison.json')
    for k in (3,4):
        for s in (1,2): shutil.copytree(run_folder(out, TWO[0], s), run_folder(out, f'copy{k}', s))
    write_json(out/'comparison.json', m|dict(archs=[*TWO,'copy3','copy4']))
    for arch,v,t in ((TWO[0],1,.6),(TWO[1],.5,.9),('copy3',.5,.7),('copy4',.5,.6)):
        for s in (1,2): remade(out, arch, s, 'validation.csv', v); remade(out, arch, s, 'predictions.csv', t)
    n = read_comparison(out, 'accuracy').nets.set_index('arch')
    assert n.p.idxmin()==TWO[1] and n.p_holm[TWO[1]]==pytest.approx(min(1, 3*n.p[TWO[1]]))
    assert n.difference['copy4']==0 and n.p['copy4']==1

def test_without_a_test_side_it_says_so(df, tmp_path):
    c = compared(df[df.split!='test'], 'anomaly', TWO[:1], tmp_path/'c', **FAST)
    assert c.side=='valid' and 'test' not in c.nets and 'flatter' in str(c)

def test_a_readout_is_compared_too(df, tmp_path):
    c = compared(df, 'anomaly', TWO[:1], tmp_path/'c', **FAST, fit='readout')
    assert not len(c.failed) and c.nets.epochs.tolist()==[1] and 'not measured' in str(c) and c._repr_html_()
    assert load_model(tmp_path/'c'/'light').config['taps']

# --- what goes wrong

def test_resumed_is_as_if_never_interrupted(whole, df, tmp_path, monkeypatch, capsys):
    "Ctrl-C in the second epoch of the third run; the finished are not trained again"
    out,n = tmp_path/'c',[]
    class Impatient(C.Watch):
        def after_batch(self):
            super().after_batch()
            if self.training: n.append(len(self.dls.train))
            if len(n)==2*2*n[0]+n[0]+2: raise KeyboardInterrupt # two runs of two epochs, one epoch, two batches
    kw = {**FAST, 'epochs':2, 'seeds':(1,2)}
    with monkeypatch.context() as m:
        m.setattr(C, 'Watch', Impatient)
        with pytest.raises(KeyboardInterrupt): compared(df, 'anomaly', TWO, out, **kw)
    assert '2 of 4 runs' in capsys.readouterr().err and (run_folder(out, TWO[1], 1)/'checkpoints'/'last.safetensors').exists()
    half = read_comparison(out, n_boot=20)
    assert sorted(half.runs.error)==['','','not trained yet','not trained yet'] and half.most_accurate==TWO[0]
    first = {o:o.stat().st_mtime_ns for o in out.glob(f'{TWO[0]}-?/model.safetensors')}
    c = compared(df, 'anomaly', TWO, out, **kw, resume=True)
    assert {o:o.stat().st_mtime_ns for o in first}==first and len(first)==2
    assert scores(out)==scores(whole[0]) and not list(out.glob('*/checkpoints'))
    keep = [k for k in c.nets if k.startswith(('valid','test','diff','p')) and k!='picked']
    pd.testing.assert_frame_equal(c.nets[keep], whole[1].nets[keep])

class Sick(torch.nn.Module):
    "A net that raises when it is asked"
    def __init__(self, body, error, least=0): super().__init__(); self.body,self.error,self.least = body,error,least
    def forward(self, x):
        if len(x)>self.least: raise self.error
        return self.body(x)

@pytest.fixture
def sicken(monkeypatch):
    "Let the body of the net `arch` raise `error` on more than `least` images"
    real = T.make_learner
    def f(arch, error, least=0):
        def make(df, task, opts):
            learn = real(df, task, opts)
            if opts.arch==arch:
                body = learn.model[0]; forward = body.forward
                body.forward = lambda x: forward(x) if len(x)<=least or not learn.model.training else Sick(body, error)(x)
            return learn
        monkeypatch.setattr(T, 'make_learner', make)
    return f

def test_a_failing_net_is_a_row(df, tmp_path, sicken, monkeypatch):
    with monkeypatch.context() as m:
        sicken(TWO[0], ValueError('no eyes today'))
        c = compared(df, 'anomaly', TWO, tmp_path/'c', **FAST)
        assert c.failed.arch.tolist()==[TWO[0]] and 'no eyes today' in c.failed.error.iloc[0]
        assert c.most_accurate==c.light==TWO[1] and 'no eyes today' in str(c) and 'no eyes today' in c._repr_html_()
        t = pd.read_csv(tmp_path/'c'/'compare.csv').set_index('arch')
        assert 'no eyes today' in t.error[TWO[0]] and np.isnan(t.valid[TWO[0]]) and t.valid.notna()[TWO[1]]
    monkeypatch.undo()
    c = compared(df, 'anomaly', TWO, tmp_path/'c', **FAST, resume=True)
    assert not len(c.failed) and c.nets.valid.notna().all() and not list((tmp_path/'c').glob('*/error.json'))

def test_a_table_of_failures_is_names_and_errors():
    c = fake(2, valid=np.nan, test=np.nan, error='seed 1: broken')
    assert c.most_accurate is None and max(map(len, str(c).splitlines()))<150 and 'broken' in str(c)
    assert 'multiply-adds' not in str(c) and 'multiply-adds' not in c._repr_html_()

def test_all_may_fail(df, tmp_path, sicken):
    sicken(TWO[0], ValueError('no eyes today'))
    c = compared(df, 'anomaly', TWO[:1], tmp_path/'c', **FAST)
    assert len(c.failed)==1 and c.most_accurate is None and 'no eyes today' in str(c) and c._repr_html_()
    assert not (tmp_path/'c'/'light').exists() and (tmp_path/'c'/'compare.csv').exists()

def test_out_of_memory_halves_the_batch(df, tmp_path, sicken, capsys):
    sicken(TWO[0], torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 9 GiB'), least=4)
    c = compared(df, 'anomaly', TWO, tmp_path/'c', **{**FAST, 'bs':16})
    n = c.nets.set_index('arch')
    assert not len(c.failed) and (n.bs[TWO[0]],n.bs_asked[TWO[0]],n.bs[TWO[1]])==(4,16,16)
    assert '4 (of 16)' in str(c) and capsys.readouterr().err.count('out of memory')==2
    d = compared(df, 'anomaly', TWO[:1], tmp_path/'d', **{**FAST, 'bs':4})
    assert c.nets.set_index('arch').valid[TWO[0]]==d.nets.valid[0] # as if 4 had been asked for

def test_memory_that_never_suffices_is_a_row(df, tmp_path, sicken):
    sicken(TWO[0], MemoryError())
    c = compared(df, 'anomaly', TWO, tmp_path/'c', **FAST)
    assert 'MemoryError' in c.failed.error.iloc[0] and not (run_folder(tmp_path/'c', TWO[0], 42)/'plan.json').exists()

def test_a_full_disk_stops_everything(df, tmp_path, monkeypatch):
    asked = []
    def train(df, task, o, run, **kw): asked.append(o.arch); raise OSError(errno.ENOSPC, 'No space left on device', str(run))
    monkeypatch.setattr(C, 'train_net', train)
    with pytest.raises(OSError, match='No space'): compared(df, 'anomaly', TWO, tmp_path/'c', **FAST)
    assert asked==TWO[:1]

# --- the budget

def test_minutes_become_whole_epochs(whole, df, tmp_path, monkeypatch):
    "Timing leaves no trace in the result, and the plan holds when resumed on a slower machine"
    def timed(learn): learn.fit(1); return 25. # spoils the learner, as the real one does
    monkeypatch.setattr(C, 'seconds_an_epoch', timed)
    kw = dict(FAST, minutes=1, seeds=(1,))
    c = compared(df, 'anomaly', TWO[:1], tmp_path/'c', **kw)
    assert c.nets.epochs.tolist()==[2]
    told = scores(tmp_path/'c')
    assert len(told)==2 and told.items()<=scores(whole[0]).items() # as if two had been asked for
    for f in ('cost.json','metrics.json'): (run_folder(tmp_path/'c', TWO[0], 1)/f).unlink()
    monkeypatch.setattr(C, 'seconds_an_epoch', lambda learn: 1.)
    assert compared(df, 'anomaly', TWO[:1], tmp_path/'c', **kw, resume=True).nets.epochs.tolist()==[2]

def test_an_epoch_is_reckoned_from_a_few_batches(df, monkeypatch):
    import time
    learn = T.run_learner(df, 'anomaly', CompareOptions(arch=TWO[0], seed=1, **{**FAST, 'bs':4}))
    n,seen = len(learn.dls.train),[]
    forward = learn.model[0].forward
    def slow(x): seen.append(learn.model.training); time.sleep(.05); return forward(x)
    learn.model[0].forward = slow
    sec = C.seconds_an_epoch(learn)
    assert sum(seen)==6<n and .05*(n+len(learn.dls.valid))<sec<.25*(n+len(learn.dls.valid))

# --- bad input

def test_an_unknown_net_is_refused_before_anything_starts(df, tmp_path):
    with pytest.raises(EyeError, match="unknown net 'test_resnett'; did you mean test_resnet"):
        compared(df, 'anomaly', ['test_resnet','test_resnett'], tmp_path/'c', **FAST)
    assert not (tmp_path/'c').exists()

BAD = [(dict(archs=[]), 'no net'), (dict(archs=['test_resnet','test_resnet']), 'more than once'), (dict(seeds=(1,1)), 'different'),
       (dict(seeds='a'), 'whole numbers'), (dict(seeds=()), 'different'), (dict(epochs=0), '`epochs`'), (dict(minutes=-1), '`minutes`'),
       (dict(minutes=float('nan')), '`minutes`'), (dict(bs=1), '`bs`'), (dict(metric='mae'), 'choose auc'), (dict(resume=True, force=True), 'one of them'),
       (dict(balance='asymmetric'), 'does not suit'), (dict(fit='readout', minutes=1), 'a readout'), (dict(task='nonsense'), 'unknown task')]

@pytest.mark.parametrize('kw,words', BAD, ids=lambda o: str(o)[:30])
def test_bad_input(df, tmp_path, kw, words):
    with pytest.raises(EyeError, match=words): compared(df, **{'task':'anomaly', 'archs':TWO, 'out':tmp_path/'c', **FAST, **kw})
    assert not (tmp_path/'c').exists()

def test_bad_frames(df, tmp_path):
    leak = df.assign(split=['train','valid','test']*24)
    for d,kind,words in ((leak,LeakError,'p'), (df.drop(columns='split'),DataError,'split'), (df[df.split!='valid'],DataError,'validation')):
        with pytest.raises(kind, match=words): compared(d, 'anomaly', TWO, tmp_path/'c', **FAST)
    assert not (tmp_path/'c').exists()

def test_a_folder_of_something_else_is_left_alone(df, tmp_path):
    (tmp_path/'mine').mkdir(); (tmp_path/'mine'/'thesis.txt').write_text('years of work')
    for kw in ({}, dict(resume=True), dict(force=True)):
        with pytest.raises(DataError, match='something else'): compared(df, 'anomaly', TWO, tmp_path/'mine', **FAST, **kw)
    with pytest.raises(DataError, match='is a file'): compared(df, 'anomaly', TWO, tmp_path/'mine'/'thesis.txt', **FAST)
    assert [o.name for o in (tmp_path/'mine').iterdir()]==['thesis.txt']

def test_resume_with_other_data_or_options(whole, df, tmp_path):
    out = copied(whole, tmp_path/'c')
    before = {o:o.stat().st_mtime_ns for o in out.rglob('*')}
    kw = dict(task='anomaly', archs=TWO, out=out, **{**FAST, 'epochs':2}, seeds=(1,2))
    with pytest.raises(DataError, match='holds a comparison: pass `resume=True`'): compared(df, **kw)
    other = df.assign(label=np.where(df.label=='normal', 'abnormal', 'normal'))
    for d in (df.iloc[:-1], other, df.assign(split=df.split.replace({'test':'valid','valid':'test'}))):
        with pytest.raises(DataError, match='begun with other data'): compared(d, **kw, resume=True)
    with pytest.raises(DataError, match='epochs 2.*epochs 3'): compared(df, **{**kw, 'epochs':3}, resume=True)
    with pytest.raises(DataError, match='size 32'): compared(df, **{**kw, 'size':64}, resume=True)
    assert {o:o.stat().st_mtime_ns for o in out.rglob('*')}==before

def test_resume_may_add_nets_and_force_begins_again(whole, df, tmp_path):
    out = copied(whole, tmp_path/'c')
    c = compared(df, 'anomaly', ['test_byobnet'], out, **{**FAST, 'epochs':2}, seeds=(2,), resume=True)
    assert c.nets.arch.tolist()!=[] and set(c.nets.arch)=={*TWO,'test_byobnet'} and set(c.nets.seeds)=={'1 2'}
    c = compared(df, 'anomaly', TWO[:1], out, **FAST, force=True)
    assert c.nets.seeds.tolist()==['42'] and sorted(o.name for o in out.glob('*-*'))==[f'{TWO[0]}-42']

def test_a_run_about_other_images_is_noticed(whole, tmp_path):
    out = copied(whole, tmp_path/'c')
    f = run_folder(out, TWO[1], 2)/'predictions.csv'
    t = pd.read_csv(f)
    t.iloc[:-1].to_csv(f, index=False)
    with pytest.raises(DataError, match='other images'): read_comparison(out)

# --- the picture

def fake(n, source='phantom', **kw):
    "A comparison of `n` nets with scores that lie on top of each other"
    v = np.full(n, .9)
    t = pd.DataFrame(dict(arch=[f'net_{i}$x_$' for i in range(n)], file_mb=np.linspace(5, 6, n), picked='', test=v, test_low=v-.02,
                          test_high=v+.02, valid=v, valid_low=v, valid_high=v, seeds='1', device='CPU',
                          memory_of='of the process')).assign(**{'error':'', **kw})
    return Comparison(t, t.assign(error=''), 'auc', CATEGORY, 'oct', source, 'test', dict(valid=(9,3),test=(10,5)))

def test_each_cell_of_the_table():
    "With its unit, a difference with its sign, a batch that had to be made smaller, seeds where there are some"
    costs = dict(parameters=[25.6e6,743], file_mb=[98.04,1234.5], macs=[4.1e9,3.2e6], train_images_s=[12.34,1], infer_images_s=1234.6, memory_mb=2048.4, minutes=.5, epochs=6)
    diff = dict(difference=[np.nan,-.0126], difference_low=[np.nan,-.03], difference_high=[np.nan,.004], p=[np.nan,.0004], p_holm=[np.nan,.25])
    c = fake(2, **costs, **diff, bs=[8,16], bs_asked=16, seeds=['1 2','1'], test_seed_min=.881, test_seed_max=.92, picked=['most accurate and light',''])
    t = C._shown(c)
    assert t.iloc[0].tolist()==['net_0$x_$', 'most accurate and light', '0.900 (0.900 to 0.900)', '0.900 (0.880 to 0.920)', '0.881 to 0.920', '', '', '', '25.6 M', '98.0',
                                '4.1 G', '12.3', '1,235', '2,048', '0.50', '6', '8 (of 16)']
    assert t.iloc[1].to_dict() | {'net':'', 'minutes':''}=={'net':'', 'picked':'', 'valid: AUC':'0.900 (0.900 to 0.900)', 'test: AUC':'0.900 (0.880 to 0.920)', 'by seed':'',
        'minus best':'-0.013 (-0.030 to +0.004)', 'p':'<0.001', 'p, Holm':'0.250', 'parameters':'743', 'file, MB':'1,234.5', 'multiply-adds':'3.2 M',
        'training, images/s':'1.0', 'net alone, images/s':'1,235', 'memory, MB':'2,048', 'minutes':'', 'epochs':'6', 'batch':'16'}
    assert 'error' not in t and C._shown(fake(2, error=['','seed 2: broken'])).error.tolist()==['','seed 2: broken']

def labels(ax): return [o for o in ax.texts if o.get_text()!='PHANTOM DATA']

@pytest.mark.parametrize('n', [1,2,5,16])
def test_labels_do_not_overlap(n):
    c = fake(n)
    c.nets.loc[0,'picked'] = 'most accurate and light'
    ax = plot_comparison(c)
    ax.figure.canvas.draw()
    b = [Text.get_window_extent(o) for o in labels(ax)]
    assert len(b)==n and not [(i,j) for i in range(n) for j in range(i) if b[i].overlaps(b[j])]
    whole_fig = ax.figure.get_window_extent()
    assert all(whole_fig.x0<=o.x0 and o.x1<=whole_fig.x1 and whole_fig.y0<=o.y0 and o.y1<=whole_fig.y1 for o in b)
    assert labels(ax)[0].get_text()=='net_0$x_$ (most accurate and light)' and ax.get_xscale()=='log'
    assert [o.xy for o in labels(ax)]==[(r.file_mb,r.test) for r in c.nets.itertuples()]
    plt.close('all')

def test_picture_says_phantom_and_only_then():
    for source,n in (('phantom',1),('local',0)):
        ax = plot_comparison(fake(3, source))
        assert sum(o.get_text()=='PHANTOM DATA' for o in ax.texts)==n
        assert ('PHANTOM DATA' in fake(3, source)._repr_html_())==bool(n)==('PHANTOM DATA' in str(fake(3, source)))
    assert ax.get_title(loc='left')=='oct: 10 test images of 5 patients, 95 % intervals'
    plt.close('all')

def test_picture_without_intervals_and_without_nets():
    assert len(labels(plot_comparison(fake(3, test_low=np.nan, test_high=np.nan))))==3
    assert labels(plot_comparison(fake(0)))==[]
    plt.close('all')

def test_labels_keep_apart():
    rng = np.random.default_rng(0)
    for _ in range(50):
        want,gap = rng.random(8),.09
        got = _apart(want, gap)
        assert (np.diff(np.sort(got))>=gap-1e-9).all() and got.min()>=0 and got.max()<=1+1e-9
        assert (np.argsort(got, kind='stable')==np.argsort(want, kind='stable')).all()
    assert _apart([.1,.5,.9], .1).round(9).tolist()==[.1,.5,.9]

def test_error_text_cannot_break_out_of_the_page():
    c = fake(2, error='<script>alert(1)</script>')
    assert '<script>' not in c._repr_html_()

@pytest.mark.parametrize('name', ['save_split','export_net'])
def test_killed_between_its_files(df, tmp_path, monkeypatch, name):
    "Whatever lies there is known as a comparison, and gone on with"
    out = tmp_path/'c'
    with monkeypatch.context() as m:
        def stop(*args, **kw): raise KeyboardInterrupt
        m.setattr(C, name, stop)
        with pytest.raises(KeyboardInterrupt): compared(df, 'anomaly', TWO[:1], out, **FAST, seeds=(1,))
    assert C.check_comparison(out, resume=True)==C.check_comparison(out, force=True)==out
    (out/f'{TWO[0]}-1/checkpoints').mkdir(parents=True, exist_ok=True) # nor had these been removed
    (out/f'{TWO[0]}-1/checkpoints/last.safetensors').touch()
    if name=='save_split': shutil.rmtree(out/f'{TWO[0]}-1')
    c = compared(df, 'anomaly', TWO[:1], out, **FAST, seeds=(1,), resume=True)
    assert not len(c.failed) and (out/'split.csv').exists() and not list(out.glob('*/checkpoints'))

def test_an_export_of_which_a_kill_left_half_is_no_model(df, whole, tmp_path, monkeypatch):
    "Over an earlier export: the old card goes first, and the new one comes last"
    out,c = Path(shutil.copytree(whole[0], tmp_path/'c')),whole[1]
    assert finished(out/'light')
    for n in range(1, 10):
        left,real = [n],C.whole_file
        def some(path):
            if not left[0]: raise KeyboardInterrupt
            left[0] -= 1
            return real(path)
        with monkeypatch.context() as m:
            m.setattr(C, 'whole_file', some)
            with pytest.raises(KeyboardInterrupt): C.export_net(c, 'light', out)
        assert not (out/'light/README.md').exists() and not finished(out/'light')
    C.export_net(c, 'light', out)
    assert finished(out/'light')


def test_a_validation_side_of_one_class_picks_nothing(df, quick, tmp_path):
    "It is refused before anything is trained; files of such a comparison are read all the same (it had been a KeyError)"
    one = df.assign(label=df.label.mask(df.split=='valid', df.label.iloc[0]))
    with pytest.raises(DataError, match='validation shows no image of'): C._check_frame(one, 'anomaly', False, 'auc')
    C._check_frame(one, 'anomaly', False, 'accuracy')
    for f in copied(quick, tmp_path/'c').glob('*-42/validation.csv'):
        t = pd.read_csv(f, dtype=str)
        t.assign(target=t.target.iloc[0]).to_csv(f, index=False)
    c = read_comparison(tmp_path/'c', n_boot=20)
    assert c.most_accurate is None and 'Nothing was picked' in str(c) and c._repr_html_()

@pytest.mark.parametrize('odd,says', [(dict(archs=None), 'archs'), (dict(n='x', tested=None), 'n, tested'), ([], 'task, kind')])
def test_a_damaged_comparison_is_a_sentence(tmp_path, odd, says):
    "It was an error that nobody had foreseen"
    m = dict(task='oct', kind='category', source='phantom', data='x', data_hash='0', archs=['a'], seeds=[1], n=9, tested=True)
    write_json(tmp_path/'comparison.json', m|odd if odd else odd)
    with pytest.raises(DataError, match=f'comparison.json has no usable {says}'): read_comparison(tmp_path)
