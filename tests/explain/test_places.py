"Heads that show their places: trained, saved and loaded like any, and their map is the answer taken apart"
import numpy as np, pytest, torch
from fundus_fastai.cli import as_flags
from fundus_fastai.core import DataError, EyeError, ModelError
from fundus_fastai.vision.learner import EvidenceHead, PlacesBody, blank_net, eye_learner, find_net, one_cycle_plan
from fundus_fastai.vision.model import load_model, save_model
from fundus_fastai.vision.outputs import NumberOutput
from fundus_fastai.vision.data import eye_dls
from fundus_fastai.explain.attribution import compare_methods, evidence
from fundus_fastai.explain.sparse import SparseMaps
from nets import frame, noise_dls, tiny

torch.set_num_threads(1)

def learner(head, dls=None, **kwargs):
    torch.manual_seed(0)
    return eye_learner(dls or noise_dls(), tiny, weights=None, head=head, **kwargs)

@pytest.mark.newest
@pytest.mark.parametrize('head', ['attention','evidence'])
def test_train_save_load_and_show(tmp_path, head):
    learn = learner(head)
    with learn.no_bar(), learn.no_logging(): hist = learn.fit_eye(one_cycle_plan(1, lr=1e-3, pretrained=False), 1, tmp_path/'c', cbs=SparseMaps(.01, start=0))
    assert hist.map_size[0]>0
    save_model(learn, tmp_path/'run', 'oct')
    again,df = load_model(tmp_path/'run'),frame()
    assert np.array_equal(again.predict_frame(df).filter(like='p_'), learn.predict_frame(df).filter(like='p_'))
    e = again.evidence(df[:3], 'evidence')
    x = torch.cat([b[0] for b in again.dls.test_dl(df[:3])])
    with torch.no_grad(): s,places = again.model(x),again.model[1].places(again.model[0](x))
    assert e.map.shape==(3,2,32,32) and torch.allclose(e.baseline, s, atol=1e-5)
    assert torch.allclose(places.sum((2,3))+again.model[1].say.bias, s, atol=1e-5) # faithful by construction
    assert torch.allclose(e.map.sum((2,3)), places.sum((2,3)), atol=.1*float(places.abs().sum((2,3)).max()))

def test_a_number_is_taken_apart_in_its_own_unit():
    df = frame().assign(label=np.linspace(40, 70, 12))
    answer = NumberOutput.learn(df)
    learn = learner('evidence', eye_dls(df, size=32, bs=4, workers=0, output=answer))
    e = learn.evidence(df[:2], 'evidence')
    x = torch.cat([b[0] for b in learn.dls.test_dl(df[:2])])
    with torch.no_grad(): raw = evidence(learn.model, x, 'evidence', norm=(0,1)).map
    assert e.output=='age' and torch.allclose(e.map, raw*answer.spread, atol=1e-4)

def test_a_probability_counts_by_its_slope():
    learn = learner('attention')
    x = learn.dls.one_batch()[0][:2]
    p,s = (evidence(learn, x, 'evidence', output=o) for o in ('prob','logit'))
    slope = (p.baseline[:,0]*p.baseline[:,1]).view(-1,1,1)
    assert torch.allclose(p.map[:,0], slope*(s.map[:,0]-s.map[:,1]), atol=1e-6)

def test_nothing_stays_behind_and_other_nets_say_so():
    learn = learner('attention')
    x = learn.dls.one_batch()[0][:1]
    evidence(learn, x, 'evidence')
    assert not any(m._forward_hooks for m in learn.model.modules()) and all(p.grad is None for p in learn.model.parameters())
    with pytest.raises(ModelError, match='no sums over places') as e: evidence(eye_learner(noise_dls(), tiny, None), x, 'evidence')
    assert 'head=' in (said := as_flags(e.value)) and '--head' not in said # which `fundus train` does not have
    with pytest.raises(EyeError, match='did you mean evidence'): evidence(learn, x, 'evidense')

def test_compared_beside_the_others():
    learn = learner('evidence')
    x,fast = learn.dls.one_batch()[0][:1],dict(occlusion=dict(window=16, stride=16), integrated_gradients=dict(steps=2))
    titles = lambda n: [o.get_title() for o in compare_methods(n, x, 0, options=fast)]
    assert titles(learn)[-1]=='evidence' and 'evidence' not in titles(eye_learner(noise_dls(), tiny, None))

@pytest.mark.parametrize('arch, stride, width, side', [('resnet50',16,1024,14),('resnet50',8,512,28),('inception_v3',16,768,12),('convnext_atto',16,160,14),
                                                       ('vit_tiny_patch16_224',16,192,14),('swin_tiny_patch4_window7_224',8,192,28),('squeezenet1_1',16,512,13)])
def test_any_body(arch, stride, width, side):
    m = blank_net(find_net(arch), 3, dict(head='attention', stride=stride))
    x = torch.zeros(2, 3, 224, 224, device='meta')
    assert m[0](x).shape==(2,width,side,side) and m(x).shape==(2,3) and isinstance(m[1], EvidenceHead)

def test_a_body_of_a_file_is_honored(tmp_path):
    usual = eye_learner(noise_dls(), tiny, weights=None)
    save_model(usual, tmp_path/'run', 'oct')
    learn = learner('evidence')
    learn = eye_learner(noise_dls(), tiny, weights=tmp_path/'run', head='evidence')
    a,b = usual.model[0].state_dict(),learn.model[0].state_dict()
    assert a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a) and isinstance(learn.model[0], PlacesBody)
    assert not any(p.requires_grad for p in learn.model[0].parameters() if p.ndim>1) and len(learn.splitter(learn.model))>3

def test_old_runs_have_no_such_word(tmp_path):
    learn = eye_learner(noise_dls(), tiny, weights=None)
    assert {'head','stride'}.isdisjoint(learn.config['head'])
    save_model(learn, tmp_path/'run', 'oct')
    assert load_model(tmp_path/'run').config['head']==learn.config['head']

def test_what_cannot_be():
    with pytest.raises(DataError, match='exclude each other'): learner('evidence', probe=True)
    with pytest.raises(EyeError, match='attention'): learner('atention')
    with pytest.raises(DataError, match='a place for 2 pixels'): learner('evidence', stride=1)
