"The readout of a frozen net: what thresholds are chosen by, and who is met where"
from shutil import copytree
import cv2, numpy as np, pandas as pd, pytest, timm, torch
from fastai.callback.core import Callback
from torch import nn
from safetensors.torch import load_file
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from fundus_fastai.cli import main
from fundus_fastai.core import DataError, EyeError, ModelError, read_json, write_json
from fundus_fastai.options import DataOptions, TrainOptions
from fundus_fastai.run.train import train_run
from fundus_fastai.score.kinds import read_predictions
from fundus_fastai.score.metrics import best_threshold
from fundus_fastai.vision import learner, probe, steps
from fundus_fastai.vision.learner import KeepNorm, one_cycle_plan, readout_split
from fundus_fastai.vision.model import load_model, save_model
from fundus_fastai.vision.probe import cross_fitted
from fundus_fastai.vision.steps import load_frame, make_learner, split_frame

def twins(n=60, copies=2, d=300, seed=0):
    "Noise, each person photographed `copies` times, nearly the same: whoever meets one of them knows the other"
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n,d)).repeat(copies, 0)+.01*rng.normal(size=(n*copies,d))
    return x, rng.integers(0, 2, n).repeat(copies), np.arange(n).repeat(copies)

@pytest.mark.parametrize('how', ['class','label'])
def test_no_row_is_read_by_whoever_met_its_patient(how):
    x,y,who = twins()
    z = cross_fitted(x, [(how,y,.1)], who, k=2)
    assert abs(roc_auc_score(y, z[:,-1])-.5)<.15
    assert roc_auc_score(y, cross_fitted(x, [(how,y,.1)], np.arange(len(x)), k=2)[:,-1])>.95 # the twin tells

def test_patients_on_both_sides_of_a_given_split_are_left_out_as_well():
    "Rows of a patient need not lie together"
    x,y,who = twins()
    lot = np.random.default_rng(1).permutation(len(x))
    z = cross_fitted(x[lot], [('class',y[lot],.1)], who[lot], k=2)
    assert abs(roc_auc_score(y[lot], z[:,1])-.5)<.15

@pytest.mark.parametrize('people', [2, 3, 7])
def test_few_patients(people):
    x,y,who = twins(people)
    assert np.isfinite(cross_fitted(x, [('class',y,.1), ('quantity',y*1.,.1)], who, k=2)).all()

def test_a_class_that_a_fold_lacks_is_unlikely_and_not_impossible():
    x,y,who = twins(40)
    z = cross_fitted(x, [('class',np.where(who==3, 2, y),.1)], who, k=3)
    p = np.exp(z)/np.exp(z).sum(1, keepdims=True)
    assert (p[who==3,2]<.05).all() and (p[who==3,2]>1e-4).all()

def test_thresholds_of_a_run_are_those_of_validation_csv(tmp_path):
    opts = TrainOptions('test_efficientnet', weights='none', size=32, fit='readout', workers=0)
    train_run('anomaly', DataOptions(patients=30), opts, out=tmp_path/'r', maps=0)
    v,m = read_predictions(tmp_path/'r/validation.csv'),read_json(tmp_path/'r/metrics.json')
    assert v.patient.nunique()>20 # those of training, too
    for o in m['operating_points']:
        y = (v.target==o['question']).to_numpy()
        assert o['threshold']==pytest.approx(best_threshold(y, v[f"p_{o['question']}"].to_numpy(), (o['goal'],o['at_least'])))
    page = (tmp_path/'r/report.html').read_text()
    assert page.count('each read by a readout that was fitted without its patient')==2
    assert 'chose the penalty, then taught the net too' in page and 'chose epoch' not in page

# readout first, then tuning from it

NET = 'test_efficientnet'

@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    "Random weights of the tiny net, as a file: of such a net there is something to read out"
    torch.manual_seed(0)
    f = tmp_path_factory.mktemp('weights')/'w.pth'
    torch.save(timm.create_model(NET).state_dict(), f)
    return f

