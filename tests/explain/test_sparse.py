"Trained maps: the two engines, what a penalty must not depend on, kill and resume, the choice of nu"
import numpy as np, pandas as pd, pytest, timm, torch
from fastai.callback.core import Callback
from safetensors.torch import load_file
from torch import nn
from types import SimpleNamespace
from torch.nn import functional as F
from fundus_fastai.core import DataError, ModelError
from fundus_fastai.score.kinds import CATEGORY
from fundus_fastai.explain.sparse import SparseMaps, asked_score, exact_size, in_squares, size_by_difference, worse_by
from fundus_fastai.vision.learner import eye_learner, one_cycle_plan
from nets import noise_dls, tiny

torch.set_num_threads(1)
PLAN = [dict(o, keep='last') for o in one_cycle_plan(2, lr=1e-3, pretrained=False)]

class Hard(nn.Module):
    "What torch has no second derivative of"
    def forward(self, x): return F.hardsigmoid(x)

def learner(act=nn.GELU, **kwargs):
    "A learner with a net that is small, but has what others have: batch normalization, dropout, body and head"
    torch.manual_seed(0)
    learn = eye_learner(noise_dls(n=18), tiny, weights=None, **kwargs)
    body = nn.Sequential(nn.Conv2d(3, 16, 5, 2), nn.BatchNorm2d(16), act(), nn.Conv2d(16, 16, 3, 2), nn.BatchNorm2d(16), act())
    learn.model = nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(.2), nn.Linear(16, 2)))
    return learn

def fit(learn, nu=None, plan=PLAN, cbs=(), **kwargs):
    own = [] if nu is None else [SparseMaps(nu, start=0, rise=.5)]
    with learn.no_bar(), learn.no_logging(): return learn.fit_eye(plan, 1, cbs=[*own, *cbs], **kwargs)

def weights(learn): return [v.clone() for v in learn.model.state_dict().values()]

def alike(a, b): return all(torch.equal(x, y) for x,y in zip(a, b, strict=True))

class Smooth(nn.Module):
    "A small net without a kink"
    def __init__(self):
        super().__init__()
        self.a,self.b,self.c = nn.Conv2d(3, 8, 5, 2),nn.Conv2d(8, 8, 3, 2),nn.Conv2d(8, 3, 3)
    def forward(self, x): return self.c(F.gelu(self.b(F.gelu(self.a(x))))).mean((2,3))