def auto(weights, **kwargs): return TrainOptions(NET, weights=weights, size=32, bs=8, workers=0, **{'epochs':2, 'lr':.02, **kwargs})
def trained(opts, out, task='oct', patients=24, **kwargs): return train_run(task, DataOptions(patients=patients), opts, out=out, maps=0, **kwargs)
def tensors(run): return load_file(run/'model.safetensors')

@pytest.fixture(scope='module')
def read_out(weights, tmp_path_factory):
    "A run of the readout alone"
    out = tmp_path_factory.mktemp('readout')/'r'
    trained(auto(weights, fit='readout'), out)
    return out

def test_tuning_begins_at_the_readouts_score(weights):
    df = split_frame(load_frame('oct', patients=24))
    learn = make_learner(df, 'oct', auto(weights, fit='auto'))
    learn.fit_probe()
    own = learn.measured()
    learn.splitter = readout_split
    groups = learn.splitter(learn.model)
    assert len(groups)>=5 and {id(p) for o in groups for p in o}=={id(p) for p in learn.model.parameters()}
    with learn.no_bar(), learn.no_logging():
        hist = learn.fit_eye(one_cycle_plan(1, 0, 1e-30), to_beat=own['valid_loss'], cbs=KeepNorm())
    assert hist.valid_loss[0]==pytest.approx(own['valid_loss'], abs=1e-6)

def test_what_does_not_gain_is_the_readout_itself(weights, read_out, tmp_path):
    "A rate at which nothing is learned: the model is, tensor by tensor, that of `fit='readout'`"
    trained(auto(weights, lr=1e-30), tmp_path/'a')
    a,b = tensors(tmp_path/'a'),tensors(read_out)
    assert a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    told = read_json(tmp_path/'a/config.json')['training']
    assert told['fit']=='auto' and told['kept']['kept']=='readout' and told['epochs']==2
    assert told['kept']['readout']['valid_loss']<=told['kept']['tuned']['valid_loss']
    assert 'did not clearly gain by tuning' in (tmp_path/'a/report.html').read_text()

def test_what_gains_is_kept(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(learner, '_gained', lambda own, best, gain, se: gain>0) # of six patients nothing is clear
    trained(auto(weights, epochs=4), tmp_path/'a')
    kept,h = read_json(tmp_path/'a/config.json')['training']['kept'],pd.read_csv(tmp_path/'a/history.csv')
    assert h.stage.tolist()==['readout']+['tuned']*4 and h.epoch.tolist()==list(range(5))
    assert kept['kept']=='tuned' and kept['tuned']['valid_loss']==pytest.approx(h.valid_loss.min()) and h.valid_loss.idxmin()>0
    assert kept['readout']['valid_loss']==pytest.approx(h.valid_loss[0])
    page = (tmp_path/'a/report.html').read_text()
    assert 'Kept is the tuned net' in page and f"{kept['readout']['valid_loss']:.4g}" in page
    v = read_predictions(tmp_path/'a/validation.csv')
    assert v.patient.nunique()<12 # validation patients alone: the readout is not fitted again
    net,frozen = tensors(tmp_path/'a'),torch.load(weights)
    assert not torch.equal(net['0.body.model.conv_stem.weight'], frozen['conv_stem.weight'])

def test_clearly_means_standard_errors(monkeypatch):
    "By `CLEARLY` of them, and never at the price of the AUC"
    own,best = dict(auc=.9),dict(auc=.9)
    assert learner._gained(own, best, 1.1, 1.) and not learner._gained(own, best, .9, 1.) and not learner._gained(own, dict(auc=.8), 9., 1.)
    monkeypatch.setattr(learner, 'CLEARLY', 2.)
    assert not learner._gained(own, best, 1.1, 1.) and learner._gained(own, best, 2.1, 1.)

def test_a_gain_within_its_error_is_none(weights, read_out, tmp_path, monkeypatch, light):
    "Epochs below the readout's loss, and yet not clearly: the model is that of `fit='readout'`, resumed or not"
    monkeypatch.setattr(learner, 'CLEARLY', 1e6)
    opts = auto(weights, epochs=4)
    trained(opts, tmp_path/'a')
    with monkeypatch.context() as m:
        m.setattr(steps, 'TerminalProgress', Unplugged)
        with pytest.raises(KeyboardInterrupt): trained(opts, tmp_path/'c')
    trained(opts, tmp_path/'c', resume=True)
    kept = read_json(tmp_path/'a/config.json')['training']['kept']
    assert kept['kept']=='readout' and 0<kept['gain']<1e6*kept['se'] and kept['tuned']['valid_loss']<kept['readout']['valid_loss']
    a,b = tensors(tmp_path/'a'),tensors(read_out)
    assert a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    for f in ('model.safetensors','predictions.csv','metrics.json'): assert (tmp_path/'a'/f).read_bytes()==(tmp_path/'c'/f).read_bytes(), f

def test_stopped_and_resumed_it_ends_as_if_it_had_not_been(weights, tmp_path, monkeypatch, light):
    monkeypatch.setattr(learner, '_gained', lambda own, best, gain, se: gain>0) # so that the tuned net is kept
    opts = auto(weights, epochs=3)
    trained(opts, tmp_path/'a')
    with monkeypatch.context() as m:
        m.setattr(steps, 'TerminalProgress', Unplugged)
        with pytest.raises(KeyboardInterrupt): trained(opts, tmp_path/'b')
    with pytest.raises(ModelError, match="`fit='readout'`"): trained(auto(weights, fit='readout'), tmp_path/'b', resume=True)
    trained(opts, tmp_path/'b', resume=True)
    for f in ('model.safetensors','predictions.csv','metrics.json'): assert (tmp_path/'a'/f).read_bytes()==(tmp_path/'b'/f).read_bytes(), f
    a,b = (pd.read_csv(tmp_path/o/'history.csv').drop(columns='seconds') for o in 'ab')
    pd.testing.assert_frame_equal(a, b)

class Unplugged(Callback):
    order = 70
    def after_epoch(self):
        if self.epoch==1: raise KeyboardInterrupt

@pytest.mark.parametrize('task', ['age','diseases','dr','anomaly'])
def test_every_kind_of_answer(weights, tmp_path, task, light):
    trained(auto(weights, epochs=1), tmp_path/'r', task)
    kept = read_json(tmp_path/'r/config.json')['training']['kept']
    assert kept['kept'] in ('readout','tuned') and np.isfinite(kept['readout']['valid_loss'])

def test_validation_of_one_class(weights, tmp_path):
    "Of one class there is no AUC: the loss decides, and nothing dies"
    df = load_frame('oct', patients=24)
    one = df[df.label=='NORMAL'].patient.unique()[:2]
    df = df.assign(split=np.where(df.patient.isin(one), 'valid', 'train'))
    learn = make_learner(df, 'oct', auto(weights, fit='auto', epochs=1))
    h = steps.fit_run(learn, tmp_path, auto(weights, fit='auto', epochs=1))
    assert len(h)==2 and not any('auc' in k for k in learn.kept['readout']) and np.isfinite(h.valid_loss).all()

def test_a_net_with_nothing_to_listen_to_is_tuned(weights, tmp_path, monkeypatch, capsys, light):
    def none(*_, **__): raise ModelError("this net has no repeated blocks to listen to: choose `fit='tune'`")
    monkeypatch.setattr(probe, 'find_blocks', none)
    trained(auto(weights, epochs=1), tmp_path/'r')
    assert 'tuned without a readout' in capsys.readouterr().err and 'taps' not in read_json(tmp_path/'r/config.json')
    with pytest.raises(ModelError, match='no repeated blocks'): trained(auto(weights, fit='readout'), tmp_path/'s')

# --- where in the picture

def patches(n=48):
    "Noise with a gray patch at the left or at the right: what is to be seen is the same"
    rng = np.random.default_rng(0)
    for i in range(n):
        im,x,y = rng.integers(20, 130, (64,64), np.uint8),8+32*(i%2)+rng.integers(0, 8),rng.integers(8, 40)
        im[y:y+16,x:x+16] = 140
        yield dict(path=im, patient=str(i), label='right' if i%2 else 'left', split=('train','train','train','valid','test')[i//2%5])

def hearing(how, **kw): return TrainOptions('test_resnet', weights='none', size=64, fit='readout', readout=how, workers=0, **kw)

def listener(how, df):
    torch.manual_seed(0)
    learn = make_learner(df, 'oct', hearing(how))
    learn.fit_probe()
    return learn

def test_a_readout_of_places_knows_where(tmp_path):
    df,at = pd.DataFrame(patches()),{}
    new = df[df.split!='train'].reset_index(drop=True)
    for how in ('blocks','places'):
        learn = listener(how, df)
        at[how] = roc_auc_score(new.label=='right', learn.predict_frame(new).p_right)
        cfg = read_json(save_model(learn, tmp_path/how)/'config.json')
        assert (cfg['format'],cfg.get('places'))==((3,2) if how=='places' else (2,None))
    assert at['places']>.99 and at['blocks']<.95, at

@pytest.fixture(scope='module')
def placed(tmp_path_factory):
    "A run that hears places, of files"
    d,rows = tmp_path_factory.mktemp('placed'),pd.DataFrame(patches(30))
    for i,im in enumerate(rows.path): cv2.imwrite(str(d/f'{i}.png'), im)
    rows.assign(path=[f'{i}.png' for i in range(len(rows))]).drop(columns='split').to_csv(d/'labels.csv', index=False)
    train_run('oct', DataOptions(str(d/'labels.csv')), hearing('places'), out=d/'run', maps=0)
    return d

def test_places_are_saved_loaded_and_explained(placed, tmp_path):
    run,cfg = placed/'run',read_json(placed/'run/config.json')
    assert cfg['places']==2 and cfg['training']['readout']=='places'
    assert 'hears the last block in 2 x 2 places' in (run/'report.html').read_text()
    assert main(['evaluate', str(run), '--data', str(placed/'labels.csv'), '--out', str(tmp_path/'e')])==0
    assert read_json(tmp_path/'e/metrics.json')['metrics']['auc']['value']>.95
    assert main(['predict', str(run), str(placed/'0.png'), str(placed/'1.png'), '--out', str(tmp_path/'p.csv')])==0
    p = pd.read_csv(tmp_path/'p.csv')
    assert p.p_left[0]>.5>p.p_left[1]
    assert main(['explain', str(run), str(placed/'0.png'), '--out', str(tmp_path/'x'), '--method', 'grad_cam'])==0
    assert len(pd.read_csv(tmp_path/'x/maps.csv'))==1

def test_a_changed_number_of_places_is_noticed(placed, tmp_path):
    for bad,says in ((3,'different things about places'), (40,'no usable places'), (None,'no usable places')):
        run = copytree(placed/'run', tmp_path/str(bad))
        write_json(run/'config.json', read_json(run/'config.json')|dict(places=bad))
        with pytest.raises(ModelError, match=says): load_model(run)

def test_who_has_no_places_is_told(tmp_path):
    opts = hearing('places').but(arch='test_vit', size=160)
    with pytest.raises(ModelError, match="no map that has places: choose `readout='blocks'`"): trained(opts, tmp_path/'r')
    with pytest.raises(DataError, match="is for `fit='readout'`"): TrainOptions(fit='tune', readout='places')
    with pytest.raises(EyeError, match='places'): TrainOptions(readout='place')
    assert TrainOptions(weights='none', readout='places').settled().fit=='readout'

@pytest.mark.parametrize('k', [2,3])
def test_weights_give_the_probabilities_of_scikit_learn(k):
    "Of few and many; a class that training lacks is next to impossible, and the only one there nearly sure"
    rng = np.random.default_rng(k)
    x = rng.normal(size=(90,6))
    y = np.minimum((x[:,0]+rng.normal(size=90)>.9).astype(int)+(x[:,1]>1)*1, k-1)
    def told(y, k):
        w,b = probe._classes(x, y, .5, k)
        return softmax(x@w.T+b, 1)
    want = LogisticRegression(C=.5*10/6, max_iter=300, tol=1e-3).fit(x, y).predict_proba(x)
    assert .1<(y==0).mean()<.9 and np.allclose(told(y, k), want, atol=1e-6)
    lacks = told(2*(y>0), 3)
    assert np.allclose(lacks[:,[0,2]]/(1-lacks[:,1:2]), LogisticRegression(C=.5*10/6, max_iter=300, tol=1e-3).fit(x, y>0).predict_proba(x), atol=1e-6)
    assert lacks[:,1].max()<1/90 and (told(0*y+1, k)[:,1]>.97).all()
    w,b = probe._label(x, y>0, .5)
    assert w.shape==(1,6) and b.shape==(1,) and np.allclose(expit(x@w.T+b)[:,0], lacks[:,2]/(1-lacks[:,1]), atol=1e-6)

def test_a_number_is_read_by_a_ridge_regression():
    "In closed form; its penalty is a share of the features' total variance"
    rng = np.random.default_rng(0)
    x,a = rng.normal(size=(50,4)),10.
    y = x@[1,2,0,-1]+rng.normal(size=50)+60
    z = x-x.mean(0)
    want = np.linalg.solve(z.T@z+a*50*4/100*np.eye(4), z.T@(y-y.mean()))
    w,b = probe._number(x, y, a)
    assert np.allclose(w, want) and np.allclose(b, y.mean()-x.mean(0)@want)

def test_a_gain_by_patients():
    "Of one image each as the mean's standard error; of several, as a regression with clusters has it"
    from fundus_fastai.vision.learner import paired_gain
    rng = np.random.default_rng(0)
    old,new = rng.random((2,40))
    gain,se = paired_gain(old, new, np.arange(40))
    assert gain==pytest.approx((old-new).mean()) and se==pytest.approx((old-new).std(ddof=1)/40**.5)
    who = np.repeat(np.arange(8), [1,9,4,6,5,5,2,8])
    gain,se = paired_gain(old, new, who)
    sums = [((old-new)[who==k]-gain).sum() for k in range(8)]
    assert gain==pytest.approx((old-new).mean()) and se==pytest.approx((8/7*np.square(sums).sum())**.5/40)

@pytest.mark.parametrize('gain,auc,won', [(.11,.8,True), (.09,.8,False), (.11,.79,False), (.11,None,True), (-.2,.9,False)])
def test_what_is_clearly_better(gain, auc, won):
    own,best = (dict(valid_loss=1.)|({} if o is None else dict(auc=o)) for o in (auc and .8,auc))
    assert learner._gained(own, best, gain, .1)==won and not learner._gained(own, best, gain, np.nan)

class Odd(nn.Module):
    "Blocks of one kind: two that run, one that does not, one that runs twice, one that cuts pictures into pieces"
    def __init__(self):
        super().__init__()
        self.a,self.b,self.idle,self.twice,self.cut = (self.Block(1 if k<4 else 2) for k in range(5))
    class Block(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.conv,self.n = nn.Conv2d(3, 3, 1),n
        def forward(self, x): return torch.cat([self.conv(x)]*self.n)
    def forward(self, x):
        self.cut(x)
        return self.twice(self.twice(self.b(self.a(x))))

def test_only_blocks_that_see_each_picture_once_are_listened_to():
    m = nn.Sequential(Odd(), nn.Identity())
    assert probe.linear_probe(m, 2, size=8)[0].names==['a','b']
    assert len(probe.find_blocks(m[0]))==5 and not any(o._forward_hooks for k,o in m[0].named_modules() if k not in ('a','b'))

def test_one_patient_is_no_clear_gain():
    "Its standard error had been 0, and a tuned net was kept for the smallest gain"
    from fundus_fastai.vision.learner import CLEARLY, paired_gain
    gain,se = paired_gain(np.array([.9,.8]), np.array([.8,.7]), ['a','a'])
    assert gain==pytest.approx(.1) and np.isnan(se) and not gain>CLEARLY*se