@pytest.mark.parametrize('seed', range(3))
def test_difference_is_the_exact_gradient_on_a_smooth_net(seed):
    torch.manual_seed(seed)
    net,x,y = Smooth(),torch.randn(5,3,32,32),torch.tensor([0,1,2,0,1])
    score = lambda x: asked_score(net(x), y.repeat(len(x)//5), CATEGORY)
    one,two = (f(score, x, x+2, pool=4, eps=.02) for f in (exact_size,size_by_difference))
    a,b = (torch.cat([g.flatten() for g in torch.autograd.grad(r, net.parameters(), allow_unused=True, materialize_grads=True)]) for r in (one,two))
    assert F.cosine_similarity(a, b, dim=0)>.99 and .95<a.norm()/b.norm()<1.05 and float(two.detach())==pytest.approx(float(one.detach()), rel=.02)

def test_exact_size_is_what_a_loop_finds():
    "By brightening each square of each image a little, all channels by one factor"
    torch.manual_seed(0)
    net,x,y = Smooth().double(),torch.randn(2,3,24,24).double(),torch.tensor([0,2])
    raw,size = x+2,0.
    score = lambda x: asked_score(net(x), y, CATEGORY)
    with torch.no_grad():
        for i in range(0, 24, 8):
            for j in range(0, 24, 8):
                v = torch.zeros_like(x)
                v[:,:,i:i+8,j:j+8] = 1e-5*raw[:,:,i:i+8,j:j+8]
                size += ((score(x+v)-score(x-v))/2e-5).abs().mean()
    assert float(exact_size(score, x, raw, pool=8).detach())==pytest.approx(float(size), rel=1e-5)

def test_squares_sum_before_they_are_counted():
    lattice = torch.tensor([[1.,-1.]*5]*6)[None]
    assert in_squares(lattice, 2).abs().sum()==0 and in_squares(lattice, 1).abs().sum()==60
    assert in_squares(torch.ones(1,7,9), 4).sum()==63 # the ends too

# --- what training with it must and must not change

def test_nothing_asked_is_nothing_changed():
    plain,zero,taught = learner(),learner(),learner()
    a,b,c = fit(plain),fit(zero, 0),fit(taught, .1)
    assert alike(weights(plain), weights(zero)) and not alike(weights(plain), weights(taught))
    assert a.valid_loss.tolist()==b.valid_loss.tolist()
    assert list(b)[-3:]==['nu','map_size','seconds'] and (b.nu==0).all() and (b.map_size>0).all()
    assert c.nu.is_monotonic_increasing and c.nu.iloc[-1]==.1 and c.map_size.iloc[-1]<b.map_size.iloc[-1]

@pytest.mark.parametrize('engine', ['exact','difference'])
def test_the_whole_batch_counts_in_any_order(engine):
    learn = learner()
    fit(learn)
    cb = SparseMaps(.1, engine)
    cb.learn = learn
    learn.model.train()
    x,y = learn.dls.one_batch()
    stats = weights(learn)
    sizes = [float(cb.size(x[o], y[o]).detach()) for o in (torch.arange(4),torch.tensor([3,1,0,2]),torch.tensor([1,0,3,2]))]
    each = [float(cb.size(x[i:i+1], y[i:i+1]).detach()) for i in range(4)]
    assert sizes==pytest.approx([np.mean(each)]*3, rel=1e-3) and np.std(each)>1e-3*np.mean(each)
    assert learn.model.training and alike(stats, weights(learn)) # batch normalization has learned nothing from it

def test_only_the_last_stage_pays():
    plan = [dict(one_cycle_plan(1, pretrained=False)[0], name='first'),PLAN[0]]
    h = fit(learner(), .1, plan)
    assert h.nu[0]==0<h.nu[1]

@pytest.mark.parametrize('keep,nu,said', [('best',.1,1),('last',.1,0),('best',0,0)])
def test_it_says_that_an_epoch_from_before_may_be_kept(keep, nu, said, capsys):
    first = dict(one_cycle_plan(1, pretrained=False)[0], name='first')
    fit(learner(), nu, [first,dict(PLAN[0], keep=keep)])
    assert capsys.readouterr().err.count("`keep='last'`")==said

def test_every_second_batch_pays_for_two():
    seen = []
    class Look(Callback):
        order = 9.5
        def after_loss(self):
            if not self.training: return
            seen.append(float(self.learn.loss_grad.detach()-self.learn.loss.detach()))
            if seen[-1]: paid.append(float(2*.1*maps.seen[-1]))
    learn,maps,paid = learner(),SparseMaps(.1, start=0, rise=1e-9, every=2),[]
    with learn.no_bar(), learn.no_logging(): h = learn.fit_eye(PLAN, 1, cbs=[maps,Look()])
    assert [o for o in seen if o]==pytest.approx(paid, rel=1e-3) and h.map_size.iloc[-1]==pytest.approx(np.mean(paid[-2:])/.2, rel=1e-3)
    assert seen[1]==seen[4]==0 and seen[2]>0 and len(seen)==6 # three batches an epoch

@pytest.mark.parametrize('done,share', [(0,0), (1.9,0), (2.25,.1464466), (2.5,.5), (3,1), (3.9,1)])
def test_the_price_rises_in_a_quarter_of_the_stage(done, share):
    "From its middle on, by half a wave of a cosine"
    cb = SparseMaps(.1)
    cb.learn = SimpleNamespace(epoch=int(done), iter=round(done%1*20), n_iter=20, n_epoch=4)
    assert cb.strength()==pytest.approx(.1*share)

@pytest.mark.filterwarnings('ignore')
def test_beside_half_digits_it_has_all_of_its_own():
    full,mixed = learner(precision='full'),learner(precision='mixed')
    a,b = fit(full, .1),fit(mixed, .1)
    assert b.map_size[0]==pytest.approx(a.map_size[0], rel=.1) and np.isfinite(b.valid_loss).all()
    cb = SparseMaps(.1, 'exact'); cb.learn = full
    x,y = full.dls.one_batch()
    want = cb.size(x, y)
    with torch.autocast('cpu', torch.bfloat16): assert torch.equal(cb.size(x, y), want) and want.dtype==torch.float32

# --- nets without a second derivative

def test_a_net_without_second_derivative_takes_the_other_engine(capsys):
    learn = learner(Hard)
    h = fit(learn, .05)
    err = capsys.readouterr().err
    assert 'hardsigmoid_backward of this net has no second derivative' in err and 'the difference engine' in err and (h.map_size!=0).all()

def test_who_insists_is_told_the_operation():
    learn = learner(Hard)
    with pytest.raises(ModelError, match="hardsigmoid_backward of this net has no second derivative: pass `engine='difference'`"):
        fit(learn, cbs=[SparseMaps(.1, 'exact', start=0)])


def test_a_vision_transformer_takes_the_other_engine():
    torch.manual_seed(0)
    learn = learner()
    learn.model = timm.create_model('vit_tiny_patch16_224', img_size=32, depth=1, embed_dim=24, num_heads=2, num_classes=2)
    cb = SparseMaps(.1); cb.learn = learn
    x,y = learn.dls.one_batch()
    cb.settle(x, y)
    assert cb.engine=='difference' and float(cb.size(x, y).detach())>0

def test_a_readout_keeps_its_body():
    learn = eye_learner(noise_dls(), tiny, weights=None, probe=True)
    with pytest.raises(DataError, match="fit='tune'"), learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=SparseMaps(.1))
    other = SparseMaps()
    other.learn = SimpleNamespace()
    with pytest.raises(DataError, match='a learner of `eye_learner`'): other.before_fit()

@pytest.mark.parametrize('bad', [dict(nu=-1),dict(nu=float('nan')),dict(pool=0),dict(pool=2.5),dict(every=0),dict(start=1),dict(rise=0),dict(eps=0),
                                 dict(start=.9)]) # a stage that ends before `nu` is reached
def test_options_that_cannot_be(bad):
    with pytest.raises(DataError, match=f"`{next(iter(bad))}[`=]"): SparseMaps(**bad)

# --- stopped and resumed, and the choice

class PullThePlug(Callback):
    "Ctrl-C in the second epoch, of the `nu` given"
    def __init__(self, nu): self.nu = nu
    def after_batch(self):
        if self.training and self.epoch==1 and self.learn.sparse_maps.nu==self.nu: raise KeyboardInterrupt

@pytest.mark.newest
def test_kill_and_resume_to_the_byte(tmp_path):
    straight,broken,again = learner(),learner(),learner()
    a = fit(straight, .1, out=tmp_path/'a')
    with pytest.raises(KeyboardInterrupt): fit(broken, .1, out=tmp_path/'b', cbs=[PullThePlug(.1)])
    b = fit(again, .1, out=tmp_path/'b', resume=True)
    assert alike(weights(straight), weights(again)) and a.drop(columns='seconds').equals(b.drop(columns='seconds'))
    one,two = ((tmp_path/k/'best.safetensors').read_bytes() for k in 'ab')
    assert one==two

def test_the_last_epoch_is_kept_where_the_plan_says_so(tmp_path):
    "Also where validation liked none of them: a loss below 0 is not to be had"
    start,last,best = learner(),learner(),learner()
    fit(last, out=tmp_path, to_beat=-1.)
    fit(best, plan=[dict(PLAN[0], keep='best')], to_beat=-1.)
    state = load_file(tmp_path/'last.safetensors')
    assert all(torch.equal(v, state[f'model.{k}']) for k,v in last.model.state_dict().items())
    assert alike(weights(best), weights(start)) and not alike(weights(last), weights(start))

def choose(learn, nus=(.01,.1), **kwargs):
    with learn.no_bar(), learn.no_logging(): return learn.fit_sparse(PLAN, nus, 1, **kwargs)

def test_the_search_resumes_too(tmp_path):
    straight,broken,again = learner(),learner(),learner()
    a = choose(straight, worth=9, out=tmp_path/'a')
    with pytest.raises(KeyboardInterrupt): choose(broken, worth=9, out=tmp_path/'b', cbs=[PullThePlug(.1)])
    b = choose(again, worth=9, out=tmp_path/'b', resume=True)
    assert alike(weights(straight), weights(again)) and straight.sparse==again.sparse and a.drop(columns='seconds').equals(b.drop(columns='seconds'))
    assert straight.sparse['nu']==.1 and set(a.stage)=={'nu 0.01','nu 0.1'}

@pytest.mark.parametrize('aucs, nu, tries', [((.9,.899,.896,.5), .003, 3), ((.9,.91,.9,.897), .01, 3), ((.9,.8,.9,.9), 0, 1), ((.9,float('nan'),.9), 0, 1)])
def test_the_largest_that_validation_allows(monkeypatch, aucs, nu, tries):
    learn,told = learner(),iter(aucs)
    before = weights(learn)
    monkeypatch.setattr(type(learn), 'measured', lambda self: dict(valid_loss=1., auc=next(told)))
    monkeypatch.setattr(type(learn), 'fit_eye', lambda self, *args, cbs, **kw: (self.model[1][-1].weight.data.fill_(cbs[0].nu), pd.DataFrame(dict(stage=['x'], map_size=[1.])))[1])
    choose(learn, (.003,.001,.01)) # tried from the smallest on
    assert learn.sparse['nu']==nu and len(learn.sparse['tried'])==tries
    if nu: assert (learn.model[1][-1].weight==torch.tensor(nu)).all()
    else: assert alike(before, weights(learn))

def test_one_strength_or_none():
    "`nus=()` was pandas' No objects to concatenate, after a look at validation; a number was not iterable"
    learn = learner()
    with pytest.raises(DataError, match='no strengths to try'): learn.fit_sparse(PLAN, ())
    with learn.no_bar(), learn.no_logging(): learn.fit_sparse(PLAN, .001, worth=9)
    assert [o['nu'] for o in learn.sparse['tried']]==[.001]

def test_what_is_lost():
    assert worse_by(dict(valid_loss=1, mae=2.), dict(valid_loss=9, mae=2.01))==pytest.approx(.005)

# --- the nets of the founding systems

@pytest.mark.slow
@pytest.mark.parametrize('arch, side', [('inception_v3',299),('resnet50',224)])
def test_the_main_nets_take_a_step(arch, side):
    torch.manual_seed(0)
    learn = eye_learner(noise_dls(size=side, n=6), arch, weights=None)
    h = fit(learn, .01, [dict(PLAN[0], epochs=1)])
    assert np.isfinite(h.map_size).all()
